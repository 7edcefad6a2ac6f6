//! Raft, as `raft status` shows it.

use std::collections::BTreeSet;

use muster_core::id::NodeId;
use muster_core::state::State;
use muster_proto::v1;

use crate::raft::{RaftStatus, Role};

/// What this node knows of Raft.
pub(in crate::api) fn raft_view(state: &State, status: &RaftStatus, me: NodeId) -> v1::RaftView {
    let index = |at: Option<crate::raft::Position>| at.map_or(0, |at| at.index);
    let voters: BTreeSet<u64> = status.voters.iter().flatten().copied().collect();
    let members = status.peers.iter().map(|(id, peer)| v1::RaftMemberView {
        name: peer.name.clone(),
        id: *id,
        voter: voters.contains(id),
        addresses: peer.addresses.clone(),
        matched_index: matched(status, *id),
    });
    let outside = status.role == Role::Learner && !status.peers.contains_key(&me.0);
    v1::RaftView {
        node: state.name_of(me),
        leader: status.leader.map(|id| state.name_of(NodeId(id))).unwrap_or_default(),
        term: status.term,
        last_log_index: status.last_log_index.unwrap_or_default(),
        committed_index: index(status.committed),
        applied_index: if outside { state.revision.0 } else { index(status.applied) },
        snapshot_index: index(status.snapshot),
        members: members.collect(),
        state: if outside { "worker" } else { role_name(status.role) }.to_owned(),
        membership_id: state.membership.id.0,
        joint: status.voters.len() > 1,
    }
}

fn matched(status: &RaftStatus, id: u64) -> Option<u64> {
    if status.role != Role::Leader {
        return None;
    }
    if id == status.id { status.last_log_index } else { status.matched.get(&id).copied().flatten() }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Learner => "learner",
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
        Role::Stopped => "stopped",
    }
}
