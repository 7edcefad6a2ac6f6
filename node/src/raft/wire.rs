//! Between openraft's types and their protobuf form, which is the same on the wire and on the disk.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use muster_proto::v1;
use openraft::EntryPayload;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, TransferLeaderError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use prost::Message;

use super::types::{
    Entry, LogId, Membership, Payload, Peer, StoredMembership, TypeConfig, Vote, log_id, position,
};
use crate::storage::Position;

/// A message or record that a correct peer of this version or an earlier one can't have written.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The bytes are not the message that they should be.
    #[error("it is not valid protobuf")]
    Protobuf(#[from] prost::DecodeError),
    /// A field that must be set is missing.
    #[error("the field '{0}' is missing")]
    Missing(&'static str),
    /// A voter has no address entry, or there are no voters.
    #[error("the membership contradicts itself: {0}")]
    Membership(String),
}

pub(crate) fn log_id_to_wire(id: &LogId) -> v1::RaftLogId {
    position_to_wire(position(id))
}

pub(crate) fn position_to_wire(at: Position) -> v1::RaftLogId {
    v1::RaftLogId { term: at.term, index: at.index }
}

pub(crate) fn log_id_from_wire(id: v1::RaftLogId) -> LogId {
    log_id(Position { term: id.term, index: id.index })
}

pub(crate) fn vote_to_wire(vote: &Vote) -> v1::RaftVote {
    let leader = vote.leader_id();
    v1::RaftVote { term: leader.term, node: leader.voted_for, committed: vote.is_committed() }
}

pub(crate) fn vote_from_wire(vote: v1::RaftVote) -> Vote {
    if vote.committed { Vote::new_committed(vote.term, vote.node) } else { Vote::new(vote.term, vote.node) }
}

pub(crate) fn membership_to_wire(membership: &Membership) -> v1::RaftMembership {
    let configs = membership.get_joint_config().iter();
    let peer = |peer: &Peer| v1::RaftPeer { name: peer.name.clone(), addresses: peer.addresses.clone() };
    v1::RaftMembership {
        configs: configs.map(|ids| v1::RaftVoterSet { ids: ids.iter().copied().collect() }).collect(),
        peers: membership.nodes().map(|(id, node)| (*id, peer(node))).collect(),
    }
}

pub(crate) fn membership_from_wire(membership: v1::RaftMembership) -> Result<Membership, WireError> {
    let configs: Vec<BTreeSet<u64>> =
        membership.configs.into_iter().map(|set| set.ids.into_iter().collect()).collect();
    let peer = |peer: v1::RaftPeer| Peer { name: peer.name, addresses: peer.addresses };
    let peers: BTreeMap<u64, Peer> =
        membership.peers.into_iter().map(|(id, node)| (id, peer(node))).collect();
    if configs.is_empty() && peers.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(configs, peers).map_err(|error| WireError::Membership(error.to_string()))
}

pub(crate) fn stored_membership_to_wire(stored: &StoredMembership) -> v1::RaftStoredMembership {
    v1::RaftStoredMembership {
        log_id: stored.log_id().as_ref().map(log_id_to_wire),
        membership: Some(membership_to_wire(stored.membership())),
    }
}

pub(crate) fn stored_membership_from_wire(
    stored: v1::RaftStoredMembership,
) -> Result<StoredMembership, WireError> {
    let membership = membership_from_wire(stored.membership.ok_or(WireError::Missing("membership"))?)?;
    Ok(StoredMembership::new(stored.log_id.map(log_id_from_wire), membership))
}

fn payload_to_wire(payload: EntryPayload<Payload, u64, Peer>) -> Option<v1::raft_entry::Payload> {
    match payload {
        EntryPayload::Blank => None,
        EntryPayload::Normal(Payload(command)) => Some(v1::raft_entry::Payload::Command(command)),
        EntryPayload::Membership(membership) => {
            Some(v1::raft_entry::Payload::Membership(membership_to_wire(&membership)))
        }
    }
}

fn payload_from_wire(
    payload: Option<v1::raft_entry::Payload>,
) -> Result<EntryPayload<Payload, u64, Peer>, WireError> {
    Ok(match payload {
        None => EntryPayload::Blank,
        Some(v1::raft_entry::Payload::Command(command)) => EntryPayload::Normal(Payload(command)),
        Some(v1::raft_entry::Payload::Membership(membership)) => {
            EntryPayload::Membership(membership_from_wire(membership)?)
        }
    })
}

/// An entry as the log keeps it: without its id, which the log's own record carries.
pub(crate) fn entry_to_disk(entry: Entry) -> (Position, Bytes) {
    let at = position(&entry.log_id);
    let content = v1::RaftEntry { id: None, payload: payload_to_wire(entry.payload) };
    (at, content.encode_to_vec().into())
}

pub(crate) fn entry_from_disk(at: Position, content: Bytes) -> Result<Entry, WireError> {
    let entry = v1::RaftEntry::decode(content)?;
    Ok(Entry { log_id: log_id(at), payload: payload_from_wire(entry.payload)? })
}

/// Whether the log's record holds a membership, and none of the two other things.
pub(crate) fn is_membership_on_disk(content: Bytes) -> Result<bool, WireError> {
    let entry = v1::RaftEntry::decode(content)?;
    Ok(matches!(entry.payload, Some(v1::raft_entry::Payload::Membership(_))))
}

pub(crate) fn append_to_wire(request: AppendEntriesRequest<TypeConfig>) -> v1::AppendRequest {
    let entry = |entry: Entry| v1::RaftEntry {
        id: Some(log_id_to_wire(&entry.log_id)),
        payload: payload_to_wire(entry.payload),
    };
    v1::AppendRequest {
        vote: Some(vote_to_wire(&request.vote)),
        previous: request.prev_log_id.as_ref().map(log_id_to_wire),
        committed: request.leader_commit.as_ref().map(log_id_to_wire),
        entries: request.entries.into_iter().map(entry).collect(),
    }
}

pub(crate) fn append_from_wire(
    request: v1::AppendRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, WireError> {
    let entry = |entry: v1::RaftEntry| {
        let id = entry.id.ok_or(WireError::Missing("entries.id"))?;
        Ok(Entry { log_id: log_id_from_wire(id), payload: payload_from_wire(entry.payload)? })
    };
    Ok(AppendEntriesRequest {
        vote: vote_from_wire(request.vote.ok_or(WireError::Missing("vote"))?),
        prev_log_id: request.previous.map(log_id_from_wire),
        leader_commit: request.committed.map(log_id_from_wire),
        entries: request.entries.into_iter().map(entry).collect::<Result<_, WireError>>()?,
    })
}

/// The answer to one append: how far the logs agree, or why not.
pub(crate) type AppendOutcome = Result<Option<LogId>, StreamAppendError<TypeConfig>>;

pub(crate) fn append_outcome_to_wire(outcome: AppendOutcome) -> v1::AppendResponse {
    use v1::append_response::Outcome;
    let outcome = match outcome {
        Ok(Some(matched)) => Outcome::Matched(log_id_to_wire(&matched)),
        Ok(None) => Outcome::Nothing(true),
        Err(StreamAppendError::Conflict(at)) => Outcome::Conflict(log_id_to_wire(&at)),
        Err(StreamAppendError::HigherVote(vote)) => Outcome::HigherVote(vote_to_wire(&vote)),
    };
    v1::AppendResponse { outcome: Some(outcome) }
}

pub(crate) fn append_outcome_from_wire(response: v1::AppendResponse) -> Result<AppendOutcome, WireError> {
    use v1::append_response::Outcome;
    Ok(match response.outcome.ok_or(WireError::Missing("outcome"))? {
        Outcome::Matched(id) => Ok(Some(log_id_from_wire(id))),
        Outcome::Nothing(_) => Ok(None),
        Outcome::Conflict(id) => Err(StreamAppendError::Conflict(log_id_from_wire(id))),
        Outcome::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote_from_wire(vote))),
    })
}

