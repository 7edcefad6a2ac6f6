//! Why an instance is where it is, and why not elsewhere.

use std::time::Duration;

use super::backoff;
use super::desk::Desk;
use super::item::{Item, ItemAction, NodeVerdict, items_of_plan};
use super::plan::ActionKind;
use super::question::{Candidate, Purpose, Question};
use super::refused::{Refused, ago, span};
use super::{plan, plan::Plan};
use crate::id::{NodeId, ServiceName, SlotId};
use crate::refusal::Refusal;
use crate::state::State;
use crate::state::slot::Phase;
use crate::time::Stamp;

/// Everything about one instance's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Which.
    pub slot: SlotId,
    /// Where it is.
    pub current: Option<NodeId>,
    /// Where the scheduler would put it now, if that is elsewhere, or it is nowhere.
    pub chosen: Option<NodeId>,
    /// Why it is there, goes there, or is nowhere.
    pub reason: String,
    /// Every node that comes into question.
    pub candidates: Vec<Candidate>,
}

/// Explains one instance.
#[must_use]
pub fn explain(state: &State, slot: &SlotId, now: Stamp) -> Explanation {
    explain_with(&Desk::new(state.clone(), now), &plan(state, now), slot)
}

/// Explains all instances of a service, as lines.
///
/// # Errors
/// There is no such service.
pub fn explain_service(state: &State, service: &ServiceName, now: Stamp) -> Result<Vec<Item>, Refusal> {
    let declared = state.services.get(service).ok_or_else(|| Refusal::NoSuchService(service.clone()))?;
    let desk = Desk::new(state.clone(), now);
    let plan = plan(state, now);
    let mut slots = desk.wanted_slots(declared);
    slots.extend(state.slots_of(service).map(|(id, _)| id.clone()));
    slots.sort();
    slots.dedup();
    Ok(slots.into_iter().map(|slot| line(&desk, &plan, &slot)).collect())
}

fn line(desk: &Desk, plan: &Plan, slot: &SlotId) -> Item {
    let explanation = explain_with(desk, plan, slot);
    let refusals = explanation.candidates.iter().map(|c| NodeVerdict::of(&desk.state, c)).collect();
    let own =
        Plan { base: plan.base, actions: plan.actions.iter().filter(|a| a.slot == *slot).cloned().collect() };
    let planned = items_of_plan(&desk.state, &own, desk.now).into_iter().find(|_| !own.actions.is_empty());
    let action = match (&planned, explanation.current) {
        (Some(item), _) => item.action,
        (None, Some(_)) => ItemAction::Keep,
        (None, None) => ItemAction::Unplaced,
    };
    Item {
        service: slot.service.clone(),
        instance: Some(slot.clone()),
        node: explanation.current.map(|n| desk.name(n)),
        to: explanation.chosen.map(|n| desk.name(n)),
        action,
        reason: explanation.reason,
        refusals,
    }
}

fn explain_with(desk: &Desk, plan: &Plan, slot: &SlotId) -> Explanation {
    let placement = desk.slot(slot).and_then(|s| s.current());
    let planned = plan.actions.iter().find(|a| a.slot == *slot);
    let on_its_way = placement.and_then(|p| match p.phase {
        Phase::Revoking { target, .. } => target.map(|t| t.node),
        Phase::Active | Phase::Adrift { .. } => None,
    });
    let chosen = planned.map_or(on_its_way, |action| match action.kind {
        ActionKind::Assign(target) => Some(target.node),
        ActionKind::Revoke { target, .. } => target.map(|t| t.node),
        ActionKind::Abandon { .. } | ActionKind::Keep { .. } => None,
    });
    let reason = match (planned, placement) {
        (Some(action), _) => action.reason.clone(),
        (None, Some(p)) => why_kept(desk, slot, p),
        (None, None) => why_unplaced(desk, slot),
    };
    Explanation {
        slot: slot.clone(),
        current: placement.map(|p| p.node),
        chosen,
        reason,
        candidates: candidates(desk, slot),
    }
}

/// Every node that comes into question for a slot, as for a vacant one, or as for one that could stay.
pub(super) fn candidates(desk: &Desk, slot: &SlotId) -> Vec<Candidate> {
    let placement = desk.slot(slot).and_then(|s| s.current()).filter(|p| !p.is_adrift());
    let purpose = placement.map_or(Purpose::Place, |p| Purpose::Stay(p.node));
    Question::new(desk, slot, purpose).map_or_else(Vec::new, |q| q.candidates())
}

