//! The agent's gRPC server: the operator's API, the agents' link and Raft, on TCP and on a Unix socket.
//!
//! Handlers are thin: they find out who answers ([`route`]), turn messages into commands and states into
//! messages, and leave every decision to the core.
//!
//! ```text
//!   Cluster ─┬─ reads ──▶ leader (route) ──▶ view, planner ──▶ message
//!            └─ writes ─▶ command ──▶ Proposer ──▶ reply or refusal (status)
//!   NodeLink ── forward, follow, renew, ages, promises        Joining ── join, without a certificate
//! ```
//! **Architecture invariant:** nothing here knows the controller or the agent, only their handles.

mod audit;
mod caller;
mod certificates;
mod cluster;
mod convert;
mod follow;
mod forward;
pub mod joining;
mod link;
mod logs;
mod nodes;
pub(crate) mod planner;
mod plans;
mod reach;
mod reads;
pub mod remedy;
mod removal;
mod route;
mod said;
mod secrets;
mod services;
pub mod status;
mod tokens;
mod view;
mod watch;
mod writes;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use muster_core::state::State;
use muster_core::time::Stamp;
use muster_proto::v1;
use muster_proto::v1::cluster_server::ClusterServer;
use muster_proto::v1::joining_server::JoiningServer;
use muster_proto::v1::node_link_server::NodeLinkServer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use crate::handles::Handles;
use crate::peers::MAX_MESSAGE_BYTES;
use crate::raft::RaftService;
use crate::security::principal::Caller;
pub(crate) use caller::FORWARDED_KEY;
use status::ApiError;

/// The largest message of an operator, in bytes: a few thousand services.
const MAX_OPERATOR_MESSAGE_BYTES: usize = 4 << 20;
/// The largest message of a host that asks to join, in bytes: it has no certificate yet.
const MAX_JOIN_MESSAGE_BYTES: usize = 64 << 10;
/// The largest list of headers, in bytes.
const MAX_HEADER_BYTES: u32 = 16 << 10;
/// How many calls one connection may have under way: a follower passes all of its clients' writes on over one.
const CALLS_PER_CONNECTION: u32 = 1024;
/// How many streams (watch, logs) this agent serves at once; each holds a task and a small queue.
const MAX_STREAMS: usize = 1024;
/// How many nodes outside Raft may follow this agent at once. Places of their own: else whoever may watch could keep
/// every worker from the state by watching often enough.
const MAX_FOLLOWERS: usize = 1024;
/// How long a client may be silent before it is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// How long it may take to say so.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long calls under way may take to end when the agent stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// A stream of answers.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What the handlers share.
struct Api {
    handles: Handles,
    /// Ends all streams.
    stop: CancellationToken,
    streams: Arc<Semaphore>,
    followers: Arc<Semaphore>,
    /// Whoever makes a key of the secrets.
    secret_key_turn: tokio::sync::Mutex<()>,
    /// Which voters answered last.
    reach: tokio::sync::Mutex<Option<reach::Reach>>,
}

impl Api {
    fn new(handles: Handles, stop: CancellationToken) -> Self {
        let streams = Arc::new(Semaphore::new(MAX_STREAMS));
        let followers = Arc::new(Semaphore::new(MAX_FOLLOWERS));
        let (secret_key_turn, reach) = Default::default();
        Self { handles, stop, streams, followers, secret_key_turn, reach }
    }

    /// The newest state that this node has applied.
    fn state(&self) -> Arc<State> {
        self.handles.published.state.borrow().clone()
    }

    /// Thinks on a thread that may take its time, so that no other call has to wait for it.
    async fn think<T: Send + 'static>(
        &self,
        state: Arc<State>,
        think: impl FnOnce(&State, Stamp) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let now = self.handles.proposer.now(&state);
        let thought = crate::blocking::run(move || think(&state, now)).await;
        thought.unwrap_or_else(|error| Err(ApiError::Internal(error.to_string())))
    }

    /// A place among the streams that may be open at once; it is held until it is dropped.
    fn stream_place(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let place = Arc::clone(&self.streams).try_acquire_owned();
        place.map_err(|_| ApiError::TooManyStreams { limit: MAX_STREAMS })
    }

    /// The same among the nodes that follow.
    fn follower_place(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let place = Arc::clone(&self.followers).try_acquire_owned();
        place.map_err(|_| ApiError::TooManyStreams { limit: MAX_FOLLOWERS })
    }
}

/// Serves connections whose callers are known until `shutdown`. Errors of single connections end those.
pub async fn serve<C>(
    handles: Handles,
    incoming: impl Stream<Item = io::Result<C>>,
    unix: Option<UnixListener>,
    raft_service: RaftService,
    shutdown: CancellationToken,
) where
    C: AsyncRead + AsyncWrite + Connected<ConnectInfo = Caller> + Send + Unpin + 'static,
{
    let gate = handles.gate.clone();
    let api = Arc::new(Api::new(handles, shutdown.clone()));
    let tcp = server()
        .layer(gate.clone())
        .add_service(cluster_service(&api))
        .add_service(link_service(&api))
        .add_service(joining_service(&api))
        .add_service(raft_service.into_server())
        .serve_with_incoming_shutdown(incoming, shutdown.clone().cancelled_owned());
    let local = async {
        let Some(listener) = unix else { return Ok(()) };
        server()
            .layer(gate)
            .add_service(cluster_service(&api))
            .add_service(link_service(&api))
            .serve_with_incoming_shutdown(
                UnixListenerStream::new(listener),
                shutdown.clone().cancelled_owned(),
            )
            .await
    };
    let both = async {
        let (tcp, local) = tokio::join!(tcp, local);
        for error in [tcp.err(), local.err()].into_iter().flatten() {
            tracing::error!(%error, "the API's server ended");
        }
    };
    let overdue = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN_TIMEOUT).await;
    };
    tokio::select! {
        () = both => {}
        () = overdue => tracing::debug!("calls under way were cut off"),
    }
}

/// The cluster as this node knows it, without asking the leader.
pub(crate) async fn local_status(handles: &Handles) -> v1::ClusterStatus {
    let api = Api::new(handles.clone(), CancellationToken::new());
    api.status(&api.state(), true).await
}

fn server() -> Server {
    Server::builder()
        .max_concurrent_streams(CALLS_PER_CONNECTION)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(Some(MAX_HEADER_BYTES))
}

fn joining_service(api: &Arc<Api>) -> JoiningServer<Api> {
    JoiningServer::from_arc(Arc::clone(api)).max_decoding_message_size(MAX_JOIN_MESSAGE_BYTES)
}

fn cluster_service(api: &Arc<Api>) -> ClusterServer<Api> {
    // Answers are larger than questions: a status of a thousand nodes and five thousand services.
    ClusterServer::from_arc(Arc::clone(api))
        .max_decoding_message_size(MAX_OPERATOR_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

fn link_service(api: &Arc<Api>) -> NodeLinkServer<Api> {
    NodeLinkServer::from_arc(Arc::clone(api))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}
