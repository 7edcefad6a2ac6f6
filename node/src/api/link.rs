//! What agents ask of each other.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_core::audit::Actor;
use muster_core::command::{Command, NewCertificate, Proposal};
use muster_core::id::{CertificateId, MembershipId, NodeId, Reopens, RequestId, Revision, SessionId};
use muster_core::lease::voter::{AgentHeard, CloseRequest, Refusal as NoPromise};
use muster_proto::v1;
use muster_proto::v1::node_link_server::NodeLink;
use muster_tls::Subject;
use tonic::{Request, Response, Status};

use super::caller::Caller;
use super::said::asked;
use super::status::ApiError;
use super::{Answers, Api};
use crate::peers::sender;
use crate::raft::{ProposeError, Role};
use crate::security::issue;
use crate::security::principal::Principal;

/// The longest that a voter waits for a session's age before it refuses a promise.
const LONGEST_PROMISE_WAIT: Duration = Duration::from_millis(200);
/// How long what still runs on a host that leaves may take to stop; the host has been drained before.
const LEAVE_GRACE: Duration = Duration::from_secs(30);

#[tonic::async_trait]
impl NodeLink for Api {
    type FollowStream = Answers<v1::FollowItem>;

    async fn forward(
        &self,
        request: Request<v1::ForwardRequest>,
    ) -> Result<Response<v1::StoredReply>, Status> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        self.check_member(&caller, request.sender.as_ref())?;
        // An entry that can't be decoded would stop every agent.
        let proposal = muster_wire::decode_proposal(&request.proposal).map_err(ApiError::from)?;
        let actor = self.check_forwarded(&caller, &proposal.command)?;
        let encoded = match actor.filter(|actor| *actor != proposal.actor) {
            Some(actor) => muster_wire::encode_proposal(&Proposal { actor, ..proposal }),
            None => request.proposal,
        };
        match self.handles.proposer.propose_here(&encoded).await {
            Ok(reply) => Ok(Response::new(muster_wire::reply_to_proto(&reply))),
            Err(error) => Err(self.not_proposed(error).into()),
        }
    }

    async fn follow(
        &self,
        request: Request<v1::FollowRequest>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        self.check_sender(&caller, request.sender.as_ref())?;
        self.follow_here(Revision(request.after_revision)).map(Response::new)
    }

    async fn lease_ages(
        &self,
        request: Request<v1::LeaseAgesRequest>,
    ) -> Result<Response<v1::LeaseAgesReply>, Status> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        self.check_sender(&caller, request.sender.as_ref())?;
        let release: BTreeSet<SessionId> = request.release.iter().copied().map(SessionId).collect();
        self.handles.acks.set_release(&release);
        let wanted: BTreeSet<u64> = request.sessions.into_iter().collect();
        let reports = self.handles.acks.ages();
        let micros = |age: Duration| u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
        let ages = reports.sessions.iter().filter(|r| wanted.is_empty() || wanted.contains(&r.session.0));
        let ages = ages.map(|report| v1::LeaseAge {
            session: report.session.0,
            age_us: micros(report.age),
            promised: report.promised.map(|reopens| reopens.0),
            seq: report.seq,
            agent_absent_us: match report.agent {
                AgentHeard::Nothing => None,
                AgentHeard::Present => Some(0),
                // Zero is the word for an agent that is there.
                AgentHeard::Absent(time) => Some(micros(time).max(1)),
            },
        });
        Ok(Response::new(v1::LeaseAgesReply {
            voter: reports.voter.0,
            ages: ages.collect(),
            boot: reports.boot.0,
        }))
    }

    async fn promise_close(
        &self,
        request: Request<v1::PromiseCloseRequest>,
    ) -> Result<Response<v1::PromiseCloseReply>, Status> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        self.check_sender(&caller, request.sender.as_ref())?;
        let close = CloseRequest {
            session: SessionId(request.session),
            membership: MembershipId(request.membership),
            reopens: Reopens(request.reopens),
        };
        let patience = Duration::from_millis(u64::from(request.wait_ms)).min(LONGEST_PROMISE_WAIT);
        let mut result = self.handles.acks.promise(close);
        if let Err(NoPromise::TooYoung { wait }) = result
            && wait <= patience
        {
            tokio::time::sleep(wait).await;
            result = self.handles.acks.promise(close);
        }
        let voter = self.handles.me.0;
        Ok(Response::new(match result {
            Ok(promise) => v1::PromiseCloseReply { voter, boot: Some(promise.boot.0), ..Default::default() },
            Err(refusal) => v1::PromiseCloseReply {
                voter,
                boot: None,
                refusal: refusal.to_string(),
                wait_us: wait_of(refusal).and_then(|wait| u64::try_from(wait.as_micros()).ok()),
            },
        }))
    }

    async fn relay_fenced(
        &self,
        request: Request<v1::RelayFencedRequest>,
    ) -> Result<Response<v1::RelayFencedReply>, Status> {
        let caller = Caller::of(&request);
        let mut request = request.into_inner();
        self.check_member(&caller, request.sender.as_ref())?;
        let raft = self.handles.raft.status();
        if raft.role == Role::Leader {
            // A full queue drops it: the guard repeats its proof every heartbeat.
            let _queued = self.handles.fenced.try_send(SessionId(request.session));
            return Ok(Response::new(v1::RelayFencedReply {}));
        }
        let leader =
            raft.leader.map(NodeId).filter(|_| !caller.forwarded).ok_or_else(|| self.not_leader())?;
        request.sender = Some(sender(&self.state(), self.handles.me));
        let mut link =
            self.handles.peers.link(leader).map_err(|error| Status::unavailable(error.to_string()))?;
        link.relay_fenced(caller.forward(request)).await
    }

    async fn renew(
        &self,
        request: Request<v1::RenewRequest>,
    ) -> Result<Response<v1::IssuedCertificate>, Status> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        self.check_member(&caller, request.sender.as_ref())?;
        let node = caller.node()?;
        let actor = Actor { via: self.handles.name.to_string(), ..Actor::agent(&self.state().name_of(node)) };
        let actor = Actor { from: caller.note.actor.from.clone(), ..actor };
        let actor = Caller { actor, ..caller };
        let command = Command::IssueCertificate(NewCertificate::Node { node, token_hash: None });
        let reply = self.submit(&actor, RequestId::default(), command).await?;
        let state = self.state_at(&actor, reply.revision).await?;
        let ends = state.nodes.get(&node).map_or(state.now, |node| node.certificates.ends);
        let id = CertificateId(reply.revision.0);
        let issued = issue::issue(&state, &request.certificate_request, Subject::Node(node), id, ends);
        Ok(Response::new(issue::issued_to_proto(&issued.map_err(ApiError::from)?)))
    }

    async fn get_secrets(
        &self,
        request: Request<v1::GetSecretsRequest>,
    ) -> Result<Response<v1::GetSecretsReply>, Status> {
        let (caller, request) = asked(request);
        self.check_member(&caller, request.sender.as_ref())?;
        Ok(Response::new(self.secrets_for(&caller, request).await?))
    }

    async fn get_secret_key(
        &self,
        request: Request<v1::GetSecretKeyRequest>,
    ) -> Result<Response<v1::GetSecretKeyReply>, Status> {
        let (caller, request) = asked(request);
        self.check_member(&caller, request.sender.as_ref())?;
        Ok(Response::new(self.secret_key_for(&caller, &request)?))
    }

    async fn leave(&self, request: Request<v1::LeaveRequest>) -> Result<Response<v1::LeaveReply>, Status> {
        if !matches!(Caller::of(&request).who, Principal::Local { .. }) {
            return Err(ApiError::LocalOnly("leaving the cluster").into());
        }
        let left = self.handles.agent.leave(LEAVE_GRACE).await;
        left.map_err(|error| ApiError::Internal(format!("the guard did not end its session: {error}")))?;
        Ok(Response::new(v1::LeaveReply {}))
    }
}

impl Api {
    /// [`Api::check_sender`], and the node has not left.
    fn check_member(&self, caller: &Caller, sender: Option<&v1::Sender>) -> Result<(), ApiError> {
        self.check_sender(caller, sender)?;
        let node = sender.map(|s| NodeId(s.node)).unwrap_or_default();
        if self.state().nodes.contains_key(&node) {
            return Ok(());
        }
        Err(ApiError::OtherCluster(format!("node #{node} is not part of this cluster: it was removed")))
    }

    fn not_proposed(&self, error: ProposeError) -> ApiError {
        match error {
            ProposeError::NotLeader { leader } => {
                ApiError::NotLeader { me: self.handles.name.to_string(), leader }
            }
            ProposeError::Retry | ProposeError::TimedOut => ApiError::NoLeader(error.to_string()),
            ProposeError::TooLarge { .. } => ApiError::Invalid(error.to_string()),
            ProposeError::Fatal { .. } => ApiError::Internal(error.to_string()),
        }
    }
}

fn wait_of(refusal: NoPromise) -> Option<Duration> {
    match refusal {
        NoPromise::TooYoung { wait } => Some(wait),
        _ => None,
    }
}
