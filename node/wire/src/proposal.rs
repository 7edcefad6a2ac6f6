//! Log entries: a proposal and its bytes.

mod fast;
pub(crate) mod redact;

use bytes::Bytes;
use muster_core::audit::Actor;
use muster_core::command::Proposal;
use muster_core::id::RequestId;
use muster_core::time::Stamp;
use muster_proto::v1;
use prost::Message;

use crate::audit::{role_from_proto, role_to_proto};
use crate::command::{command_from_proto, command_to_proto};
use crate::error::{DecodeError, required};

/// The bytes that stand in the log.
#[must_use]
pub fn encode_proposal(proposal: &Proposal) -> Bytes {
    match fast::encode(proposal) {
        Some(bytes) => bytes,
        None => proposal_to_proto(proposal).encode_to_vec().into(),
    }
}

/// The proposal of a log entry.
///
/// # Errors
/// [`DecodeError::UnknownCommand`] when a newer version wrote it: the agent stops then. Others name the field.
pub fn decode_proposal(bytes: &[u8]) -> Result<Proposal, DecodeError> {
    let proposal = v1::Proposal::decode(bytes)
        .map_err(|source| DecodeError::Malformed { message: "log entry", source })?;
    proposal_from_proto(proposal)
}

/// A proposal as a message.
#[must_use]
pub fn proposal_to_proto(proposal: &Proposal) -> v1::Proposal {
    v1::Proposal {
        stamp_ms: proposal.stamp.0,
        request: Some(request_to_proto(proposal.request)),
        actor: proposal.actor.name.clone(),
        actor_role: role_to_proto(proposal.actor.role).into(),
        actor_from: proposal.actor.from.clone(),
        actor_via: proposal.actor.via.clone(),
        command: Some(command_to_proto(&proposal.command)),
    }
}

/// A proposal of a message.
///
/// # Errors
/// As [`decode_proposal`].
pub fn proposal_from_proto(proposal: v1::Proposal) -> Result<Proposal, DecodeError> {
    let command = proposal.command.ok_or(DecodeError::UnknownCommand)?;
    Ok(Proposal {
        stamp: Stamp(proposal.stamp_ms),
        request: request_from_proto(required(proposal.request, "proposal.request")?),
        actor: Actor {
            name: proposal.actor,
            role: role_from_proto(proposal.actor_role, "proposal.actor_role")?,
            from: proposal.actor_from,
            via: proposal.actor_via,
        },
        command: command_from_proto(command)?,
    })
}

/// A request's identity as a message.
#[must_use]
pub fn request_to_proto(request: RequestId) -> v1::RequestId {
    v1::RequestId { client: request.client, seq: request.seq }
}

/// A request's identity of a message.
#[must_use]
pub fn request_from_proto(request: v1::RequestId) -> RequestId {
    RequestId { client: request.client, seq: request.seq }
}
