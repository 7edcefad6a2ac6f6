//! The audit trail: who, and what an agent tells of its calls.

use muster_core::audit::{Actor, ActorRole, AuditOutcome, AuditRecord, RecordedCall, RecordedCalls};
use muster_core::command::UserRole;
use muster_core::id::{NodeId, Revision};
use muster_core::time::Stamp;
use muster_proto::v1;

use crate::error::{DecodeError, known, required};

pub(crate) fn role_to_proto(role: ActorRole) -> v1::ActorRole {
    match role {
        ActorRole::Muster => v1::ActorRole::Muster,
        ActorRole::Node => v1::ActorRole::Node,
        ActorRole::User(UserRole::Viewer) => v1::ActorRole::Viewer,
        ActorRole::User(UserRole::Operator) => v1::ActorRole::Operator,
        ActorRole::User(UserRole::Admin) => v1::ActorRole::Admin,
        ActorRole::Local => v1::ActorRole::Local,
        ActorRole::Stranger => v1::ActorRole::None,
    }
}

pub(crate) fn role_from_proto(number: i32, field: &'static str) -> Result<ActorRole, DecodeError> {
    Ok(match known::<v1::ActorRole>(number, field)? {
        v1::ActorRole::Muster => ActorRole::Muster,
        v1::ActorRole::Node => ActorRole::Node,
        v1::ActorRole::Viewer => ActorRole::User(UserRole::Viewer),
        v1::ActorRole::Operator => ActorRole::User(UserRole::Operator),
        v1::ActorRole::Admin => ActorRole::User(UserRole::Admin),
        v1::ActorRole::Local => ActorRole::Local,
        v1::ActorRole::None => ActorRole::Stranger,
    })
}

fn actor_to_proto(actor: &Actor) -> v1::Actor {
    v1::Actor {
        name: actor.name.clone(),
        role: role_to_proto(actor.role).into(),
        from: actor.from.clone(),
        via: actor.via.clone(),
    }
}

fn actor_from_proto(actor: v1::Actor) -> Result<Actor, DecodeError> {
    let role = role_from_proto(actor.role, "actor.role")?;
    Ok(Actor { name: actor.name, role, from: actor.from, via: actor.via })
}

pub(crate) fn calls_to_proto(told: &RecordedCalls) -> v1::RecordedCalls {
    let call = |call: &RecordedCall| v1::RecordedCall {
        time_ms: call.time.0,
        before: call.before.0,
        actor: Some(actor_to_proto(&call.actor)),
        verb: call.verb.clone(),
        target: call.target.clone(),
        refused: call.refused.clone().map(|(code, message)| v1::CallRefusal { code, message }),
        count: call.count,
    };
    v1::RecordedCalls { node: told.node.0, calls: told.calls.iter().map(call).collect() }
}

pub(crate) fn calls_from_proto(told: v1::RecordedCalls) -> Result<RecordedCalls, DecodeError> {
    let call = |call: v1::RecordedCall| {
        Ok(RecordedCall {
            time: Stamp(call.time_ms),
            before: Revision(call.before),
            actor: actor_from_proto(required(call.actor, "recorded_call.actor")?)?,
            verb: call.verb,
            target: call.target,
            refused: call.refused.map(|refused| (refused.code, refused.message)),
            count: call.count,
        })
    };
    let calls = told.calls.into_iter().map(call).collect::<Result<_, DecodeError>>()?;
    Ok(RecordedCalls { node: NodeId(told.node), calls })
}

/// A line of the audit trail as a message.
#[must_use]
pub fn audit_to_proto(record: &AuditRecord) -> v1::AuditRecord {
    let outcome = match record.outcome {
        AuditOutcome::Applied => v1::AuditOutcome::Applied,
        AuditOutcome::Unchanged => v1::AuditOutcome::Unchanged,
        AuditOutcome::Refused => v1::AuditOutcome::Refused,
    };
    v1::AuditRecord {
        revision: record.revision.0,
        sequence: record.sequence,
        time_ms: record.time.0,
        before: record.before.0,
        actor: Some(actor_to_proto(&record.actor)),
        verb: record.verb.clone(),
        target: record.target.clone(),
        outcome: outcome.into(),
        code: record.code.clone(),
        message: record.message.clone(),
        count: record.count,
    }
}

/// A line of the audit trail of a message.
///
/// # Errors
/// [`DecodeError`] names the field.
pub fn audit_from_proto(record: v1::AuditRecord) -> Result<AuditRecord, DecodeError> {
    let outcome = known::<v1::AuditOutcome>(record.outcome, "audit_record.outcome")?;
    Ok(AuditRecord {
        revision: Revision(record.revision),
        sequence: record.sequence,
        time: Stamp(record.time_ms),
        before: Revision(record.before),
        actor: actor_from_proto(required(record.actor, "audit_record.actor")?)?,
        verb: record.verb,
        target: record.target,
        outcome: match outcome {
            v1::AuditOutcome::Applied => AuditOutcome::Applied,
            v1::AuditOutcome::Unchanged => AuditOutcome::Unchanged,
            v1::AuditOutcome::Refused => AuditOutcome::Refused,
        },
        code: record.code,
        message: record.message,
        count: record.count,
    })
}
