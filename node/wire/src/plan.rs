//! Plans.

use muster_core::id::{Generation, NodeId, Revision, SessionId};
use muster_core::scheduler::plan::{Action, ActionKind, Plan, Target};
use muster_proto::v1;

use crate::error::{DecodeError, required};
use crate::slot::{slot_from_proto, slot_to_proto};

/// A plan as a message.
#[must_use]
pub fn plan_to_proto(plan: &Plan) -> v1::Plan {
    v1::Plan { base: plan.base.0, actions: plan.actions.iter().map(action_to_proto).collect() }
}

/// A plan of a message.
///
/// # Errors
/// [`DecodeError`] names the field; a step of an unknown kind is `action.kind`.
pub fn plan_from_proto(plan: v1::Plan) -> Result<Plan, DecodeError> {
    let actions = plan.actions.into_iter().map(action_from_proto).collect::<Result<_, _>>()?;
    Ok(Plan { base: Revision(plan.base), actions })
}

fn action_to_proto(action: &Action) -> v1::Action {
    use v1::action::Kind;
    let kind = match &action.kind {
        ActionKind::Assign(target) => Kind::Assign(target_to_proto(*target)),
        ActionKind::Revoke { generation, target } => {
            Kind::Revoke(v1::RevokeAction { generation: generation.0, target: target.map(target_to_proto) })
        }
        ActionKind::Abandon { generation } => Kind::Abandon(generation.0),
        ActionKind::Keep { generation } => Kind::Keep(generation.0),
    };
    v1::Action { slot: Some(slot_to_proto(&action.slot)), reason: action.reason.clone(), kind: Some(kind) }
}

fn action_from_proto(action: v1::Action) -> Result<Action, DecodeError> {
    use v1::action::Kind;
    let kind = match required(action.kind, "action.kind")? {
        Kind::Assign(target) => ActionKind::Assign(target_from_proto(target)),
        Kind::Revoke(revoke) => ActionKind::Revoke {
            generation: Generation(revoke.generation),
            target: revoke.target.map(target_from_proto),
        },
        Kind::Abandon(generation) => ActionKind::Abandon { generation: Generation(generation) },
        Kind::Keep(generation) => ActionKind::Keep { generation: Generation(generation) },
    };
    Ok(Action { slot: slot_from_proto(action.slot, "action.slot")?, kind, reason: action.reason })
}

pub(crate) fn target_to_proto(target: Target) -> v1::Target {
    v1::Target { node: target.node.0, session: target.session.map(|id| id.0) }
}

pub(crate) fn target_from_proto(target: v1::Target) -> Target {
    Target { node: NodeId(target.node), session: target.session.map(SessionId) }
}
