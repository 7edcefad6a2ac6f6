//! Telling systemd how the guard is (`sd_notify`).

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::report::report;

/// The environment variable in which systemd says where to.
const SOCKET_VARIABLE: &str = "NOTIFY_SOCKET";

/// Whether systemd waits for messages of this process.
pub(crate) fn is_wanted() -> bool {
    std::env::var_os(SOCKET_VARIABLE).is_some()
}

/// Sends a state, for example `READY=1`; without systemd nothing happens. Lost messages are systemd's matter:
/// the guard works on either way.
pub(crate) fn notify(state: &str) {
    let Some(name) = std::env::var_os(SOCKET_VARIABLE) else { return };
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest),
        path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path)),
    };
    let sent = address.and_then(|address| {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.send_to_addr(state.as_bytes(), &address)
    });
    if let Err(error) = sent {
        report!("systemd could not be told {state}: {error}");
    }
}
