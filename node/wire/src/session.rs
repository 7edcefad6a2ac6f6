//! Sessions: how they are opened and closed.

use bytes::Bytes;
use muster_core::command::{CloseSession, OpenSession, SessionKey};
use muster_core::id::{BootId, Generation, MembershipId, NodeId, Reopens, SessionId};
use muster_core::spec::Enforcement;
use muster_proto::v1;

use crate::error::{DecodeError, fixed, known, required};
use crate::plan::{plan_from_proto, plan_to_proto};
use crate::slot::{slot_from_proto, slot_to_proto};

/// An enforcement as a message.
#[must_use]
pub fn enforcement_to_proto(enforcement: Enforcement) -> v1::Enforcement {
    match enforcement {
        Enforcement::User => v1::Enforcement::User,
        Enforcement::Kernel => v1::Enforcement::Kernel,
    }
}

/// An enforcement of a message.
///
/// # Errors
/// [`DecodeError::UnknownValue`].
pub fn enforcement_from_proto(enforcement: i32) -> Result<Enforcement, DecodeError> {
    Ok(match known::<v1::Enforcement>(enforcement, "enforcement")? {
        v1::Enforcement::User => Enforcement::User,
        v1::Enforcement::Kernel => Enforcement::Kernel,
    })
}

pub(crate) fn key_to_bytes(key: SessionKey) -> Bytes {
    Bytes::copy_from_slice(&key.0)
}

/// No bytes at all mean that the key was left out for a reader that is not a voter: it sees the empty key.
pub(crate) fn key_from_bytes(bytes: &Bytes, field: &'static str) -> Result<SessionKey, DecodeError> {
    if bytes.is_empty() { Ok(SessionKey::default()) } else { fixed(bytes, field).map(SessionKey) }
}

pub(crate) fn open_to_proto(open: &OpenSession) -> v1::OpenSession {
    let entry = |(slot, generation): &(_, Generation)| v1::InventoryEntry {
        slot: Some(slot_to_proto(slot)),
        generation: generation.0,
    };
    v1::OpenSession {
        node: open.node.0,
        guard_boot: open.guard_boot.0,
        key: key_to_bytes(open.key),
        inventory: open.inventory.iter().map(entry).collect(),
        enforcement: enforcement_to_proto(open.enforcement).into(),
    }
}

pub(crate) fn open_from_proto(open: v1::OpenSession) -> Result<OpenSession, DecodeError> {
    let entry = |entry: v1::InventoryEntry| {
        let slot = slot_from_proto(entry.slot, "open_session.inventory.slot")?;
        Ok((slot, Generation(entry.generation)))
    };
    Ok(OpenSession {
        node: NodeId(open.node),
        guard_boot: BootId(open.guard_boot),
        key: key_from_bytes(&open.key, "open_session.key")?,
        inventory: open.inventory.into_iter().map(entry).collect::<Result<_, DecodeError>>()?,
        enforcement: enforcement_from_proto(open.enforcement)?,
    })
}

pub(crate) fn close_to_proto(close: &CloseSession) -> v1::CloseSession {
    let promise = |(voter, boot): &(NodeId, BootId)| v1::PromiseProof { voter: voter.0, boot: boot.0 };
    v1::CloseSession {
        session: close.session.0,
        membership: close.membership.0,
        reopens: close.reopens.0,
        promises: close.promises.iter().map(promise).collect(),
        plan: Some(plan_to_proto(&close.plan)),
    }
}

pub(crate) fn close_from_proto(close: v1::CloseSession) -> Result<CloseSession, DecodeError> {
    Ok(CloseSession {
        session: SessionId(close.session),
        membership: MembershipId(close.membership),
        reopens: Reopens(close.reopens),
        promises: close.promises.iter().map(|p| (NodeId(p.voter), BootId(p.boot))).collect(),
        plan: plan_from_proto(required(close.plan, "close_session.plan")?)?,
    })
}
