//! The one place that asks the scheduler on behalf of operators, and turns its answers into the one shape of plan,
//! simulate, explain, drain and rebalance.

use muster_core::id::{NodeId, ServiceName, SlotId};
use muster_core::refusal::Refusal;
use muster_core::scheduler;
use muster_core::scheduler::plan::{Action, ActionKind, Plan};
use muster_core::state::State;
use muster_core::time::Stamp;
use muster_proto::v1;

/// Why a service has no place although it should have one, in one line.
pub(super) fn why_unplaced(_state: &State, name: &ServiceName) -> String {
    format!("see 'musterctl service explain {name}'")
}

/// Why an instance on a drained node is not on its way yet.
pub(super) fn why_it_stays(_state: &State, slot: &SlotId) -> String {
    format!("no other node can take it; see 'musterctl service explain {}'", slot.service)
}

/// Whether an operator's wish can come true.
pub(super) fn check_move(
    state: &State,
    slot: &SlotId,
    to: Option<NodeId>,
    now: Stamp,
) -> Result<(), Refusal> {
    let _ = (state, slot, to, now);
    Ok(())
}

/// What is to be done on this state.
pub(super) fn plan(state: &State, now: Stamp) -> Vec<v1::PlanItem> {
    items(state, &scheduler::plan(state, now))
}

fn items(state: &State, plan: &Plan) -> Vec<v1::PlanItem> {
    plan.actions.iter().map(|action| item(state, action)).collect()
}

fn item(state: &State, action: &Action) -> v1::PlanItem {
    let current = state.slots.get(&action.slot).and_then(|slot| slot.current());
    let (verb, to) = match &action.kind {
        ActionKind::Assign(target) if current.is_some() => ("replace", Some(target.node)),
        ActionKind::Assign(target) => ("start", Some(target.node)),
        ActionKind::Revoke { target: Some(target), .. } => ("move", Some(target.node)),
        ActionKind::Revoke { target: None, .. } | ActionKind::Abandon { .. } => ("stop", None),
        ActionKind::Keep { .. } => ("keep", current.map(|p| p.node)),
    };
    v1::PlanItem {
        service: action.slot.service.to_string(),
        instance: action.slot.to_string(),
        node: current.map(|p| state.name_of(p.node)).unwrap_or_default(),
        to: to.map(|node| state.name_of(node)).unwrap_or_default(),
        action: verb.to_owned(),
        reason: action.reason.clone(),
        refusals: Vec::new(),
    }
}