fn why_kept(desk: &Desk, slot: &SlotId, placement: &crate::state::slot::Placement) -> String {
    let drained = desk.is_draining(placement.node);
    match placement.phase {
        Phase::Adrift { since } => {
            let service = desk.service(&slot.service);
            let due = service.map(|s| since.plus(s.spec.replace_after)).unwrap_or_default();
            let lost = format!("{} was lost {}", desk.name(placement.node), ago(desk.now.since(since)));
            match due.since(desk.now) {
                _ if desk.brake_is_on() => {
                    format!("{lost}; left alone, because more than half of the nodes look lost at once")
                }
                Duration::ZERO => format!("{lost}; no node can take its replacement"),
                wait => format!("{lost}; replaced in {} unless it comes back", span(wait)),
            }
        }
        Phase::Revoking { target: Some(t), .. } => {
            format!("is being stopped, to go to {}", desk.name(t.node))
        }
        Phase::Revoking { target: None, .. } => "is being stopped".to_owned(),
        Phase::Active if !desk.is_touchable(placement.node) => {
            format!("{} is in maintenance: it is left alone", desk.name(placement.node))
        }
        Phase::Active if drained => {
            format!("{} is being drained, but no other node can take it now", desk.name(placement.node))
        }
        Phase::Active => placement.reason.clone(),
    }
}

/// Why a slot without a placement has none.
pub(super) fn why_unplaced(desk: &Desk, slot: &SlotId) -> String {
    if !desk.state.wants(slot) {
        return "it is not wanted".to_owned();
    }
    let candidates = candidates(desk, slot);
    let only_failed = |c: &Candidate| c.refusals.iter().all(|r| matches!(r, Refused::Failed { .. }));
    let retry =
        desk.slot(slot).zip(desk.service(&slot.service)).filter(|_| candidates.iter().any(only_failed));
    if let Some(at) = retry.and_then(|(s, service)| backoff::retry_at(s, &service.spec, desk.now)) {
        return format!("it failed on every eligible node; tried again in {}", span(at.since(desk.now)));
    }
    match candidates.len() {
        0 => "there is no node".to_owned(),
        1 => "the only node cannot take it".to_owned(),
        n => format!("none of {n} nodes can take it"),
    }
}

/// What keeps a node's drain from being done, with the reasons.
#[must_use]
pub fn drain_blocked(state: &State, node: NodeId, now: Stamp) -> Vec<(SlotId, String)> {
    let desk = Desk::new(state.clone(), now);
    let stuck = |slot: &SlotId| {
        let question = Question::new(&desk, slot, Purpose::Leave(node))?;
        if question.choose().is_some() {
            return None;
        }
        let told = |c: Candidate| {
            let first = c.refusals.into_iter().find(|r| *r != Refused::ToBeLeft)?;
            Some(format!("{} {first}", desk.name(c.node)))
        };
        let others: Vec<_> =
            question.candidates().into_iter().filter(|c| c.node != node).filter_map(told).collect();
        Some(if others.is_empty() { "there is no other node".to_owned() } else { others.join("; ") })
    };
    let here = state.placements_on(node).filter(|(_, p)| matches!(p.phase, Phase::Active));
    here.filter_map(|(slot, _)| stuck(slot).map(|why| (slot.clone(), why))).collect()
}

/// Whether an instance may go to a node: an operator's move is refused before it stops anything.
///
/// # Errors
/// [`Refusal::NotEligible`] with the first thing that speaks against the node; or no such service or node.
pub fn check_move(state: &State, slot: &SlotId, to: NodeId, now: Stamp) -> Result<(), Refusal> {
    let node = state.nodes.get(&to).ok_or_else(|| Refusal::NoSuchNode(format!("#{to}")))?;
    let desk = Desk::new(state.clone(), now);
    let current = desk.slot(slot).and_then(|s| s.current()).map(|p| p.node);
    let purpose = match current {
        Some(from) if from == to => Purpose::Stay(from),
        Some(from) => Purpose::Leave(from),
        None => Purpose::Place,
    };
    let question =
        Question::new(&desk, slot, purpose).ok_or_else(|| Refusal::NoSuchService(slot.service.clone()))?;
    match question.refusals(node).next() {
        None => Ok(()),
        Some(why) => {
            Err(Refusal::NotEligible { slot: slot.clone(), node: node.name.clone(), why: why.to_string() })
        }
    }
}

/// The best node other than the current one: where an instance goes that is to be anywhere else.
#[must_use]
pub fn best_elsewhere(state: &State, slot: &SlotId, now: Stamp) -> Option<NodeId> {
    let desk = Desk::new(state.clone(), now);
    let current = desk.slot(slot).and_then(|s| s.current()).map(|p| p.node);
    let purpose = current.map_or(Purpose::Place, Purpose::Leave);
    Some(Question::new(&desk, slot, purpose)?.choose()?.target.node)
}
