//! Where a call is answered: here, when this node leads, or by the leader, to which it is passed on once.
//!
//! ```text
//!   caller ──▶ any agent ──(marked, whole request)──▶ leader ──▶ read barrier ──▶ answer
//! ```

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use muster_core::id::NodeId;
use muster_core::lease::membership::majority_of;
use muster_core::state::State;
use muster_proto::v1::cluster_client::ClusterClient;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::Api;
use super::caller::Caller;
use super::status::{ApiError, is_ours, leader_of};
use crate::clock;
use crate::raft::ReadError;

/// An act that itself changes the leader is answered within this time; a leader that is gone never answers.
const ACT_GRACE: Duration = Duration::from_millis(1500);
/// How long a call waits for a leader: longer than an election, short enough for somebody who looks at a
/// broken cluster.
pub(super) const LEADER_WAIT: Duration = Duration::from_millis(1500);
/// How long a leader may take to hear from a quorum.
const BARRIER_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two tries.
const RETRY_PAUSE: Duration = Duration::from_millis(25);

/// A client of another agent's operator API.
pub(super) type Client = ClusterClient<Channel>;

/// What a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It changes nothing: when the node that was asked no longer leads, its answer is not waited for.
    Read {
        /// Any node answers from its own copy.
        stale: bool,
    },
    /// It does something, perhaps even changes the leader: its answer is waited for a little longer.
    Act,
}

/// Where a call is answered.
pub(super) enum Answer<A> {
    /// Here, from this state.
    Here(Arc<State>),
    /// The leader has answered.
    There(Response<A>),
}

/// What one try came to.
enum Try<A> {
    Done(Answer<A>),
    Failed(Status),
    Again,
}

impl Api {
    /// Answers here when `stale`, or when this node leads and a quorum confirms it; otherwise passes the request
    /// on to the leader.
    pub(super) async fn at_leader<Q, A, F, Fut>(
        &self,
        caller: &Caller,
        kind: Kind,
        message: &Q,
        call: F,
    ) -> Result<Answer<A>, Status>
    where
        Q: Clone,
        F: Fn(Client, Request<Q>) -> Fut,
        Fut: Future<Output = Result<Response<A>, Status>>,
    {
        if kind == (Kind::Read { stale: true }) {
            return Ok(Answer::Here(self.state()));
        }
        self.route(caller, kind, |node| {
            let client = self.handles.peers.cluster(node);
            let calling = client.map(|client| call(client, caller.forward(message.clone())));
            async move {
                match calling {
                    Ok(calling) => calling.await,
                    Err(error) => Err(Status::unavailable(error.to_string())),
                }
            }
        })
        .await
    }

