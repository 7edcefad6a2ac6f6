//! What is read from a connection at once.

use tokio::io::{AsyncRead, BufReader};

/// In bytes: a record of TLS. rustls by itself asks for 4 KiB, which is five calls of the kernel for what 64 clients
/// write at once.
const READ_AHEAD_BYTES: usize = 16 << 10;

/// The same connection, read a record at a time.
pub(crate) fn read_ahead<T: AsyncRead>(io: T) -> BufReader<T> {
    BufReader::with_capacity(READ_AHEAD_BYTES, io)
}
