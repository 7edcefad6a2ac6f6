//! What this node says to its Raft peers, over gRPC.

mod append;
mod heartbeat;
pub mod link;
pub mod server;
mod snapshot;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use muster_proto::v1;
use muster_proto::v1::raft_client::RaftClient;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{RPCOption, RPCTypes};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use prost::Message;
use tonic::metadata::BinaryMetadataValue;
use tonic::transport::Channel;

use self::link::{Link, Links};
use super::state_machine::Snapshot;
use super::types::{Peer, TypeConfig, Vote};
use super::wire::{self, WireError};
use crate::security::dial::Dial;
use crate::storage::snapshot::SnapshotFile;

/// The largest message between peers: a batch of entries, which is cut at 1 MiB unless a single command is
/// larger, with room to spare.
pub const MAX_MESSAGE_BYTES: usize = 8 << 20;
/// The metadata key under which every call carries its origin.
const ORIGIN_KEY: &str = "muster-origin-bin";

/// Which Raft group a node belongs to: peers of another one are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// The cluster's identity.
    pub cluster_id: u128,
    /// The cluster's incarnation.
    pub incarnation: u64,
}

impl Group {
    fn origin(self, from: u64, to: u64) -> v1::RaftOrigin {
        let cluster_id = Bytes::copy_from_slice(&self.cluster_id.to_be_bytes());
        v1::RaftOrigin { cluster_id, incarnation: self.incarnation, from, to }
    }
}

/// Makes clients to peers.
pub(crate) struct Network {
    id: u64,
    group: Group,
    /// How long an answer to an append may take before its stream is given up.
    append_patience: Duration,
    /// How long to wait after a failed connection before openraft may try again.
    reconnect_pause: Duration,
    links: Arc<Links>,
}

impl Network {
    pub(crate) fn new(
        id: u64,
        group: Group,
        timing: &muster_core::time::Timing,
        dialer: Arc<dyn Dial>,
    ) -> Self {
        Self {
            id,
            group,
            append_patience: Duration::from_millis(u64::from(timing.raft_election_max_ms)),
            reconnect_pause: Duration::from_millis(u64::from(timing.raft_heartbeat_ms)),
            links: Arc::new(Links::new(dialer)),
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Client;

    async fn new_heartbeat_client(&mut self, target: u64, node: &Peer) -> Client {
        let client = self.new_client(target, node).await;
        Client { beats: true, ..client }
    }

    async fn new_client(&mut self, target: u64, node: &Peer) -> Client {
        let origin = self.group.origin(self.id, target).encode_to_vec();
        Client {
            id: self.id,
            target,
            origin: BinaryMetadataValue::from_bytes(&origin),
            append_patience: self.append_patience,
            reconnect_pause: self.reconnect_pause,
            link: self.links.link(target, node),
            beats: false,
            line: None,
        }
    }
}

/// Talks to one peer.
pub(crate) struct Client {
    id: u64,
    target: u64,
    origin: BinaryMetadataValue,
    append_patience: Duration,
    reconnect_pause: Duration,
    link: Arc<Link>,
    /// Whether this client sends heartbeats and nothing else.
    beats: bool,
    /// The stream that carries them.
    line: Option<heartbeat::Line>,
}

impl Client {
    /// A client on the address that is used now, with the address's number.
    fn client(&self) -> Result<(usize, RaftClient<Channel>), Unreachable<TypeConfig>> {
        let (number, channel) = self
            .link
            .channel()
            .ok_or_else(|| Unreachable::from_string(format!("node {} has no usable address", self.target)))?;
        let client = RaftClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Ok((number, client))
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert_bin(ORIGIN_KEY, self.origin.clone());
        request
    }

    /// Waits for a call, for `limit` at most, and moves on to the peer's next address when it fails.
    async fn within<T>(
        &self,
        limit: Duration,
        action: RPCTypes,
        number: usize,
        call: impl Future<Output = Result<T, tonic::Status>>,
    ) -> Result<T, RPCError<TypeConfig>> {
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(status)) => {
                self.link.failed(number);
                Err(RPCError::Unreachable(self.refused(&status)))
            }
            Err(_) => {
                self.link.failed(number);
                Err(RPCError::Timeout(Timeout { action, id: self.id, target: self.target, timeout: limit }))
            }
        }
    }

    fn refused(&self, status: &tonic::Status) -> Unreachable<TypeConfig> {
        Unreachable::from_string(format!("node {}: {}: {}", self.target, status.code(), status.message()))
    }

    fn malformed(&self, error: &WireError) -> RPCError<TypeConfig> {
        RPCError::Unreachable(Unreachable::from_string(format!("node {} answered: {error}", self.target)))
    }

    async fn ask_for_vote(
        &self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
        pre_vote: bool,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let (number, mut client) = self.client()?;
        let message = self.request(wire::vote_request_to_wire(&request, pre_vote));
        let call = client.vote(message);
        let response = self.within(option.soft_ttl(), RPCTypes::Vote, number, call).await?;
        wire::vote_response_from_wire(response.into_inner()).map_err(|error| self.malformed(&error))
    }
}

impl RaftNetworkV2<TypeConfig> for Client {
    type SnapshotData = Arc<SnapshotFile>;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        append::once(self, request, option).await
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<
            BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>,
            RPCError<TypeConfig>,
        >,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        if self.beats {
            return Box::pin(heartbeat::beat(self, input, option));
        }
        Box::pin(append::stream(self, input, option))
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_for_vote(request, option, false).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_for_vote(request, option, true).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        snapshot::send(self, vote, snapshot.snapshot, cancel, option).await
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let (number, mut client) = self.client()?;
        let message = self.request(wire::transfer_to_wire(&request));
        let call = client.transfer_leader(message);
        let response = self.within(option.soft_ttl(), RPCTypes::TransferLeader, number, call).await?;
        wire::transfer_response_from_wire(response.into_inner(), &request)
            .map_err(|error| self.malformed(&error))
    }
}