    /// The loop behind [`Self::at_leader`], for any kind of call.
    pub(super) async fn route<A, F, Fut>(
        &self,
        caller: &Caller,
        kind: Kind,
        call: F,
    ) -> Result<Answer<A>, Status>
    where
        F: Fn(NodeId) -> Fut,
        Fut: Future<Output = Result<Response<A>, Status>>,
    {
        let until = clock::monotonic() + LEADER_WAIT.min(caller.timeout);
        let mut turn = 0;
        loop {
            let tried = match self.whom_to_ask(turn) {
                Some(node) if node == self.handles.me => self.here().await,
                Some(_) if caller.forwarded => return Err(self.not_leader().into()),
                Some(node) => tokio::select! {
                    tried = self.there(node, &call) => tried,
                    () = self.given_up(node, kind) => match kind {
                        Kind::Read { .. } => Try::Again,
                        // It may be applied already; only the caller knows whether its request can be repeated.
                        Kind::Act => Try::Failed(self.leader_changed(node).into()),
                    },
                },
                None => Try::Again,
            };
            match tried {
                Try::Done(answer) => return Ok(answer),
                Try::Failed(status) => return Err(status),
                Try::Again => turn += 1,
            }
            if clock::monotonic() + RETRY_PAUSE >= until {
                return Err(self.why_no_leader().await.into());
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// The leader; a node outside Raft doesn't know it and asks one voter after the other.
    fn whom_to_ask(&self, turn: usize) -> Option<NodeId> {
        let state = self.state();
        if state.is_in_raft(self.handles.me) {
            return self.handles.office.leader();
        }
        let voters: Vec<NodeId> = state.membership.voters().into_iter().collect();
        voters.get(turn % voters.len().max(1)).copied().or_else(|| self.handles.office.leader())
    }

    async fn here<A>(&self) -> Try<A> {
        match tokio::time::timeout(BARRIER_TIMEOUT, self.handles.raft.read_barrier()).await {
            Ok(Ok(())) => Try::Done(Answer::Here(self.state())),
            Ok(Err(ReadError::Fatal { reason })) => {
                Try::Failed(ApiError::Internal(format!("Raft has stopped: {reason}")).into())
            }
            Ok(Err(ReadError::NotLeader { .. } | ReadError::NoQuorum)) | Err(_) => Try::Again,
        }
    }

    async fn there<A, F, Fut>(&self, node: NodeId, call: &F) -> Try<A>
    where
        F: Fn(NodeId) -> Fut,
        Fut: Future<Output = Result<Response<A>, Status>>,
    {
        let mut status = match call(node).await {
            Ok(response) => return Try::Done(Answer::There(response)),
            Err(status) => status,
        };
        // The node that was asked knows the leader better.
        if let Some(leader) = leader_of(&status).map(NodeId).filter(|l| *l != node && *l != self.handles.me) {
            match call(leader).await {
                Ok(response) => return Try::Done(Answer::There(response)),
                Err(other) => status = other,
            }
        }
        if is_ours(&status) && !is_not_leader(&status) {
            return Try::Failed(status);
        }
        if !is_ours(&status) {
            self.handles.peers.failed(node);
        }
        Try::Again
    }

    /// Waits until the answer of that node is not worth waiting for.
    async fn given_up(&self, node: NodeId, kind: Kind) {
        self.handles.office.deposed(node).await;
        if kind == Kind::Act {
            tokio::time::sleep(ACT_GRACE).await;
        }
    }

    fn leader_changed(&self, old: NodeId) -> ApiError {
        let name = self.state().name_of(old);
        ApiError::NoLeader(format!(
            "{name}, which was asked, leads no longer; whether it was done is not known"
        ))
    }

    pub(super) fn not_leader(&self) -> ApiError {
        ApiError::NotLeader {
            me: self.handles.name.to_string(),
            leader: self.handles.office.leader().map(|leader| leader.0),
        }
    }

    /// Tells an election from a lost quorum: asks all voters whether they are there.
    pub(super) async fn why_no_leader(&self) -> ApiError {
        let state = self.state();
        let reachable = self.reachable_voters(&state).await;
        let enough = state.membership.is_majority(|voter| reachable.contains(&voter));
        if state.membership.configs.is_empty() {
            return ApiError::NoLeader(format!("{} has not heard of any voter yet", self.handles.name));
        }
        if enough {
            let voters = state.membership.voters().len();
            return ApiError::NoLeader(format!("{} of {voters} voters reachable", reachable.len()));
        }
        ApiError::NoQuorum {
            reachable: reachable.len(),
            voters: state.membership.voters().len(),
            from: self.handles.name.to_string(),
        }
    }
}

fn is_not_leader(status: &Status) -> bool {
    let not_leader = ApiError::NotLeader { me: String::new(), leader: None };
    status.metadata().get(super::status::CODE_KEY).is_some_and(|code| code == not_leader.code())
}

/// How many voters may still fail before the quorum is lost; negative when it is lost already. In a joint
/// membership the weaker half counts.
pub(super) fn margin(state: &State, alive: impl Fn(NodeId) -> bool) -> i32 {
    let of = |voters: &std::collections::BTreeSet<NodeId>| {
        let up = voters.iter().filter(|voter| alive(**voter)).count();
        let difference = |a: usize, b: usize| i32::try_from(a - b).unwrap_or(i32::MAX);
        let needed = majority_of(voters.len());
        if up >= needed { difference(up, needed) } else { -difference(needed, up) }
    };
    state.membership.configs.iter().map(of).min().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use muster_core::id::MembershipId;
    use muster_core::lease::membership::Membership;

    use super::*;

    #[test]
    fn the_margin_is_the_weaker_half_s() {
        let ids = |ids: &[u64]| ids.iter().copied().map(NodeId).collect::<Vec<_>>();
        let mut state =
            State { membership: Membership::uniform(MembershipId(1), ids(&[1, 2, 3])), ..State::default() };
        assert_eq!(margin(&state, |_| true), 1);
        assert_eq!(margin(&state, |n| n.0 < 3), 0);
        assert_eq!(margin(&state, |n| n.0 == 1), -1);
        state.membership = Membership::joint(MembershipId(2), ids(&[1]), ids(&[1, 2, 3]));
        assert_eq!(margin(&state, |_| true), 0);
    }
}
