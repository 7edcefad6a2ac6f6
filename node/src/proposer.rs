//! Writes from anywhere: proposed here on the leader, forwarded there from everybody else, retried until they
//! are known to be applied or refused.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use muster_core::audit::Actor;
use muster_core::command::{Command, Proposal};
use muster_core::id::{NodeId, RequestId};
use muster_core::refusal::Refusal;
use muster_core::state::State;
use muster_core::state::apply::Reply;
use muster_core::time::Stamp;
use muster_proto::v1;
use tokio::sync::watch;

use crate::clock;
use crate::cluster_clock::ClusterClock;
use crate::numbers::{Number, Numbers};
use crate::office::Office;
use crate::peers::{Peers, sender};
use crate::raft::{ProposeError, RaftHandle};
use crate::submit::{Submit, SubmitError};

/// How long a write is tried by default.
pub const SUBMIT_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two tries: long enough not to be a burden, short against an election.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// How long one forwarded try may take.
const FORWARD_TIMEOUT: Duration = Duration::from_secs(3);
/// The same for a node outside Raft: it asks one voter after the other, and a frozen one must not hold up a planned move.
const VOTER_TIMEOUT: Duration = Duration::from_secs(1);
/// The field number of `Proposal.stamp_ms`, as a varint field's tag.
const STAMP_TAG: u8 = 1 << 3;

/// Submits commands on behalf of this agent and of operators who call it.
#[derive(Clone)]
pub struct Proposer {
    me: NodeId,
    raft: RaftHandle,
    office: Office,
    peers: Peers,
    state: watch::Receiver<Arc<State>>,
    /// This agent as a client: its commands are idempotent by themselves, so they carry no number.
    actor: Actor,
    numbers: Numbers,
    /// Stamps what this node proposes as the leader.
    time: Arc<ClusterClock>,
}

/// What one try came to.
enum Try {
    Done(Result<Reply, Refusal>),
    Again(String),
}

impl Proposer {
    /// A proposer of this node.
    #[must_use]
    pub fn new(
        me: NodeId,
        name: &str,
        raft: RaftHandle,
        office: Office,
        peers: Peers,
        state: watch::Receiver<Arc<State>>,
    ) -> Self {
        Self {
            me,
            office,
            raft,
            peers,
            state,
            actor: Actor::agent(name),
            numbers: Numbers::default(),
            time: Arc::default(),
        }
    }

    /// The cluster's time after what `state` has seen; every write is stamped with it.
    #[must_use]
    pub fn now(&self, state: &State) -> Stamp {
        self.time.now(state.now)
    }

    /// Submits a command for somebody, with a request id of theirs; without one it gets one of this agent's, so that
    /// what is tried again here is applied once.
    ///
    /// # Errors
    /// [`SubmitError::Refused`] when the cluster refused it, [`SubmitError::Unavailable`] when no leader took it
    /// in time; in that case it may or may not be applied later, and can be retried with the same request id.
    pub async fn submit_for(
        &self,
        actor: &Actor,
        request: RequestId,
        command: Command,
        timeout: Duration,
    ) -> Result<Reply, SubmitError> {
        let own = (request.client == 0).then(|| self.numbers.take());
        let request = own.as_ref().map_or(request, Number::id);
        let proposal = Proposal { stamp: Stamp(0), request, actor: actor.clone(), command };
        self.submit_encoded(&muster_wire::encode_proposal(&proposal), timeout).await
    }

