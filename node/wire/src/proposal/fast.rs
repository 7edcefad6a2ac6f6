//! The two commands that are written most, encoded straight from references: one allocation each, nothing cloned.
//! Every other command takes the way through the generated types; a test compares both ways byte by byte.

use bytes::Bytes;
use muster_core::command::{Command, Observation, Proposal};
use muster_core::id::{RequestId, ServiceName, SlotId};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use crate::audit::role_to_proto;
use crate::slot::instance_state_to_proto;

/// The field numbers of `log.proto` that are written here.
mod tag {
    pub const STAMP_MS: u32 = 1;
    pub const REQUEST: u32 = 2;
    pub const ACTOR: u32 = 3;
    pub const ACTOR_ROLE: u32 = 4;
    pub const ACTOR_FROM: u32 = 5;
    pub const ACTOR_VIA: u32 = 6;
    pub const OBSERVE: u32 = 22;
    pub const ANNOTATE_SERVICE: u32 = 29;
}

/// The bytes of a proposal, if its command is one of the two.
pub(super) fn encode(proposal: &Proposal) -> Option<Bytes> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "all other commands take the general way")]
    match &proposal.command {
        Command::AnnotateService { service, key, value } => {
            Some(write_proposal(proposal, tag::ANNOTATE_SERVICE, |out| {
                annotate(out, service, key, value.as_deref());
            }))
        }
        Command::Observe(seen) => Some(write_proposal(proposal, tag::OBSERVE, |out| observe(out, seen))),
        _ => None,
    }
}

fn write_proposal(proposal: &Proposal, command: u32, fields: impl Fn(&mut Out<'_>)) -> Bytes {
    let whole = |out: &mut Out<'_>| {
        out.number(tag::STAMP_MS, proposal.stamp.0);
        out.message(tag::REQUEST, |out| request(out, proposal.request));
        out.text(tag::ACTOR, &proposal.actor.name);
        // An enumeration's number is never negative here, so its sign extension does not matter.
        let role = i32::from(role_to_proto(proposal.actor.role)).unsigned_abs();
        out.number(tag::ACTOR_ROLE, u64::from(role));
        out.text(tag::ACTOR_FROM, &proposal.actor.from);
        out.text(tag::ACTOR_VIA, &proposal.actor.via);
        out.message(command, &fields);
    };
    let mut bytes = Vec::with_capacity(length_of(whole));
    whole(&mut Out::Bytes(&mut bytes));
    bytes.into()
}

fn request(out: &mut Out<'_>, request: RequestId) {
    out.fixed(1, request.client);
    out.number(2, request.seq);
}

fn annotate(out: &mut Out<'_>, service: &ServiceName, key: &str, value: Option<&str>) {
    out.text(1, service.as_str());
    out.text(2, key);
    out.optional_text(3, value);
}

fn observe(out: &mut Out<'_>, seen: &Observation) {
    out.message(1, |out| slot(out, &seen.slot));
    out.number(2, seen.node.0);
    out.number(3, seen.generation.0);
    // An enumeration's number is never negative here, so its sign extension does not matter.
    out.number(4, u64::from(i32::from(instance_state_to_proto(seen.state)).unsigned_abs()));
    out.number(5, u64::from(seen.restarts));
    out.optional_text(6, seen.message.as_deref());
}

fn slot(out: &mut Out<'_>, slot: &SlotId) {
    out.text(1, slot.service.as_str());
    out.number(2, slot.index);
}

/// Where fields go: a message is described once, then counted and written by the same description.
enum Out<'a> {
    /// Only the length is wanted.
    Count(usize),
    /// The bytes themselves.
    Bytes(&'a mut Vec<u8>),
}

fn length_of(fields: impl Fn(&mut Out<'_>)) -> usize {
    let mut count = Out::Count(0);
    fields(&mut count);
    match count {
        Out::Count(length) => length,
        Out::Bytes(bytes) => bytes.len(),
    }
}

impl Out<'_> {
    /// proto3 leaves out numbers that are 0.
    fn number(&mut self, field: u32, value: u64) {
        if value != 0 {
            self.key(field, WireType::Varint);
            self.varint(value);
        }
    }

    fn fixed(&mut self, field: u32, value: u64) {
        if value != 0 {
            self.key(field, WireType::SixtyFourBit);
            self.raw(&value.to_le_bytes());
        }
    }

    /// proto3 leaves out texts that are empty, unless the field is optional.
    fn text(&mut self, field: u32, value: &str) {
        self.optional_text(field, Some(value).filter(|v| !v.is_empty()));
    }

    fn optional_text(&mut self, field: u32, value: Option<&str>) {
        if let Some(value) = value {
            self.key(field, WireType::LengthDelimited);
            self.varint(value.len() as u64);
            self.raw(value.as_bytes());
        }
    }

    fn message(&mut self, field: u32, fields: impl Fn(&mut Out<'_>)) {
        self.key(field, WireType::LengthDelimited);
        self.varint(length_of(&fields) as u64);
        fields(self);
    }

    fn key(&mut self, field: u32, wire_type: WireType) {
        match self {
            Self::Count(length) => *length += prost::encoding::key_len(field),
            Self::Bytes(bytes) => encode_key(field, wire_type, *bytes),
        }
    }

    fn varint(&mut self, value: u64) {
        match self {
            Self::Count(length) => *length += encoded_len_varint(value),
            Self::Bytes(bytes) => encode_varint(value, *bytes),
        }
    }

    fn raw(&mut self, raw: &[u8]) {
        match self {
            Self::Count(length) => *length += raw.len(),
            Self::Bytes(bytes) => bytes.extend_from_slice(raw),
        }
    }
}
