//! What agents ask of each other.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_core::command::{AddNode, Command};
use muster_core::id::{MembershipId, NodeId, NodeName, Reopens, Revision, SessionId};
use muster_core::lease::voter::{CloseRequest, Refusal as NoPromise};
use muster_core::refusal::Refusal;
use muster_core::state::State;
use muster_core::state::apply::ReplyValue;
use muster_core::state::node::{LostCause, Node};
use muster_proto::v1;
use muster_proto::v1::node_link_server::NodeLink;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Response, Status};

use super::caller::Caller;
use super::route::{Answer, Kind};
use super::status::ApiError;
use super::{Answers, Api, convert};
use crate::peers::sender;
use crate::raft::{ProposeError, Role};
use crate::token;

/// The longest that a voter waits for a session's age before it refuses a promise.
const LONGEST_PROMISE_WAIT: Duration = Duration::from_millis(200);
/// How long what still runs on a host that leaves may take to stop; the host has been drained before.
const LEAVE_GRACE: Duration = Duration::from_secs(30);

#[tonic::async_trait]
impl NodeLink for Api {
    type FollowStream = Answers<v1::FollowItem>;

    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinReply>, Status> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let answer = self.route(&caller, Kind::Act, |node| {
            let link = self.handles.peers.link(node);
            let message = caller.forward(request.clone());
            async move {
                let mut link = link.map_err(|error| Status::unavailable(error.to_string()))?;
                link.join(message).await
            }
        });
        match answer.await? {
            Answer::There(response) => Ok(response),
            Answer::Here(_) => Ok(Response::new(self.join_here(&caller, request).await?)),
        }
    }

    async fn forward(
        &self,
        request: Request<v1::ForwardRequest>,
    ) -> Result<Response<v1::StoredReply>, Status> {
        let request = request.into_inner();
        self.check_member(request.sender.as_ref())?;
        // An entry that can't be decoded would stop every agent.
        muster_wire::decode_proposal(&request.proposal).map_err(ApiError::from)?;
        match self.handles.proposer.propose_here(&request.proposal).await {
            Ok(reply) => Ok(Response::new(muster_wire::reply_to_proto(&reply))),
            Err(error) => Err(self.not_proposed(error).into()),
        }
    }

    async fn follow(
        &self,
        request: Request<v1::FollowRequest>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let request = request.into_inner();
        self.check_sender(request.sender.as_ref())?;
        self.follow_here(Revision(request.after_revision)).map(Response::new)
    }

    async fn lease_ages(
        &self,
        request: Request<v1::LeaseAgesRequest>,
    ) -> Result<Response<v1::LeaseAgesReply>, Status> {
        let request = request.into_inner();
        self.check_sender(request.sender.as_ref())?;
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
            agent_absent_us: micros(report.agent_absent),
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
        let request = request.into_inner();
        self.check_sender(request.sender.as_ref())?;
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
        self.check_member(request.sender.as_ref())?;
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

    async fn leave(&self, request: Request<v1::LeaveRequest>) -> Result<Response<v1::LeaveReply>, Status> {
        if request.extensions().get::<UdsConnectInfo>().is_none() {
            return Err(ApiError::LocalOnly("leaving the cluster").into());
        }
        let left = self.handles.agent.leave(LEAVE_GRACE).await;
        left.map_err(|error| ApiError::Internal(format!("the guard did not end its session: {error}")))?;
        Ok(Response::new(v1::LeaveReply {}))
    }
}

impl Api {
    /// On the leader: adds the node, once for each request id.
    async fn join_here(&self, caller: &Caller, request: v1::JoinRequest) -> Result<v1::JoinReply, ApiError> {
        if !token::is_well_formed(&request.token) {
            return Err(Refusal::TokenUnknown.into());
        }
        let name = convert::node_name(&request.name)?;
        let description =
            muster_wire::description_from_proto(convert::required(request.description, "description")?);
        if description.addresses.is_empty() {
            return Err(ApiError::Invalid(format!("node {name} has no address to be reached at")));
        }
        let role = muster_wire::role_from_proto(request.role)?;
        let command = Command::AddNode(AddNode {
            name: name.clone(),
            description,
            role,
            token_hash: token::hash(&request.token),
        });
        let actor = Caller { actor: format!("joining node {name}"), ..caller.clone() };
        let joined = self.submit(&actor, convert::request_id(request.request), command).await;
        let reply = joined.map_err(|error| self.name_taken(&name, error))?;
        let ReplyValue::Node(id) = reply.value else {
            return Err(ApiError::Internal("the answer to a join names no node".to_owned()));
        };
        let state = self.state();
        let cluster = state.cluster.as_ref().ok_or(Refusal::NoCluster)?;
        let role = state.nodes.get(&id).map_or(role, |node| node.role);
        Ok(v1::JoinReply {
            cluster_id: cluster.id.0.to_be_bytes().to_vec().into(),
            cluster_name: cluster.name.clone(),
            incarnation: cluster.incarnation.0,
            node: id.0,
            timing: Some(muster_wire::timing_to_proto(&cluster.timing)),
            peers: peers_for(&state, id),
            role: muster_wire::role_to_proto(role).into(),
        })
    }

    /// The name of a host that is lost is most likely this very host, installed anew.
    fn name_taken(&self, name: &NodeName, error: ApiError) -> ApiError {
        let is_taken = error.code() == Refusal::NodeNameTaken(name.clone()).code();
        let is_lost = |node: &Node| matches!(node.lost, Some(lost) if lost.cause != LostCause::Joining);
        if is_taken && self.state().node_named(name.as_str()).is_some_and(is_lost) {
            return ApiError::NameOfLostNode(name.to_string());
        }
        error
    }

    /// [`Api::check_sender`], and the node has not left.
    fn check_member(&self, sender: Option<&v1::Sender>) -> Result<(), ApiError> {
        self.check_sender(sender)?;
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

/// Whom a new node may ask: the voters, then the standbys.
fn peers_for(state: &State, joined: NodeId) -> Vec<v1::Peer> {
    let members = state.membership.voters().into_iter().chain(state.standbys.iter().copied());
    let nodes = members.filter(|id| *id != joined).filter_map(|id| state.nodes.get(&id));
    nodes
        .map(|node| v1::Peer {
            node: node.id.0,
            name: node.name.to_string(),
            addresses: node.description.addresses.clone(),
        })
        .collect()
}

fn wait_of(refusal: NoPromise) -> Option<Duration> {
    match refusal {
        NoPromise::TooYoung { wait } => Some(wait),
        _ => None,
    }
}