pub(crate) fn vote_request_to_wire(request: &VoteRequest<TypeConfig>, pre_vote: bool) -> v1::VoteRequest {
    v1::VoteRequest {
        vote: Some(vote_to_wire(&request.vote)),
        last_log: request.last_log_id.as_ref().map(log_id_to_wire),
        pre_vote,
        leader_transfer: request.leadership_transfer,
    }
}

pub(crate) fn vote_request_from_wire(
    request: &v1::VoteRequest,
) -> Result<VoteRequest<TypeConfig>, WireError> {
    let vote = vote_from_wire(request.vote.ok_or(WireError::Missing("vote"))?);
    let mut decoded = VoteRequest::new(vote, request.last_log.map(log_id_from_wire));
    decoded.leadership_transfer = request.leader_transfer;
    Ok(decoded)
}

pub(crate) fn vote_response_to_wire(response: &VoteResponse<TypeConfig>) -> v1::VoteResponse {
    v1::VoteResponse {
        vote: Some(vote_to_wire(&response.vote)),
        granted: response.vote_granted,
        last_log: response.last_log_id.as_ref().map(log_id_to_wire),
    }
}

pub(crate) fn vote_response_from_wire(
    response: v1::VoteResponse,
) -> Result<VoteResponse<TypeConfig>, WireError> {
    let vote = vote_from_wire(response.vote.ok_or(WireError::Missing("vote"))?);
    Ok(VoteResponse::new(vote, response.last_log.map(log_id_from_wire), response.granted))
}

