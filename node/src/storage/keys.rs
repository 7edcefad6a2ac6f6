//! The files with keys, in a directory of their own below the data directory: what a backup of the rest must not
//! contain, so that it is of no use to who finds it.
//!
//! ```text
//! keys/storage    encrypts this node's snapshots
//! keys/secrets    the keys that secrets are encrypted with, on members of Raft
//! ```

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{FileError, durable};
use crate::seal::{KEY_BYTES, SealError, SealingKey};

const DIRECTORY: &str = "keys";
const STORAGE: &str = "storage";

/// Why the key of this node's storage can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The system refused a file operation.
    #[error(transparent)]
    File(#[from] FileError),
    /// A new key can't be made.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The file holds something else.
    #[error("{} is damaged: restore this file, or move the data directory away and join again as a new node", .0.display())]
    Damaged(PathBuf),
}

/// The directory of keys.
#[must_use]
pub fn directory(data_dir: &Path) -> PathBuf {
    data_dir.join(DIRECTORY)
}

/// Makes the directory of a file of keys.
pub(crate) fn create_directory(file: &Path) -> Result<(), FileError> {
    durable::create_directory(file.parent().unwrap_or(file))
}

/// The key of this node's storage, which is made when there is none.
///
/// # Errors
/// [`KeyError`].
pub fn storage_key(data_dir: &Path) -> Result<SealingKey, KeyError> {
    let path = directory(data_dir).join(STORAGE);
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let text = Zeroizing::new(text);
            from_hex(text.trim_end()).ok_or(KeyError::Damaged(path))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            create_directory(&path)?;
            let key = SealingKey::generate()?;
            let mut text = Zeroizing::new(String::new());
            write_hex(&mut text, &key);
            durable::replace_file(&path, text.as_bytes())?;
            Ok(key)
        }
        Err(error) => Err(FileError::of("read", path)(error).into()),
    }
}

pub(crate) fn write_hex(text: &mut String, key: &SealingKey) {
    // All at once: a string that grows leaves copies of itself in memory.
    text.reserve(2 * KEY_BYTES + 1);
    for byte in key.bytes() {
        write!(text, "{byte:02x}").expect("a string takes everything");
    }
}

pub(crate) fn from_hex(digits: &str) -> Option<SealingKey> {
    if digits.len() != 2 * KEY_BYTES || !digits.is_ascii() {
        return None;
    }
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    SealingKey::from_bytes(bytes.as_slice())
}
