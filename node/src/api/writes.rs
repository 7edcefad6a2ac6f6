//! What every write has in common: submit the command, and turn the answer into a message.

use std::sync::Arc;

use muster_core::command::Command;
use muster_core::id::{RequestId, Revision};
use muster_core::state::State;
use muster_core::state::apply::Reply;
use muster_proto::v1;

use super::Api;
use super::caller::Caller;
use super::route::LEADER_WAIT;
use super::status::ApiError;
use crate::submit::SubmitError;

impl Api {
    /// Submits a command of a caller and waits until it is applied or refused.
    pub(super) async fn submit(
        &self,
        caller: &Caller,
        request: RequestId,
        command: Command,
    ) -> Result<Reply, ApiError> {
        let submitted = self.handles.proposer.submit_for(&caller.actor, request, command, caller.timeout);
        let outcome = tokio::select! {
            outcome = submitted => outcome,
            // Under its request id it is applied once, however often it is tried, here or elsewhere.
            lost = self.quorum_is_lost() => return Err(lost),
        };
        match outcome {
            Ok(reply) => Ok(reply),
            Err(SubmitError::Refused(refusal)) => Err(ApiError::Judged(refusal)),
            Err(SubmitError::Unavailable(why)) => {
                tracing::debug!(why, "a write was not taken in time");
                Err(self.why_no_leader().await)
            }
        }
    }

    /// Returns once this agent has known no leader for a while and reaches no majority. A leader that was cut off would
    /// hold on to a write until its caller gives up; another agent may take it at once.
    async fn quorum_is_lost(&self) -> ApiError {
        loop {
            tokio::time::sleep(LEADER_WAIT).await;
            if self.handles.raft.status().leader.is_some() {
                continue;
            }
            let why = self.why_no_leader().await;
            if matches!(why, ApiError::NoQuorum { .. }) {
                return why;
            }
        }
    }

    /// The state that knows the entry of a write. An answer may be here before this node has published it.
    pub(super) async fn state_at(&self, caller: &Caller, revision: Revision) -> Result<Arc<State>, ApiError> {
        let mut states = self.handles.published.state.clone();
        let known = states.wait_for(|state| state.revision >= revision);
        match tokio::time::timeout(caller.timeout, known).await {
            Ok(Ok(state)) => Ok(Arc::clone(&state)),
            Ok(Err(_)) => Err(ApiError::Internal("the agent stops".to_owned())),
            Err(_) => Err(ApiError::TimedOut("this agent to catch up".to_owned())),
        }
    }

    /// [`Self::submit`] for writes that answer only whether something changed.
    pub(super) async fn act(
        &self,
        caller: &Caller,
        request: Option<v1::RequestId>,
        command: Command,
        done: impl Into<String>,
        nothing: impl Into<String>,
    ) -> Result<v1::ActReply, ApiError> {
        let reply = self.submit(caller, super::convert::request_id(request), command).await?;
        Ok(acted(&reply, if reply.changed { done.into() } else { nothing.into() }))
    }
}

/// The answer to an act.
pub(super) fn acted(reply: &Reply, message: String) -> v1::ActReply {
    v1::ActReply { revision: reply.revision.0, changed: reply.changed, message, warnings: Vec::new() }
}