pub(crate) fn transfer_to_wire(request: &TransferLeaderRequest<TypeConfig>) -> v1::TransferLeaderRequest {
    v1::TransferLeaderRequest {
        from_leader: Some(vote_to_wire(request.from_leader())),
        to: *request.to_node_id(),
        last_log: request.last_log_id().map(log_id_to_wire),
    }
}

pub(crate) fn transfer_from_wire(
    request: &v1::TransferLeaderRequest,
) -> Result<TransferLeaderRequest<TypeConfig>, WireError> {
    let from = vote_from_wire(request.from_leader.ok_or(WireError::Missing("from_leader"))?);
    Ok(TransferLeaderRequest::new(from, request.to, request.last_log.map(log_id_from_wire)))
}

pub(crate) fn transfer_response_to_wire(
    response: TransferLeaderResponse<TypeConfig>,
) -> v1::TransferLeaderResponse {
    use v1::transfer_leader_response::Outcome;
    let (outcome, flushed) = match response {
        Ok(()) => (Outcome::Accepted(true), None),
        Err(TransferLeaderError::VoteChanged { actual, .. }) => {
            (Outcome::VoteChanged(vote_to_wire(&actual)), None)
        }
        Err(TransferLeaderError::LogNotFlushed { actual, .. }) => {
            (Outcome::LogNotFlushed(true), actual.as_ref().map(log_id_to_wire))
        }
    };
    v1::TransferLeaderResponse { outcome: Some(outcome), flushed }
}

pub(crate) fn transfer_response_from_wire(
    response: v1::TransferLeaderResponse,
    request: &TransferLeaderRequest<TypeConfig>,
) -> Result<TransferLeaderResponse<TypeConfig>, WireError> {
    use v1::transfer_leader_response::Outcome;
    Ok(match response.outcome.ok_or(WireError::Missing("outcome"))? {
        Outcome::Accepted(_) => Ok(()),
        Outcome::VoteChanged(actual) => Err(TransferLeaderError::VoteChanged {
            expected: *request.from_leader(),
            actual: vote_from_wire(actual),
        }),
        Outcome::LogNotFlushed(_) => Err(TransferLeaderError::LogNotFlushed {
            expected: request.last_log_id().copied(),
            actual: response.flushed.map(log_id_from_wire),
        }),
    })
}
