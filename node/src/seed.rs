//! What an agent must know before it has any state: kept beside the identity, renewed as the state changes.

use std::path::Path;
use std::sync::Arc;

use muster_core::id::NodeId;
use muster_core::state::State;
use muster_core::time::Timing;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::storage::{FileError, durable};

const FILE: &str = "seed.json";

/// The first contact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seed {
    /// The cluster's timing when it was last seen: Raft starts with it.
    pub timing: Timing,
    /// Addresses of other agents, voters first.
    pub peers: Vec<String>,
    /// Set by `muster init`: this node makes the cluster when it starts for the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<FirstToken>,
}

/// The join token that `muster init` printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstToken {
    /// Its public half.
    pub id: String,
    /// BLAKE3 of the whole token, in hexadecimal digits.
    pub hash: String,
    /// No use after that, in milliseconds since 1970.
    pub expires_ms: u64,
    /// How often it can be used.
    pub uses: u32,
}

impl Seed {
    /// Reads it; `None` when there is none.
    ///
    /// # Errors
    /// When it can't be read or understood.
    pub fn read(data_dir: &Path) -> Result<Option<Self>, std::io::Error> {
        match std::fs::read(data_dir.join(FILE)) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(std::io::Error::other),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes it, durably.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, data_dir: &Path) -> Result<(), FileError> {
        let text = serde_json::to_vec_pretty(self).expect("a seed has only strings and numbers");
        durable::replace_file(&data_dir.join(FILE), &text)
    }

    fn of(state: &State, me: NodeId) -> Option<Self> {
        let timing = state.cluster.as_ref()?.timing;
        let voters = state.membership.voters();
        let mut nodes: Vec<_> = state.nodes.values().filter(|n| n.id != me).collect();
        nodes.sort_by_key(|n| !voters.contains(&n.id));
        let peers = nodes.iter().flat_map(|n| n.description.addresses.iter().cloned()).take(32).collect();
        Some(Self { timing, peers, bootstrap: None })
    }
}

/// Keeps the file in step with the state.
pub async fn keep(
    data_dir: std::path::PathBuf,
    me: NodeId,
    mut state: watch::Receiver<Arc<State>>,
    stop: CancellationToken,
) {
    let mut written = None;
    loop {
        let seed = Seed::of(&state.borrow_and_update(), me);
        if let Some(seed) = seed.filter(|s| written.as_ref() != Some(s)) {
            if let Err(error) = seed.write(&data_dir) {
                tracing::warn!(%error, "the list of peers could not be saved; it will be tried again");
            } else {
                written = Some(seed);
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = state.changed() => if changed.is_err() { return },
        }
    }
}
