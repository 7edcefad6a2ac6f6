//! Which voters answer now.

use std::time::Duration;

use futures::future::join_all;
use muster_core::id::{MembershipId, NodeId};
use muster_core::state::State;
use muster_proto::v1;
use tokio::time::Instant;

use super::Api;
use crate::clock;

/// How long a voter may take to show that it is there, and how long that is news.
const PROBE_TIMEOUT: Duration = Duration::from_millis(400);

/// What was found last.
pub(super) struct Reach {
    at: Instant,
    membership: MembershipId,
    voters: Vec<NodeId>,
}

impl Api {
    /// The voters that answer, this node included. All who want to know at the same time ask once: without a quorum that
    /// is every write that waits.
    pub(super) async fn reachable_voters(&self, state: &State) -> Vec<NodeId> {
        let mut last = self.reach.lock().await;
        let membership = state.membership.id;
        let news =
            |reach: &&Reach| reach.membership == membership && clock::monotonic() < reach.at + PROBE_TIMEOUT;
        if let Some(reach) = last.as_ref().filter(news) {
            return reach.voters.clone();
        }
        let voters = self.probe_voters(state).await;
        *last = Some(Reach { at: clock::monotonic(), membership, voters: voters.clone() });
        voters
    }

    async fn probe_voters(&self, state: &State) -> Vec<NodeId> {
        let me = self.handles.me;
        let probes = state.membership.voters().into_iter().map(|voter| async move {
            if voter == me {
                return Some(voter);
            }
            let mut client = self.handles.peers.cluster(voter).ok()?;
            let asked = client.get_raft(v1::GetRaftRequest { stale: true });
            let answered = tokio::time::timeout(PROBE_TIMEOUT, asked).await;
            matches!(answered, Ok(Ok(_))).then_some(voter)
        });
        join_all(probes).await.into_iter().flatten().collect()
    }
}
