//! The control plane's membership: learners are added, voters changed, one step at a time, none while a session
//! is overdue (LEASES.md R7). A drained leader hands over first.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use muster_core::control_plane::{Facts, MembershipChange, next_change};
use muster_core::id::NodeId;
use muster_core::state::State;

use super::{Controller, Leading, News};
use crate::clock;
use crate::raft::{Peer, RaftHandle};

/// How often the membership is looked at.
const CHECK_EVERY: Duration = Duration::from_millis(250);
/// A standby this many entries behind the leader may be promoted.
const CAUGHT_UP_ENTRIES: u64 = 64;
/// A hand-over that nobody took is tried again after this time.
const HAND_OVER_AGAIN: Duration = Duration::from_secs(5);
/// How long a hand-over may take before the drain goes on under the old leader.
const HAND_OVER_TIME: Duration = Duration::from_millis(400);
/// A voter that answered within this time is reachable.
const REACHABLE: Duration = Duration::from_secs(1);

impl Controller {
    pub(super) fn look_after_members(&self, leading: &mut Leading, state: &Arc<State>) {
        let at = clock::monotonic();
        if leading.members_in_flight || leading.members_checked.is_some_and(|last| at - last < CHECK_EVERY) {
            return;
        }
        leading.members_checked = Some(at);
        let facts = self.facts(leading, state);
        let Some(change) = next_change(state, &facts) else { return };
        tracing::info!(?change, "changing the control plane's members");
        leading.members_in_flight = true;
        let (raft, news, state) = (self.raft.clone(), self.news.clone(), Arc::clone(state));
        tokio::spawn(async move {
            let result = carry_out(&raft, &state, change).await;
            let _told = news.send(News::Members(result)).await;
        });
    }

    fn facts(&self, leading: &Leading, state: &State) -> Facts {
        let status = self.raft.status();
        let recent = |id: &u64| {
            *id == self.me.0 || status.since_ack.get(id).copied().flatten().is_some_and(|age| age < REACHABLE)
        };
        let members: BTreeSet<u64> = status.peers.keys().copied().collect();
        let last = status.last_log_index.unwrap_or_default();
        let caught_up = |id: &u64| {
            status.matched.get(id).copied().flatten().is_some_and(|m| m + CAUGHT_UP_ENTRIES >= last)
        };
        let as_declared = |id: &u64, peer: &Peer| {
            state
                .nodes
                .get(&NodeId(*id))
                .is_none_or(|n| n.name.as_str() == peer.name && n.description.addresses == peer.addresses)
        };
        let outdated = status.peers.iter().filter(|(id, peer)| !as_declared(id, peer));
        Facts {
            outdated: outdated.map(|(id, _)| NodeId(*id)).collect(),
            now: self.proposer.now(state),
            reachable: members.iter().filter(|id| recent(id)).map(|id| NodeId(*id)).collect(),
            caught_up: members
                .iter()
                .filter(|id| recent(id) && caught_up(id))
                .map(|id| NodeId(*id))
                .collect(),
            sessions_in_time: leading.detector.membership_change_allowed(clock::host_now()),
        }
    }

    /// A leader whose node is being drained hands its office over before anything moves: true while it does.
    pub(super) fn hands_over_when_drained(&self, leading: &mut Leading, state: &State) -> bool {
        let drained = state.nodes.get(&self.me).is_some_and(|n| n.drain.is_some());
        if !drained {
            leading.handed_over = None;
            return false;
        }
        if let Some(last) = leading.handed_over {
            let since = clock::monotonic() - last;
            if since < HAND_OVER_AGAIN {
                return since < HAND_OVER_TIME;
            }
        }
        let status = self.raft.status();
        let draining = |id: u64| state.nodes.get(&NodeId(id)).is_some_and(|n| n.drain.is_some());
        let voters = status.voters.iter().flatten().copied().filter(|id| *id != self.me.0 && !draining(*id));
        let alive = voters
            .filter(|id| status.since_ack.get(id).copied().flatten().is_some_and(|age| age < REACHABLE));
        let Some(to) = alive.max_by_key(|id| status.matched.get(id).copied().flatten()) else { return false };
        leading.handed_over = Some(clock::monotonic());
        tracing::info!(to, "this node is being drained: handing the leadership over");
        let raft = self.raft.clone();
        tokio::spawn(async move {
            if let Err(error) = raft.transfer_leader(to).await {
                tracing::warn!(%error, "the leadership could not be handed over");
            }
        });
        true
    }
}

async fn carry_out(raft: &RaftHandle, state: &State, change: MembershipChange) -> Result<(), String> {
    let peer = |id: NodeId| {
        let node = state.nodes.get(&id);
        node.map(|n| Peer { name: n.name.to_string(), addresses: n.description.addresses.clone() })
            .ok_or_else(|| format!("node #{id} has left"))
    };
    match change {
        MembershipChange::AddStandby(id) => raft.add_learner(id.0, peer(id)?).await,
        MembershipChange::SetVoters(voters) => {
            raft.change_voters(voters.into_iter().map(|v| v.0).collect()).await
        }
        MembershipChange::RemoveStandby(id) => raft.remove_learner(id.0).await,
        MembershipChange::UpdatePeer(id) => raft.update_peer(id.0, peer(id)?).await,
    }
    .map_err(|error| error.to_string())
}
