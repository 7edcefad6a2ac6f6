//! Who leads, as far as this node may rely on it when it routes calls.
//!
//! Only Raft's members are told who leads. A node that was taken out of Raft is not told that either, and Raft goes on to
//! name the leader that it heard of last: whoever believes that, for ever takes any other leader for deposed.

use std::sync::Arc;

use muster_core::id::NodeId;
use muster_core::state::State;
use tokio::sync::watch;

use crate::raft::RaftHandle;

/// What a node knows of the leader's office.
#[derive(Clone)]
pub struct Office {
    me: NodeId,
    raft: RaftHandle,
    state: watch::Receiver<Arc<State>>,
}

impl Office {
    /// As this node's Raft and its copy of the state say.
    #[must_use]
    pub fn new(me: NodeId, raft: RaftHandle, state: watch::Receiver<Arc<State>>) -> Self {
        Self { me, raft, state }
    }

    /// The leader; none on a node outside Raft.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        self.raft.leader().map(NodeId).filter(|_| self.is_told())
    }

    /// Waits until another node than that one is known to lead; for ever on a node outside Raft, and when Raft has stopped.
    pub async fn deposed(&self, asked: NodeId) {
        let mut leadership = self.raft.leadership();
        let mut now = Some(leadership.now());
        while let Some(known) = now {
            if self.is_told() && known.leader.is_some_and(|leader| leader != asked.0) {
                return;
            }
            now = leadership.changed().await;
        }
        std::future::pending().await
    }

    fn is_told(&self) -> bool {
        let state = self.state.borrow();
        // The first node of a cluster leads before its state says anything of members.
        state.is_in_raft(self.me) || state.membership.configs.is_empty()
    }
}
