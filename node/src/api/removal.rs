//! Removing a node for good. A lost voter is taken out of the control plane first, one safe step at a time.
//!
//! ```text
//!   lost voter ─▶ new voters (a majority of the old ones stays) ─▶ standby ─▶ outside Raft ─▶ RemoveNode
//! ```
//! Each step is the core's answer to the applied state, so that a retry goes on where an earlier try ended.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use muster_core::command::Command;
use muster_core::control_plane::{Facts, MembershipChange, removal_step};
use muster_core::id::NodeId;
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

/// A member of Raft that answered the leader within this time is up.
const ANSWERED_LATELY: Duration = Duration::from_secs(1);
/// A standby this many entries behind the leader may take a vote over.
const CAUGHT_UP_ENTRIES: u64 = 64;
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
            if !state.membership.contains(id) && !state.standbys.contains(&id) {
                break;
            }
            let facts = self.facts(&state);
            let raft = &self.handles.raft;
            match removal_step(&state, &facts, id) {
                Some(MembershipChange::SetVoters(voters)) => {
                    let voters = voters.into_iter().map(|voter| voter.0).collect();
                    self.changed(until, &state, &name, raft.change_voters(voters).await).await?;
                }
                Some(MembershipChange::RemoveStandby(standby)) => {
                    self.changed(until, &state, &name, raft.remove_learner(standby.0).await).await?;
                }
                // A joint membership is on its way to the next one; the controller finishes it.
                Some(MembershipChange::AddStandby(_) | MembershipChange::UpdatePeer(_)) | None
                    if state.membership.is_joint() => {}
                Some(MembershipChange::AddStandby(_) | MembershipChange::UpdatePeer(_)) | None => {
                    return Err(why_not(&state, &facts, node, &self.suspects(&state)));
                }
            }
            self.wait_for_members(until, &name, &state).await?;
        }
        let command = Command::RemoveNode { node: id };
        let reply = self.submit(caller, convert::request_id(request), command).await?;
        Ok(super::writes::acted(&reply, format!("node {name} was removed")))
    }

    /// Whether a node could be removed once nothing of it runs. Changes nothing: one that leaves asks before it ends
    /// anything.
    pub(super) fn may_be_removed(&self, id: NodeId) -> Result<v1::ActReply, ApiError> {
        let state = self.state();
        let node = state.nodes.get(&id).ok_or_else(|| Refusal::NoSuchNode(format!("#{id}")))?;
        check_not_last(&state, node)?;
        let facts = self.facts(&state);
        let is_member = state.membership.contains(id) || state.standbys.contains(&id);
        if is_member && !state.membership.is_joint() && removal_step(&state, &facts, id).is_none() {
            return Err(why_not(&state, &facts, node, &self.suspects(&state)));
        }
        let message = format!("node {} can be removed", node.name);
        Ok(v1::ActReply { revision: state.revision.0, message, ..v1::ActReply::default() })
    }

    /// What the leader knows besides the state. A session that is overdue stands against any change: each makes
    /// all ages begin anew (LEASES.md R6, R7). The removed node has none.
    fn facts(&self, state: &State) -> Facts {
        let raft = self.handles.raft.status();
        let last = raft.last_log_index.unwrap_or_default();
        let answered = |id: u64| {
            let since = raft.since_ack.get(&id).copied().flatten();
            id == self.handles.me.0 || since.is_some_and(|age| age < ANSWERED_LATELY)
        };
        let caught_up =
            |id: u64| raft.matched.get(&id).copied().flatten().is_some_and(|m| m + CAUGHT_UP_ENTRIES >= last);
        let reachable: BTreeSet<NodeId> =
            raft.peers.keys().copied().filter(|id| answered(*id)).map(NodeId).collect();
        Facts {
            caught_up: reachable.iter().copied().filter(|id| caught_up(id.0)).collect(),
            reachable,
            outdated: BTreeSet::new(),
            sessions_in_time: self.suspects(state).is_empty(),
            now: self.handles.proposer.now(state),
        }
    }

    /// The nodes whose sessions are overdue.
    fn suspects(&self, state: &State) -> Vec<String> {
        let healths = self.handles.healths.borrow();
        healths.values().filter(|h| h.overdue).map(|h| state.name_of(h.node)).collect()
    }

    /// What a change of the members came to; one that was only not possible yet is left to the next turn.
    async fn changed(
        &self,
        until: Instant,
        old: &State,
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
            // The controller looks after the members too, and may have been first.
            Err(ChangeError::Refused { .. }) if differ(old, &self.state()) => Ok(()),
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
        // A change that was not possible yet shows nothing: look again after the pause.
        let next = until.min(clock::monotonic() + BUSY_PAUSE);
        let shown = tokio::time::timeout_at(next, states.wait_for(|new| differ(old, new))).await;
        if shown.is_err() && clock::monotonic() >= until {
            return Err(ApiError::TimedOut(format!("node {name} to leave the control plane")));
        }
        Ok(())
    }
}

/// Whether the members, or who is alive, changed.
fn differ(old: &State, new: &State) -> bool {
    new.membership != old.membership || new.standbys != old.standbys || new.nodes != old.nodes
}

/// A node that may still run something is not removed.
fn check_gone(state: &State, node: &Node) -> Result<(), Refusal> {
    check_not_last(state, node)?;
    if node.session.is_some() {
        return Err(Refusal::NodeAlive(node.name.clone()));
    }
    Ok(())
}

fn check_not_last(state: &State, node: &Node) -> Result<(), Refusal> {
    if state.membership.contains(node.id) && state.membership.voters().len() == 1 {
        return Err(Refusal::LastVoter(node.name.clone()));
    }
    Ok(())
}

/// Why there is no next step.
fn why_not(state: &State, facts: &Facts, node: &Node, suspects: &[String]) -> ApiError {
    let why = if suspects.is_empty() {
        let voters = state.membership.voters();
        let stay = voters.iter().filter(|id| **id != node.id);
        let up = stay.clone().filter(|id| facts.reachable.contains(id)).count();
        format!(
            "it is one of {} voters, {up} of the other {} are up, and no standby is ready to take its vote",
            voters.len(),
            stay.count()
        )
    } else {
        format!("{} is suspect; wait until it is alive again or lost", suspects.join(", "))
    };
    ApiError::UnsafeRemoval { node: node.name.to_string(), why }
}