    async fn submit_encoded(&self, encoded: &Bytes, timeout: Duration) -> Result<Reply, SubmitError> {
        let until = clock::monotonic() + timeout;
        let mut last = String::from("there is no leader");
        loop {
            match tokio::time::timeout_at(until, self.try_once(encoded)).await {
                Ok(Try::Done(reply)) => return reply.map_err(SubmitError::Refused),
                Ok(Try::Again(why)) => last = why,
                Err(_) => return Err(SubmitError::Unavailable(last)),
            }
            if clock::monotonic() + RETRY_PAUSE >= until {
                return Err(SubmitError::Unavailable(last));
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Proposes here, once; for a command that another agent forwarded.
    ///
    /// # Errors
    /// When this node is not the leader, or Raft could not take it.
    pub async fn propose_here(&self, encoded: &Bytes) -> Result<Result<Reply, Refusal>, ProposeError> {
        let stamp = self.now(&self.state.borrow());
        let applied = self.raft.propose(stamped(encoded, stamp)).await?;
        let reply = applied.reply::<Result<Reply, Refusal>>();
        Ok(reply.map_or_else(|| Ok(Reply::default()), |r| (*r).clone()))
    }

    async fn try_once(&self, encoded: &Bytes) -> Try {
        let leader = self.office.leader();
        if leader == Some(self.me) {
            return match self.propose_here(encoded).await {
                Ok(reply) => Try::Done(reply),
                Err(error) => Try::Again(error.to_string()),
            };
        }
        match self.leader_hint(leader) {
            Some(node) => self.forward(node, encoded).await,
            None => Try::Again("there is no leader".to_owned()),
        }
    }

    /// Whom to ask: the known leader, or, outside Raft, any voter; each try asks another one.
    fn leader_hint(&self, leader: Option<NodeId>) -> Option<NodeId> {
        let state = self.state.borrow();
        if state.is_in_raft(self.me) {
            return leader;
        }
        let others: Vec<NodeId> = state.membership.voters().into_iter().filter(|v| *v != self.me).collect();
        if others.is_empty() {
            return leader;
        }
        let turn = usize::try_from(clock::wall_now().0).unwrap_or_default() % others.len();
        Some(others[turn])
    }

    async fn forward(&self, node: NodeId, encoded: &Bytes) -> Try {
        let mut client = match self.peers.link(node) {
            Ok(client) => client,
            Err(error) => return Try::Again(error.to_string()),
        };
        let (sender, limit) = {
            let state = self.state.borrow();
            let limit = if state.is_in_raft(self.me) { FORWARD_TIMEOUT } else { VOTER_TIMEOUT };
            (sender(&state, self.me), limit)
        };
        let request = v1::ForwardRequest { sender: Some(sender), proposal: encoded.clone() };
        let answer = tokio::select! {
            answer = tokio::time::timeout(limit, client.forward(request)) => answer,
            // The one that was asked may be gone for good; its successor is asked the same again.
            () = self.office.deposed(node) => {
                self.peers.failed(node);
                return Try::Again(format!("node #{node} leads no longer"));
            }
        };
        match answer {
            Ok(Ok(reply)) => match muster_wire::reply_from_proto(reply.into_inner()) {
                Ok(reply) => Try::Done(reply),
                Err(error) => Try::Again(error.to_string()),
            },
            Ok(Err(status)) => {
                self.peers.failed(node);
                Try::Again(format!("node #{node}: {}", status.message()))
            }
            Err(_) => {
                self.peers.failed(node);
                Try::Again(format!("node #{node} did not answer within {} s", limit.as_secs()))
            }
        }
    }
}

/// Sets the stamp of an encoded proposal. In protobuf the last value of a scalar field counts, so it is
/// appended and nothing is decoded.
fn stamped(encoded: &Bytes, stamp: Stamp) -> Bytes {
    let mut bytes = Vec::with_capacity(encoded.len() + 11);
    bytes.extend_from_slice(encoded);
    bytes.push(STAMP_TAG);
    prost::encoding::encode_varint(stamp.0, &mut bytes);
    bytes.into()
}

impl Submit for Proposer {
    fn submit(&self, command: Command) -> BoxFuture<'_, Result<Reply, SubmitError>> {
        let actor = self.actor.clone();
        let proposal = Proposal { stamp: Stamp(0), request: RequestId::default(), actor, command };
        let encoded = muster_wire::encode_proposal(&proposal);
        Box::pin(async move { self.submit_encoded(&encoded, SUBMIT_TIMEOUT).await })
    }
}
