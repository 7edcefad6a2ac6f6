//! What this node answers to its Raft peers.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use futures::{Stream, StreamExt};
use muster_core::id::NodeId;
use muster_proto::v1;
use muster_proto::v1::raft_server::{Raft as RaftRpc, RaftServer};
use muster_proto::v1::snapshot_part::Part;
use openraft::raft::StreamAppendError;
use prost::Message;
use tonic::{Request, Response, Status, Streaming};

use super::{Group, MAX_MESSAGE_BYTES, ORIGIN_KEY};
use crate::raft::contact::Contact;
use crate::raft::state_machine::{StateMachine, snapshot_of};
use crate::raft::types::TypeConfig;
use crate::raft::wire::{self, WireError};
use crate::security::principal::Caller;
use crate::storage::directory;
use crate::storage::snapshot::{Incoming, SnapshotFile, Snapshots};

type OpenRaft = openraft::Raft<TypeConfig, StateMachine>;

/// The gRPC service of this node's Raft, to be mounted on the agent's server.
pub struct RaftService {
    id: u64,
    group: Group,
    raft: OpenRaft,
    contact: Arc<Contact>,
    snapshots: Arc<Snapshots>,
    directory: PathBuf,
}

impl RaftService {
    pub(crate) fn new(
        id: u64,
        group: Group,
        raft: OpenRaft,
        contact: Arc<Contact>,
        snapshots: Arc<Snapshots>,
        directory: PathBuf,
    ) -> Self {
        Self { id, group, raft, contact, snapshots, directory }
    }

