//! The keys that secrets are encrypted with, in one file that only the agent's user can read, apart from the log and
//! the snapshots: who has those without this file has no value.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use muster_core::id::SecretKeyId;
use zeroize::Zeroizing;

use crate::seal::{SealError, SealingKey};
use crate::storage::{FileError, durable, keys};

const FILE: &str = "secrets";

/// Why the keyring can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The system refused a file operation.
    #[error(transparent)]
    File(#[from] FileError),
    /// It holds something else.
    #[error(
        "{} is damaged in line {line}: restore this file, or remove it if other members of the control plane run, \
         which have the same keys",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which line.
        line: usize,
    },
    /// A new key can't be made.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// The keys of this node. Cheap to clone.
#[derive(Clone)]
pub struct Keyring {
    path: PathBuf,
    keys: Arc<Mutex<BTreeMap<SecretKeyId, Entry>>>,
}

#[derive(Clone)]
struct Entry {
    key: Arc<SealingKey>,
    /// The state has named it: once it names it no longer, it is of no use.
    was_named: bool,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Keyring {
    /// Reads the keyring of a data directory; without a file it is empty.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn open(data_dir: &Path) -> Result<Self, KeyringError> {
        let path = keys::directory(data_dir).join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Zeroizing::default(),
            Err(error) => return Err(FileError::of("read", path)(error).into()),
        };
        let mut found = BTreeMap::new();
        for (at, line) in text.lines().enumerate() {
            let damaged = || KeyringError::Damaged { path: path.clone(), line: at + 1 };
            let key = keys::from_hex(line).ok_or_else(damaged)?;
            found.insert(SecretKeyId(key.fingerprint()), Entry { key: Arc::new(key), was_named: false });
        }
        Ok(Self { path, keys: Arc::new(Mutex::new(found)) })
    }

    /// A key.
    #[must_use]
    pub fn get(&self, id: SecretKeyId) -> Option<Arc<SealingKey>> {
        self.lock().get(&id).map(|entry| Arc::clone(&entry.key))
    }

    /// Makes a key, which is on the disk when this returns. `named` are the keys that the state names.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn make(&self, named: &[SecretKeyId]) -> Result<SecretKeyId, KeyringError> {
        let key = SealingKey::generate()?;
        let id = SecretKeyId(key.fingerprint());
        let mut keys = self.lock();
        // One that was made before and never offered to the others.
        keys.retain(|id, entry| entry.was_named || named.contains(id));
        keys.insert(id, Entry { key: Arc::new(key), was_named: false });
        self.write(&keys)?;
        Ok(id)
    }

    /// Takes over a key that another member gave.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn keep(&self, key: SealingKey) -> Result<(), KeyringError> {
        let mut keys = self.lock();
        let id = SecretKeyId(key.fingerprint());
        keys.entry(id).or_insert_with(|| Entry { key: Arc::new(key), was_named: true });
        self.write(&keys)
    }

    /// Forgets the keys that the state has named and names no longer. A key that it has not named yet is one that was
    /// just made, or the state is older than the file.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn follow(&self, named: &[SecretKeyId]) -> Result<(), KeyringError> {
        let mut keys = self.lock();
        for (id, entry) in keys.iter_mut() {
            entry.was_named |= named.contains(id);
        }
        let before = keys.len();
        keys.retain(|id, entry| named.contains(id) || !entry.was_named);
        if keys.len() == before { Ok(()) } else { self.write(&keys) }
    }

    fn write(&self, all: &BTreeMap<SecretKeyId, Entry>) -> Result<(), KeyringError> {
        keys::create_directory(&self.path)?;
        let mut text = Zeroizing::new(String::new());
        for entry in all.values() {
            keys::write_hex(&mut text, &entry.key);
            text.write_char('\n').expect("a string takes everything");
        }
        Ok(durable::replace_file(&self.path, text.as_bytes())?)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SecretKeyId, Entry>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_come_back_after_a_restart_and_only_their_user_may_read_them() {
        let directory = tempfile::tempdir().unwrap();
        let keyring = Keyring::open(directory.path()).unwrap();
        let id = keyring.make(&[]).unwrap();
        let again = Keyring::open(directory.path()).unwrap();
        assert_eq!(again.get(id).unwrap().bytes(), keyring.get(id).unwrap().bytes());
        let mode = std::fs::metadata(&keyring.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!format!("{keyring:?}").contains("SealingKey"));
    }

    #[test]
    fn a_key_is_forgotten_once_the_state_names_it_no_longer_and_not_before_it_did() {
        let directory = tempfile::tempdir().unwrap();
        let keyring = Keyring::open(directory.path()).unwrap();
        let first = keyring.make(&[]).unwrap();
        keyring.follow(&[]).unwrap();
        assert!(keyring.get(first).is_some(), "it was just made");
        keyring.follow(&[first]).unwrap();
        let second = keyring.make(&[]).unwrap();
        keyring.follow(&[first, second]).unwrap();
        keyring.follow(&[second]).unwrap();
        assert!(keyring.get(first).is_none() && keyring.get(second).is_some());
        assert!(Keyring::open(directory.path()).unwrap().get(first).is_none(), "it is still on the disk");
        let third = keyring.make(&[]).unwrap();
        let fourth = keyring.make(&[]).unwrap();
        assert!(keyring.get(third).is_none() && keyring.get(fourth).is_some(), "nobody heard of it");
    }

    #[test]
    fn a_key_in_use_outlives_a_new_one_made_right_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let used = Keyring::open(directory.path()).unwrap().make(&[]).unwrap();
        // Nobody has compared the file with the state yet.
        let keyring = Keyring::open(directory.path()).unwrap();
        keyring.make(&[used]).unwrap();
        assert!(keyring.get(used).is_some());
        assert!(Keyring::open(directory.path()).unwrap().get(used).is_some());
    }

    #[test]
    fn a_damaged_file_is_told_by_its_line() {
        let directory = tempfile::tempdir().unwrap();
        let keyring = Keyring::open(directory.path()).unwrap();
        keyring.make(&[]).unwrap();
        let text = std::fs::read_to_string(&keyring.path).unwrap() + "garbage\n";
        std::fs::write(&keyring.path, text).unwrap();
        assert!(matches!(Keyring::open(directory.path()), Err(KeyringError::Damaged { line: 2, .. })));
    }
}
