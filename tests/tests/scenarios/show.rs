//! What a scenario prints.

use muster_core::id::SlotId;
use muster_core::scheduler::plan::Plan;
use muster_core::scheduler::{Item, ItemAction, items_of_plan};
use muster_core::state::State;
use muster_core::state::slot::{Phase, Placement};

use crate::cluster::Cluster;

pub fn plan(cluster: &Cluster, state: &State, plan: &Plan) -> Vec<String> {
    items(&items_of_plan(state, plan, cluster.now))
}

/// One line an item; the nodes' refusals under those that cannot be placed.
pub fn items(items: &[Item]) -> Vec<String> {
    if items.is_empty() {
        return vec!["nothing to do".to_owned()];
    }
    let verdicts = |item: &Item| {
        let told = item.action == ItemAction::Unplaced;
        item.refusals.iter().filter(|_| told).map(verdict).collect::<Vec<_>>()
    };
    items.iter().flat_map(|item| std::iter::once(line(item)).chain(verdicts(item))).collect()
}

pub fn explained(items: &[Item]) -> Vec<String> {
    let lines = |item: &Item| {
        let scored = |v: &muster_core::scheduler::NodeVerdict| {
            let scores = if v.reasons.is_empty() { v.scores.join(", ") } else { String::new() };
            format!("{} {scores}", verdict(v)).trim_end().to_owned()
        };
        std::iter::once(line(item)).chain(item.refusals.iter().map(scored)).collect::<Vec<_>>()
    };
    items.iter().flat_map(lines).collect()
}

fn line(item: &Item) -> String {
    let what = item.instance.as_ref().map_or_else(|| item.service.to_string(), SlotId::to_string);
    let from = item.node.as_deref().map(|n| format!(" {n}")).unwrap_or_default();
    let to = item.to.as_deref().map(|n| format!(" -> {n}")).unwrap_or_default();
    format!("{} {what}{from}{to}: {}", item.action.as_str(), item.reason)
}

fn verdict(verdict: &muster_core::scheduler::NodeVerdict) -> String {
    let why = if verdict.reasons.is_empty() { "eligible".to_owned() } else { verdict.reasons.join("; ") };
    format!("  {}: {why}", verdict.node)
}

pub fn placements(state: &State) -> Vec<String> {
    let line = |(id, slot): (&SlotId, &muster_core::state::slot::Slot)| {
        let all: Vec<String> = slot.placements.iter().map(|p| placement(state, p)).collect();
        format!("{id}: {}", if all.is_empty() { "nowhere".to_owned() } else { all.join(", ") })
    };
    if state.slots.is_empty() {
        return vec!["nothing is placed".to_owned()];
    }
    state.slots.iter().map(line).collect()
}

fn placement(state: &State, p: &Placement) -> String {
    let node = state.name_of(p.node);
    match p.phase {
        Phase::Active => format!("{node} {}", p.observed.state.as_str()),
        Phase::Revoking { target: None, .. } => format!("{node} (to stop)"),
        Phase::Revoking { target: Some(t), .. } => format!("{node} (to go to {})", state.name_of(t.node)),
        Phase::Adrift { .. } => format!("{node} (lost)"),
    }
}
