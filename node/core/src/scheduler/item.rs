//! The one shape in which plan, simulate, explain, drain and rebalance answer.

use std::collections::BTreeSet;

use super::desk::Desk;
use super::explain::{candidates, why_unplaced};
use super::plan::{Action, ActionKind, Plan};
use super::question::Candidate;
use crate::id::{NodeId, ServiceName, SlotId};
use crate::spec::Mode;
use crate::state::State;
use crate::state::slot::Phase;
use crate::time::Stamp;

/// One line of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The service.
    pub service: ServiceName,
    /// The instance; none when the line is about the service as a whole.
    pub instance: Option<SlotId>,
    /// The name of the node where it is; none: nowhere.
    pub node: Option<String>,
    /// The name of the node where it would go; none: it stays, stops, or cannot be placed.
    pub to: Option<String>,
    /// What would happen.
    pub action: ItemAction,
    /// Why.
    pub reason: String,
    /// Every node that comes into question, when that explains something.
    pub refusals: Vec<NodeVerdict>,
}

/// What would happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ItemAction {
    /// It stays as it is.
    Keep,
    /// It is placed.
    Start,
    /// It is stopped.
    Stop,
    /// It is stopped and placed elsewhere.
    Move,
    /// It is stopped and started on the same node.
    Restart,
    /// A second one is started elsewhere, then it is stopped.
    Replace,
    /// It should run and no node can take it.
    Unplaced,
    /// The service is new.
    Create,
    /// The service's declaration changes.
    Change,
    /// The service is removed.
    Remove,
}

impl ItemAction {
    /// The stable name in output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Move => "move",
            Self::Restart => "restart",
            Self::Replace => "replace",
            Self::Unplaced => "unplaced",
            Self::Create => "create",
            Self::Change => "change",
            Self::Remove => "remove",
        }
    }
}

/// What the scheduler thinks of a node for an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeVerdict {
    /// Its name.
    pub node: String,
    /// What speaks against it; empty: it is eligible.
    pub reasons: Vec<String>,
    /// Its score.
    pub score: i64,
    /// How the score came about, as `+500 prefers zone == a`.
    pub scores: Vec<String>,
}

impl NodeVerdict {
    pub(super) fn of(state: &State, candidate: &Candidate) -> Self {
        Self {
            node: state.name_of(candidate.node),
            reasons: candidate.refusals.iter().map(ToString::to_string).collect(),
            score: candidate.score,
            scores: candidate.parts.iter().map(|(part, points)| format!("{points:+} {part}")).collect(),
        }
    }
}

/// A plan as people read it: its steps, and the instances that cannot be placed.
#[must_use]
pub fn items_of_plan(state: &State, plan: &Plan, now: Stamp) -> Vec<Item> {
    let mut items: Vec<Item> = plan.actions.iter().map(|action| of_action(state, action)).collect();
    // What the plan itself takes up is taken into account.
    let desk = Desk::new(state.with_plan(plan), now);
    for service in desk.services_in_order() {
        for slot in desk.wanted_slots(&service) {
            let held = desk.slot(&slot).is_some_and(|s| !s.placements.is_empty());
            if !held && !is_suspended(&desk, &slot) {
                items.push(unplaced(&desk, slot));
            }
        }
    }
    items
}

/// Whether the slot of an `everywhere` service is vacant because its node takes nothing now: that is no lack.
fn is_suspended(desk: &Desk, slot: &SlotId) -> bool {
    let everywhere = desk.service(&slot.service).is_some_and(|s| s.spec.mode == Mode::Everywhere);
    everywhere
        && desk
            .node(NodeId(slot.index))
            .is_none_or(|n| n.session.is_none() || n.drain.is_some() || n.cordoned || n.maintenance)
}

pub(super) fn unplaced(desk: &Desk, slot: SlotId) -> Item {
    Item {
        service: slot.service.clone(),
        node: None,
        to: None,
        action: ItemAction::Unplaced,
        reason: why_unplaced(desk, &slot),
        refusals: candidates(desk, &slot).iter().map(|c| NodeVerdict::of(&desk.state, c)).collect(),
        instance: Some(slot),
    }
}

fn of_action(state: &State, action: &Action) -> Item {
    let slot = state.slots.get(&action.slot);
    let current = slot.and_then(|s| s.current()).map(|p| p.node);
    let name = |node: NodeId| state.name_of(node);
    let (what, node, to) = match action.kind {
        ActionKind::Assign(target) if current.is_none() => (ItemAction::Start, None, Some(target.node)),
        ActionKind::Assign(target) => (ItemAction::Replace, current, Some(target.node)),
        ActionKind::Revoke { generation, target } => {
            let from = slot.and_then(|s| s.placement(generation)).map(|p| p.node);
            match target {
                None => (ItemAction::Stop, from, None),
                Some(t) if Some(t.node) == from => (ItemAction::Restart, from, Some(t.node)),
                Some(t) => (ItemAction::Move, from, Some(t.node)),
            }
        }
        ActionKind::Abandon { generation } => {
            (ItemAction::Stop, slot.and_then(|s| s.placement(generation)).map(|p| p.node), None)
        }
        ActionKind::Keep { generation } => {
            (ItemAction::Keep, slot.and_then(|s| s.placement(generation)).map(|p| p.node), None)
        }
    };
    Item {
        service: action.slot.service.clone(),
        instance: Some(action.slot.clone()),
        node: node.map(name),
        to: to.map(name),
        action: what,
        reason: action.reason.clone(),
        refusals: Vec::new(),
    }
}

/// What differs between two states, slot by slot: where each instance was, and where it is in the end.
pub(super) fn difference(before: &State, after: &Desk) -> Vec<Item> {
    let slots: BTreeSet<&SlotId> = before.slots.keys().chain(after.state.slots.keys()).collect();
    let mut items = Vec::new();
    for slot in slots {
        let was = before.slots.get(slot).and_then(|s| s.current());
        let is = after.slot(slot).and_then(|s| s.current());
        let wanted = after.state.wants(slot);
        let from = was.map(|p| p.node);
        let item = |action, to: Option<NodeId>, reason: String| Item {
            service: slot.service.clone(),
            instance: Some(slot.clone()),
            node: from.map(|n| before.name_of(n)),
            to: to.map(|n| before.name_of(n)),
            action,
            reason,
            refusals: Vec::new(),
        };
        match is {
            Some(p) if Some(p.node) == from && matches!(p.phase, Phase::Active) => {}
            Some(p) if p.is_adrift() => {
                items.push(item(ItemAction::Keep, None, "left alone on its lost node".to_owned()));
            }
            Some(p) if from.is_none() => items.push(item(ItemAction::Start, Some(p.node), p.reason.clone())),
            Some(p) if before.is_exclusive(&slot.service) => {
                items.push(item(ItemAction::Move, Some(p.node), p.reason.clone()));
            }
            Some(p) => items.push(item(ItemAction::Replace, Some(p.node), p.reason.clone())),
            None if wanted => {
                items.push(Item { node: from.map(|n| before.name_of(n)), ..unplaced(after, slot.clone()) })
            }
            None if was.is_some() => {
                items.push(item(ItemAction::Stop, None, "is not wanted there any more".to_owned()));
            }
            None => {}
        }
    }
    items
}
