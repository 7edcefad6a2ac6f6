//! The one place that asks the scheduler on behalf of operators, and turns its answers into the one shape of plan,
//! simulate, explain, drain and rebalance.

use std::collections::BTreeMap;

use muster_core::id::{NodeId, ServiceName, SlotId};
use muster_core::scheduler::plan::Plan;
use muster_core::scheduler::{self, Item, ItemAction, NodeVerdict};
use muster_core::state::State;
use muster_core::time::Stamp;
use muster_proto::v1;

use super::status::ApiError;

/// How many nodes are named when one line says why none can take an instance.
const NODES_NAMED: usize = 4;

/// For each service that should run and has an instance without a place: why, in one line.
pub(super) fn unplaced(state: &State, now: Stamp) -> BTreeMap<ServiceName, String> {
    let nothing_planned = Plan { base: state.topology, actions: Vec::new() };
    let mut reasons = BTreeMap::new();
    for item in scheduler::items_of_plan(state, &nothing_planned, now) {
        if item.action == ItemAction::Unplaced {
            let reason = with_nodes(&item.reason, &item.refusals);
            reasons.entry(item.service).or_insert(reason);
        }
    }
    reasons
}

/// A reason, and the first thing that speaks against each of a few nodes.
fn with_nodes(reason: &str, verdicts: &[NodeVerdict]) -> String {
    let told = verdicts.iter().filter_map(|v| Some(format!("{} {}", v.node, v.reasons.first()?)));
    let mut named: Vec<String> = told.take(NODES_NAMED).collect();
    if named.is_empty() {
        return reason.to_owned();
    }
    if verdicts.len() > NODES_NAMED {
        named.push("…".to_owned());
    }
    format!("{reason}: {}", named.join("; "))
}

/// Whether an operator's wish can come true; to nowhere in particular means to any other node.
pub(super) fn check_move(
    state: &State,
    slot: &SlotId,
    to: Option<NodeId>,
    now: Stamp,
) -> Result<(), ApiError> {
    match to {
        Some(to) => Ok(scheduler::check_move(state, slot, to, now)?),
        None if scheduler::best_elsewhere(state, slot, now).is_some() => Ok(()),
        None => Err(ApiError::NowhereToGo(slot.to_string())),
    }
}

/// Lines as the API answers them.
pub(super) fn reply(state: &State, items: &[Item], summary: String) -> v1::PlanReply {
    v1::PlanReply {
        changes: items.iter().any(|item| item.action != ItemAction::Keep),
        items: items.iter().map(item).collect(),
        summary,
        revision: state.revision.0,
    }
}

fn item(item: &Item) -> v1::PlanItem {
    v1::PlanItem {
        service: item.service.to_string(),
        instance: item.instance.as_ref().map(ToString::to_string).unwrap_or_default(),
        node: item.node.clone().unwrap_or_default(),
        to: item.to.clone().unwrap_or_default(),
        action: item.action.as_str().to_owned(),
        reason: item.reason.clone(),
        refusals: item.refusals.iter().map(verdict).collect(),
    }
}

fn verdict(verdict: &NodeVerdict) -> v1::NodeRefusal {
    v1::NodeRefusal {
        node: verdict.node.clone(),
        reasons: verdict.reasons.clone(),
        score: verdict.score,
        scores: verdict.scores.clone(),
    }
}

/// How many of what, as `2 move, 1 unplaced`; `nothing` when there is none.
pub(super) fn tally(items: &[Item], nothing: &str) -> String {
    let mut counts: BTreeMap<ItemAction, usize> = BTreeMap::new();
    for item in items.iter().filter(|item| item.action != ItemAction::Keep) {
        *counts.entry(item.action).or_default() += 1;
    }
    let told: Vec<String> = counts.iter().map(|(action, n)| format!("{n} {}", action.as_str())).collect();
    if told.is_empty() { nothing.to_owned() } else { told.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(action: ItemAction) -> Item {
        Item {
            service: ServiceName::new("db").unwrap(),
            instance: None,
            node: None,
            to: None,
            action,
            reason: String::new(),
            refusals: Vec::new(),
        }
    }

    #[test]
    fn what_stays_is_no_change() {
        let state = State::default();
        let kept = [line(ItemAction::Keep)];
        assert!(!reply(&state, &kept, String::new()).changes);
        assert_eq!(tally(&kept, "nothing to do"), "nothing to do");
        let both = [line(ItemAction::Unplaced), line(ItemAction::Move), line(ItemAction::Move)];
        assert!(reply(&state, &both, String::new()).changes);
        assert_eq!(tally(&both, ""), "2 move, 1 unplaced");
    }
}
