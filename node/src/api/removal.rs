//! Removing a node for good. A lost voter is taken out of the control plane first, one safe step at a time.
//!
//! ```text
//!   lost voter ─▶ change_voters (a majority of the old ones stays) ─▶ standby ─▶ remove_learner ─▶ RemoveNode
//! ```
//! Each step is found from the applied state, so that a retry goes on where an earlier try ended.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use muster_core::command::Command;
use muster_core::id::NodeId;
use muster_core::lease::membership::majority_of;
use muster_core::refusal::Refusal;
use muster_core::state::State;
use muster_core::state::node::Node;
use muster_proto::v1;
use tokio::time::Instant;

use super::caller::Caller;
use super::status::ApiError;
use super::{Api, convert};
use crate::clock;
use crate::raft::{ChangeError, ProposeError};

/// A voter that answered the leader within this time is up.
const ANSWERED_LATELY: Duration = Duration::from_secs(1);
/// Between two tries of a change while another one is under way.
const BUSY_PAUSE: Duration = Duration::from_millis(100);

impl Api {
    /// Removes a node that is gone.
    pub(super) async fn remove_node_here(
        &self,
        caller: &Caller,
        request: Option<v1::RequestId>,
        id: NodeId,
    ) -> Result<v1::ActReply, ApiError> {
        let until = clock::monotonic() + caller.timeout;
        let name = self.state().name_of(id);
        loop {
            let state = self.state();
            let Some(node) = state.nodes.get(&id) else { break };
            check_gone(&state, node)?;
            if state.membership.contains(id) {
                let voters = self.voters_without(&state, node)?;
                self.changed(until, &name, self.handles.raft.change_voters(voters).await).await?;
            } else if state.standbys.contains(&id) {
                self.changed(until, &name, self.handles.raft.remove_learner(id.0).await).await?;
            } else {
                break;
            }
            self.wait_for_members(until, &name, &state).await?;
        }
        let command = Command::RemoveNode { node: id };
        let reply = self.submit(caller, convert::request_id(request), command).await?;
        Ok(super::writes::acted(&reply, format!("node {name} was removed")))
    }

    /// The voters without this node, if that is safe: enough of those that stay are up, and no other session is
    /// overdue, since a change of the membership makes all ages begin anew (LEASES.md R6, R7).
    fn voters_without(&self, state: &State, node: &Node) -> Result<BTreeSet<u64>, ApiError> {
        let refuse = |why: String| Err(ApiError::UnsafeRemoval { node: node.name.to_string(), why });
        if state.membership.is_joint() {
            return Ok(state.membership.configs.last().into_iter().flatten().map(|id| id.0).collect());
        }
        let old = state.membership.voters();
        let stay: BTreeSet<u64> = old.iter().filter(|id| **id != node.id).map(|id| id.0).collect();
        if stay.len() * 2 <= old.len() {
            return refuse(format!("{} of {} voters would stay, which is no majority", stay.len(), old.len()));
        }
        let raft = self.handles.raft.status();
        let answered = |id: u64| {
            let since = raft.since_ack.get(&id).copied().flatten();
            id == self.handles.me.0 || since.is_some_and(|age| age < ANSWERED_LATELY)
        };
        let up = stay.iter().filter(|id| answered(**id)).count();
        if up < majority_of(stay.len()) {
            return refuse(format!("only {up} of the {} voters that stay are up", stay.len()));
        }
        let healths = self.handles.healths.borrow();
        if let Some(health) = healths.values().find(|h| h.overdue && h.node != node.id) {
            let other = state.name_of(health.node);
            return refuse(format!("node {other} is suspect; wait until it is alive again or lost"));
        }
        Ok(stay)
    }

    /// What a change of the members came to; one that was only not possible yet is left to the next turn.
    async fn changed(
        &self,
        until: Instant,
        name: &str,
        result: Result<(), ChangeError>,
    ) -> Result<(), ApiError> {
        match result {
            Ok(()) => Ok(()),
            Err(ChangeError::Busy { detail }) => {
                if clock::monotonic() + BUSY_PAUSE >= until {
                    return Err(ApiError::UnsafeRemoval { node: name.to_owned(), why: detail });
                }
                tokio::time::sleep(BUSY_PAUSE).await;
                Ok(())
            }
            Err(ChangeError::Refused { detail }) => {
                Err(ApiError::UnsafeRemoval { node: name.to_owned(), why: detail })
            }
            Err(ChangeError::Propose(ProposeError::NotLeader { leader })) => {
                Err(ApiError::NotLeader { me: self.handles.name.to_string(), leader })
            }
            Err(ChangeError::Propose(ProposeError::Fatal { reason })) => Err(ApiError::Internal(reason)),
            Err(ChangeError::Propose(_)) => Err(self.why_no_leader().await),
        }
    }

    /// Waits until the applied members differ from those of `old`.
    async fn wait_for_members(&self, until: Instant, name: &str, old: &Arc<State>) -> Result<(), ApiError> {
        let mut states = self.handles.published.state.clone();
        let differ = |new: &Arc<State>| {
            new.membership != old.membership || new.standbys != old.standbys || new.nodes != old.nodes
        };
        // A change that was not possible yet shows nothing: look again after the pause.
        let next = until.min(clock::monotonic() + BUSY_PAUSE);
        let shown = tokio::time::timeout_at(next, states.wait_for(differ)).await;
        if shown.is_err() && clock::monotonic() >= until {
            return Err(ApiError::TimedOut(format!("node {name} to leave the control plane")));
        }
        Ok(())
    }
}

/// A node that may still run something is not removed.
fn check_gone(state: &State, node: &Node) -> Result<(), Refusal> {
    if state.membership.contains(node.id) && state.membership.voters().len() == 1 {
        return Err(Refusal::LastVoter(node.name.clone()));
    }
    if node.session.is_some() {
        return Err(Refusal::NodeAlive(node.name.clone()));
    }
    Ok(())
}
