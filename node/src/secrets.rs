//! Values that services may know and nobody may see.
//!
//! ```text
//!   operator ─ value ─▶ leader ─ sealed ─▶ log, state, snapshots        Keyring: one file on each member of Raft
//!                                             │ (never to workers)        ▲            │
//!   Keeper: fetches keys that the state names ┼───────────────────────────┘            │ opens
//!                                             ▼                                        ▼
//!   node that is to run the task ◀─ value, over mutual TLS ─ a member ─ judged by State::secrets_for
//! ```
//! **Architecture invariant:** a key is in the keyring's file, in members' memory and on connections between members,
//! and nowhere else; a value is on the wire, in the memory of members and of the node that starts the task.

pub mod fetch;
pub mod keeper;
pub mod keyring;

use muster_core::command::SealedValue;
use muster_core::id::{ClusterId, SecretKeyId, SecretName};
use muster_core::state::State;
use muster_core::state::secret::Secret;
use zeroize::Zeroizing;

pub use self::keyring::{Keyring, KeyringError};
use crate::seal::{SealError, SealingKey};

/// The largest value, in bytes.
pub const MAX_VALUE_BYTES: usize = 32 * 1024;

const PLACE: &[u8] = b"muster secret 1";

/// Why a value can't be read here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The cluster has not been made.
    #[error("there is no cluster yet")]
    NoCluster,
    /// This node has not fetched the key yet.
    #[error("this node does not have the key {0} yet")]
    NoKey(SecretKeyId),
    /// The encryption.
    #[error("secret {name}: {source}")]
    Seal {
        /// Which.
        name: SecretName,
        /// Why.
        source: SealError,
    },
}

/// What an encrypted value belongs to: moved under another name, key or cluster it can't be decrypted.
fn place(cluster: ClusterId, key: SecretKeyId, name: &SecretName) -> Vec<u8> {
    [PLACE, &cluster.0.to_be_bytes(), &key.0, name.as_str().as_bytes()].concat()
}

fn cluster(state: &State) -> Result<ClusterId, SecretError> {
    state.cluster.as_ref().map(|cluster| cluster.id).ok_or(SecretError::NoCluster)
}

/// Encrypts a value.
///
/// # Errors
/// [`SecretError`].
pub fn seal(
    state: &State,
    (id, key): (SecretKeyId, &SealingKey),
    name: &SecretName,
    value: &[u8],
) -> Result<SealedValue, SecretError> {
    let sealed = key.seal(&place(cluster(state)?, id, name), value);
    let sealed = sealed.map_err(|source| SecretError::Seal { name: name.clone(), source })?;
    Ok(SealedValue(sealed.into()))
}

/// Decrypts a value.
///
/// # Errors
/// [`SecretError`].
pub fn open(
    state: &State,
    keyring: &Keyring,
    name: &SecretName,
    secret: &Secret,
) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let key = keyring.get(secret.key).ok_or(SecretError::NoKey(secret.key))?;
    let opened = key.open(&place(cluster(state)?, secret.key, name), &secret.sealed.0);
    opened.map_err(|source| SecretError::Seal { name: name.clone(), source })
}
