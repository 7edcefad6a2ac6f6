//! Writes about nodes, and handing the leadership over.

use std::time::Duration;

use muster_core::command::{Command, DrainWish, NodeChange};
use muster_core::id::NodeId;
use muster_core::state::State;
use muster_proto::v1;
use muster_proto::v1::act_on_node_request::Act;

use super::caller::Caller;
use super::status::ApiError;
use super::{Api, convert, plans};
use crate::raft::{ProposeError, RaftStatus};

/// A follower that answered within this time can take over.
const ANSWERED_LATELY: Duration = Duration::from_secs(1);
/// How long a transfer of the leadership may take before it counts as failed.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(5);

impl Api {
    pub(super) async fn act_on_node_here(
        &self,
        caller: &Caller,
        state: &State,
        request: v1::ActOnNodeRequest,
    ) -> Result<v1::ActReply, ApiError> {
        let node = convert::node(state, &request.node)?;
        caller.check_may_touch(state, node.id)?;
        let name = node.name.clone();
        let (change, done) = match convert::required(request.act, "act")? {
            Act::Remove(false) => return self.may_be_removed(node.id),
            Act::Remove(true) => return self.remove_node_here(caller, request.request, node.id).await,
            Act::Cordon(on) => {
                let word =
                    if on { "is cordoned: nothing new is placed there" } else { "takes new instances again" };
                (NodeChange::Cordon(on), word.to_owned())
            }
            Act::Maintenance(on) => {
                let word = if on {
                    "is in maintenance: what runs there is left alone"
                } else {
                    "is out of maintenance"
                };
                (NodeChange::Maintenance(on), word.to_owned())
            }
            Act::Label(label) => {
                if label.key.is_empty() {
                    return Err(ApiError::Invalid("a label needs a name".to_owned()));
                }
                let value = label.value.as_deref().unwrap_or("(none)");
                let done = format!("has the label {} = {value}", label.key);
                (NodeChange::Label { key: label.key, value: label.value }, done)
            }
            Act::Undrain(_) => (NodeChange::Undrain, "is no longer drained".to_owned()),
        };
        let command = Command::ChangeNode { node: node.id, change };
        self.act(caller, request.request, command, format!("node {name} {done}"), "nothing to change").await
    }

    /// Begins a drain, and answers what it will move and what stands against it.
    pub(super) async fn drain_here(
        &self,
        caller: &Caller,
        state: &State,
        request: v1::DrainRequest,
    ) -> Result<v1::PlanReply, ApiError> {
        let node = convert::node(state, &request.node)?;
        caller.check_may_touch(state, node.id)?;
        let preview = plans::drain(state, self.handles.proposer.now(state), node)?;
        if request.dry_run {
            return Ok(preview);
        }
        let wish = DrainWish {
            deadline: request.deadline_ms.map(Duration::from_millis),
            max_parallel: request.max_parallel,
        };
        let command = Command::ChangeNode { node: node.id, change: NodeChange::Drain(wish) };
        let reply = self.submit(caller, convert::request_id(request.request), command).await?;
        Ok(v1::PlanReply { revision: reply.revision.0, changes: reply.changed, ..preview })
    }

    /// Hands the leadership over and waits until somebody else has it.
    pub(super) async fn transfer_leader_here(
        &self,
        state: &State,
        request: &v1::HandOverRequest,
    ) -> Result<v1::ActReply, ApiError> {
        let wanted = convert::optional_node(state, &request.to)?.map(|node| node.id);
        let me = self.handles.me;
        let revision = state.revision.0;
        if wanted == Some(me) {
            let message = format!("{} leads already", self.handles.name);
            return Ok(v1::ActReply { revision, message, ..Default::default() });
        }
        let to = successor(state, &self.handles.raft.status(), me, wanted)?;
        let mut leadership = self.handles.raft.leadership();
        match self.handles.raft.transfer_leader(to.0).await {
            Ok(()) => {}
            Err(ProposeError::NotLeader { leader }) => {
                return Err(ApiError::NotLeader { me: self.handles.name.to_string(), leader });
            }
            Err(error) => return Err(ApiError::Internal(error.to_string())),
        }
        let handed_over = async {
            let mut now = leadership.now();
            while now.leader.is_none_or(|leader| leader == me.0) {
                now = leadership.changed().await?;
            }
            now.leader.map(NodeId)
        };
        match tokio::time::timeout(TRANSFER_TIMEOUT, handed_over).await {
            Ok(Some(leader)) => {
                let message = format!("{} leads now", state.name_of(leader));
                let mut reply = v1::ActReply { revision, changed: true, message, ..Default::default() };
                if leader != to {
                    reply
                        .warnings
                        .push(format!("{} was asked to, but did not win the election", state.name_of(to)));
                }
                Ok(reply)
            }
            Ok(None) => Err(ApiError::Internal("Raft has stopped".to_owned())),
            Err(_) => Err(ApiError::TimedOut(format!("{} to take the leadership over", state.name_of(to)))),
        }
    }
}

/// Who takes over: the wanted node if it can, or else the follower that is furthest, not being drained.
fn successor(
    state: &State,
    raft: &RaftStatus,
    me: NodeId,
    wanted: Option<NodeId>,
) -> Result<NodeId, ApiError> {
    let answered =
        |id: NodeId| raft.since_ack.get(&id.0).copied().flatten().is_some_and(|age| age < ANSWERED_LATELY);
    if let Some(wanted) = wanted {
        let name = state.name_of(wanted);
        if !state.membership.contains(wanted) {
            return Err(ApiError::NoSuccessor(format!("{name} is not a voter")));
        }
        if !answered(wanted) {
            return Err(ApiError::NoSuccessor(format!("{name} does not answer")));
        }
        return Ok(wanted);
    }
    let drained = |id: &NodeId| state.nodes.get(id).is_some_and(|node| node.drain.is_some());
    let candidates =
        state.membership.voters().into_iter().filter(|id| *id != me && answered(*id) && !drained(id));
    let best = candidates.max_by_key(|id| raft.matched.get(&id.0).copied().flatten());
    best.ok_or_else(|| ApiError::NoSuccessor("no other voter is up and not being drained".to_owned()))
}
