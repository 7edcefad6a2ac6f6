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

    /// What stands in the file when the state says this: what `muster init` left to be done stays until the cluster
    /// knows its first token, or a crash in between would leave a cluster that nobody can join with it.
    fn renewed(state: &State, me: NodeId, undone: &mut Option<FirstToken>) -> Option<Self> {
        if undone.as_ref().is_some_and(|token| state.tokens.contains_key(&token.id)) {
            *undone = None;
        }
        let seed = Self::of(state, me)?;
        Some(Self { bootstrap: undone.clone(), ..seed })
    }
}

/// Keeps the file in step with the state. `undone` is what `muster init` left to be done, if this node is the first.
pub async fn keep(
    data_dir: std::path::PathBuf,
    me: NodeId,
    mut undone: Option<FirstToken>,
    mut state: watch::Receiver<Arc<State>>,
    stop: CancellationToken,
) {
    let mut written = None;
    loop {
        let seed = Seed::renewed(&state.borrow_and_update(), me, &mut undone);
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

#[cfg(test)]
mod tests {
    use muster_core::command::{Role, TokenGrant};
    use muster_core::id::{ClusterId, Incarnation};
    use muster_core::state::Cluster;
    use muster_core::time::Stamp;

    use super::*;

    #[test]
    fn the_first_token_stays_in_the_file_until_the_cluster_knows_it() {
        let first = FirstToken { id: "abc".into(), hash: String::new(), expires_ms: 1, uses: 1 };
        let mut undone = Some(first.clone());
        let mut state = State::default();
        assert_eq!(Seed::renewed(&state, NodeId(1), &mut undone), None, "there is no cluster yet");
        state.cluster = Some(Cluster {
            id: ClusterId(1),
            name: "c".into(),
            incarnation: Incarnation(1),
            timing: Timing::LAN,
            created: Stamp(1),
        });
        let made = Seed::renewed(&state, NodeId(1), &mut undone).unwrap();
        assert_eq!(made.bootstrap, Some(first), "a crash now must not lose it");
        let grant =
            TokenGrant { id: "abc".into(), hash: [0; 32], role: Role::Auto, expires: Stamp(1), uses: 1 };
        state.tokens.insert("abc".into(), grant);
        assert_eq!(Seed::renewed(&state, NodeId(1), &mut undone).unwrap().bootstrap, None);
        state.tokens.remove("abc");
        let used_up = Seed::renewed(&state, NodeId(1), &mut undone).unwrap();
        assert_eq!(used_up.bootstrap, None, "it is never made again");
    }
}
