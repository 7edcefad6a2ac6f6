//! Conversions between the core's types and the wire format, in one place. Everything is total: what a peer or
//! a disk hands over becomes a core type or a [`DecodeError`] that names the field, never a guess.
//!
//! Architecture invariant: no other package builds or reads the messages of `log.proto` field by field.

#![forbid(unsafe_code)]

mod audit;
mod command;
mod error;
mod event;
mod log_positions;
mod node;
mod plan;
mod proposal;
mod reply;
mod secret;
mod session;
mod slot;
mod snapshot;
mod spec;
mod trust;

pub use audit::{audit_from_proto, audit_to_proto};
pub use error::DecodeError;
pub use event::event_to_proto;
pub use log_positions::{LogPositions, TAIL_LINES};
pub use node::{
    description_from_proto, description_to_proto, drain_wish_from_proto, drain_wish_to_proto,
    node_change_from_proto, node_change_to_proto, resources_from_proto, resources_to_proto, role_from_proto,
    role_to_proto, timing_from_proto, timing_to_proto, token_from_proto, token_to_proto,
};
pub use plan::{plan_from_proto, plan_to_proto};
pub use proposal::redact::{carries_secret, redact_proposal};
pub use proposal::{
    decode_proposal, encode_proposal, proposal_from_proto, proposal_to_proto, request_from_proto,
    request_to_proto,
};
pub use reply::{declared_from_proto, declared_to_proto, reply_from_proto, reply_to_proto};
pub use secret::{MAX_SEALED_BYTES, secret_key_id_from_bytes, secret_key_id_to_bytes};
pub use session::{enforcement_from_proto, enforcement_to_proto};
pub use slot::{instance_state_from_proto, instance_state_to_proto, slot_from_proto, slot_to_proto};
pub use snapshot::read::StateReader;
pub use snapshot::write::write_state;
pub use snapshot::{STATE_VERSION, SessionKeys, SnapshotError};
pub use spec::{spec_from_proto, spec_to_proto};
pub use trust::{user_role_from_proto, user_role_to_proto};
