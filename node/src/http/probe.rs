//! Whether this agent is ready: it follows a leader or leads a quorum, and its log is caught up.

use axum::extract::State;
use axum::http::StatusCode;
use muster_core::id::{BootId, NodeId};
use muster_core::state::State as ClusterState;

use crate::handles::Handles;
use crate::raft::{RaftStatus, Role};

/// So many entries may be committed and not applied yet.
const BEHIND_MAX: u64 = 64;

pub(super) async fn ready(State(handles): State<Handles>) -> (StatusCode, String) {
    let state = handles.published.state.borrow().clone();
    let is_in_touch = *handles.is_in_touch.borrow();
    match why_not(&state, &handles.raft.status(), is_in_touch, handles.me, handles.acks.identity().boot) {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
    }
}

fn why_not(
    state: &ClusterState,
    raft: &RaftStatus,
    is_in_touch: bool,
    me: NodeId,
    boot: BootId,
) -> Option<String> {
    let Some(node) = state.nodes.get(&me) else {
        return Some("this node's copy of the state does not have this node yet".to_owned());
    };
    let in_raft = state.membership.contains(me) || state.standbys.contains(&me);
    if !in_raft {
        // A worker follows by a stream; what it has is what it was told.
        return (!is_in_touch).then(|| "no agent that hears a leader can be followed".to_owned());
    }
    if raft.leader.is_none() {
        let why = match raft.role {
            Role::Leader => "this node leads, but no quorum has answered it lately",
            _ => "there is no leader, or it has not been heard of lately",
        };
        return Some(why.to_owned());
    }
    let index = |at: Option<crate::raft::Position>| at.map_or(0, |at| at.index);
    let behind = index(raft.committed).saturating_sub(index(raft.applied));
    if node.boot != Some(boot) {
        // LEASES.md R8: until its VoterUp is applied it acknowledges no heartbeat.
        return Some("this start of the voter is not on record yet, so it grants no leases".to_owned());
    }
    (behind > BEHIND_MAX).then(|| format!("{behind} entries of the log are not applied yet"))
}