    /// The tonic service, with its limits.
    #[must_use]
    pub fn into_server(self) -> RaftServer<Self> {
        RaftServer::new(self)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Refuses peers of another cluster or incarnation, calls that are meant for another node, and nodes that speak as
    /// another one. Who speaks.
    fn check<T>(&self, request: &Request<T>) -> Result<u64, Status> {
        let refuse = |reason: String| Err(Status::failed_precondition(reason));
        let Some(value) = request.metadata().get_bin(ORIGIN_KEY).and_then(|value| value.to_bytes().ok())
        else {
            return refuse(format!("the call has no {ORIGIN_KEY}: it does not come from a Raft peer"));
        };
        let Ok(origin) = v1::RaftOrigin::decode(value) else {
            return refuse("the call's origin is not readable".into());
        };
        let expected = self.group.origin(origin.from, self.id);
        if origin.cluster_id != expected.cluster_id {
            return refuse(format!("node {} belongs to another cluster", origin.from));
        }
        if origin.incarnation != expected.incarnation {
            return refuse(format!(
                "node {} has incarnation {} of this cluster, this node has {}",
                origin.from, origin.incarnation, expected.incarnation
            ));
        }
        if origin.to != self.id {
            return refuse(format!("this is node {}, not node {}", self.id, origin.to));
        }
        let shown = request.extensions().get::<Caller>().and_then(|caller| caller.principal.node());
        if shown != Some(NodeId(origin.from)) {
            let who = shown.map_or_else(|| "somebody".to_owned(), |id| format!("node {id}"));
            return Err(Status::permission_denied(format!("{who} speaks as node {}", origin.from)));
        }
        Ok(origin.from)
    }

    async fn receive(
        &self,
        from: u64,
        parts: &mut Streaming<v1::SnapshotPart>,
    ) -> Result<(v1::RaftVote, SnapshotFile), Status> {
        let first = parts.message().await?.and_then(|message| message.part);
        let Some(Part::Opening(opening)) = first else {
            return Err(Status::invalid_argument("a snapshot begins with its opening"));
        };
        check_vote(from, opening.vote.as_ref())?;
        let vote = opening.vote.ok_or_else(|| bad(&WireError::Missing("vote")))?;
        let free = directory::free_bytes(&self.directory).unwrap_or(u64::MAX);
        if opening.size_bytes > free {
            let needed = opening.size_bytes;
            return Err(Status::resource_exhausted(format!(
                "the snapshot has {needed} bytes, {free} are free"
            )));
        }
        let mut incoming = self.snapshots.receive().map_err(|error| internal(&error))?;
        let mut received = 0;
        while let Some(message) = parts.message().await? {
            let Some(Part::Data(data)) = message.part else {
                return Err(Status::invalid_argument("a snapshot has one opening"));
            };
            received += data.len() as u64;
            if received > opening.size_bytes {
                return Err(Status::invalid_argument("the snapshot is larger than announced"));
            }
            incoming = blocking(move || incoming.write(&data).map(|()| incoming)).await?;
        }
        let file = blocking(move || Incoming::finish(incoming)).await?;
        Ok((vote, file))
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<v1::AppendResponse, Status>> + Send>>;

#[tonic::async_trait]
impl RaftRpc for RaftService {
    type AppendStream = Answers;

    async fn append(
        &self,
        request: Request<Streaming<v1::AppendRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let from = self.check(&request)?;
        // openraft takes a stream that can't fail: what ended it is handed over here.
        let ended = Arc::new(OnceLock::new());
        let problem = Arc::clone(&ended);
        let requests = request.into_inner().map(move |message| {
            let message = message?;
            check_vote(from, message.vote.as_ref())?;
            wire::append_from_wire(message).map_err(|error| bad(&error))
        });
        let requests = requests.scan((), move |(), request| {
            let request = request.map_err(|status| problem.get_or_init(|| status).clone()).ok();
            futures::future::ready(request)
        });
        let contact = Arc::clone(&self.contact);
        let answers = self.raft.clone().stream_append(requests).map(move |answer| match answer {
            Ok(outcome) => {
                // To a sender that has been superseded the answer is a higher vote.
                if !matches!(outcome, Err(StreamAppendError::HigherVote(_))) {
                    contact.heard();
                }
                Ok(wire::append_outcome_to_wire(outcome))
            }
            Err(fatal) => Err(internal(&fatal)),
        });
        let last = futures::stream::once(async move { ended.get().cloned() });
        let answers = answers.chain(last.filter_map(|status| async move { status.map(Err) }));
        Ok(Response::new(Box::pin(answers)))
    }

    async fn vote(&self, request: Request<v1::VoteRequest>) -> Result<Response<v1::VoteResponse>, Status> {
        let from = self.check(&request)?;
        let message = request.into_inner();
        check_vote(from, message.vote.as_ref())?;
        let decoded = wire::vote_request_from_wire(&message).map_err(|error| bad(&error))?;
        let response =
            if message.pre_vote { self.raft.pre_vote(decoded).await } else { self.raft.vote(decoded).await };
        let response = response.map_err(|error| internal(&error))?;
        Ok(Response::new(wire::vote_response_to_wire(&response)))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<v1::SnapshotPart>>,
    ) -> Result<Response<v1::SnapshotResponse>, Status> {
        let from = self.check(&request)?;
        let (vote, file) = self.receive(from, &mut request.into_inner()).await?;
        let snapshot = snapshot_of(Arc::new(file)).map_err(|error| internal(&error))?;
        let response = self.raft.install_full_snapshot(wire::vote_from_wire(vote), snapshot).await;
        let response = response.map_err(|error| internal(&error))?;
        Ok(Response::new(v1::SnapshotResponse { vote: Some(wire::vote_to_wire(&response.vote)) }))
    }

    async fn transfer_leader(
        &self,
        request: Request<v1::TransferLeaderRequest>,
    ) -> Result<Response<v1::TransferLeaderResponse>, Status> {
        let from = self.check(&request)?;
        let message = request.into_inner();
        check_vote(from, message.from_leader.as_ref())?;
        let decoded = wire::transfer_from_wire(&message).map_err(|error| bad(&error))?;
        let response = self.raft.handle_transfer_leader(decoded).await.map_err(|error| internal(&error))?;
        Ok(Response::new(wire::transfer_response_to_wire(response)))
    }
}

/// A candidate asks for itself, and a leader leads by its own vote.
fn check_vote(from: u64, vote: Option<&v1::RaftVote>) -> Result<(), Status> {
    match vote {
        Some(vote) if vote.node != from => {
            Err(Status::permission_denied(format!("node {from} speaks with the vote of node {}", vote.node)))
        }
        // What is missing is told by name when it is decoded.
        Some(_) | None => Ok(()),
    }
}

fn bad(error: &WireError) -> Status {
    Status::invalid_argument(error.to_string())
}

fn internal(error: &dyn std::error::Error) -> Status {
    Status::internal(error.to_string())
}

/// Runs file work away from the threads that serve the network.
async fn blocking<T, E, F>(work: F) -> Result<T, Status>
where
    T: Send + 'static,
    E: std::error::Error + Send + 'static,
    F: FnOnce() -> Result<T, E> + Send + 'static,
{
    match crate::blocking::run(work).await {
        Ok(outcome) => outcome.map_err(|error| internal(&error)),
        Err(panic) => Err(internal(&panic)),
    }
}
