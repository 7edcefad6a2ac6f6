//! Instances that have to or should be elsewhere: wishes, violated declarations, better nodes, lost targets.

use super::desk::Desk;
use super::plan::{ActionKind, Target};
use super::question::{Choice, Purpose, Question};
use crate::id::{NodeId, SlotId};
use crate::spec::{Failback, Mode};
use crate::state::slot::{Phase, Placement};

/// The placement that counts, if it is to run, its node is there, and it may be touched.
pub(super) fn settled(desk: &Desk, slot: &SlotId) -> Option<Placement> {
    let placement = desk.slot(slot)?.current()?;
    let settled = matches!(placement.phase, Phase::Active)
        && placement.session.is_some()
        && desk.is_touchable(placement.node)
        && desk.state.wants(slot);
    settled.then(|| placement.clone())
}

pub(super) fn ask(desk: &Desk, slot: &SlotId, purpose: Purpose) -> Option<Choice> {
    Question::new(desk, slot, purpose)?.choose()
}

/// Moves an instance: an exclusive one, or one that is started anew in place, is stopped first; of any other a
/// replacement is started first.
pub(super) fn relocate(desk: &mut Desk, slot: &SlotId, from: &Placement, choice: &Choice, why: &str) -> bool {
    let reason = match why {
        "" => choice.why.clone(),
        why => format!("{why}; {}", choice.why),
    };
    let stop_first = desk.state.is_exclusive(&slot.service) || choice.target.node == from.node;
    let kind = if stop_first {
        ActionKind::Revoke { generation: from.generation, target: Some(choice.target) }
    } else {
        ActionKind::Assign(choice.target)
    };
    desk.step(slot, kind, reason)
}

/// An instance that is being stopped although its slot is wanted gets a target, and a new one when the old one is
/// lost.
pub(super) fn retarget(desk: &mut Desk) {
    let slots = desk.state.slots.clone();
    for (id, slot) in &slots {
        let Some((last, older)) = slot.placements.split_last() else { continue };
        let Phase::Revoking { target, .. } = last.phase else { continue };
        let stays = target.is_some_and(|t| is_good(desk, t, last.node));
        let waits = last.session.is_none() || older.iter().any(|p| matches!(p.phase, Phase::Active));
        if stays || waits || !desk.state.wants(id) {
            continue;
        }
        let choice = ask(desk, id, Purpose::Leave(last.node))
            .or_else(|| ask(desk, id, Purpose::Stay(last.node)).filter(|c| c.target.node == last.node));
        let generation = last.generation;
        match choice {
            Some(choice) => {
                let kind = ActionKind::Revoke { generation, target: Some(choice.target) };
                let why = if target.is_some() { "its target can't take it any more; " } else { "" };
                desk.step(id, kind, format!("{why}{}", choice.why));
            }
            // A target that has no agent just now is better than none.
            None if target.is_some_and(|t| !is_open(desk, t)) => {
                desk.revoke(id, generation, "its target can't take it any more");
            }
            None => {}
        }
    }
}

fn is_good(desk: &Desk, target: Target, from: NodeId) -> bool {
    let session = target.session.and_then(|e| desk.state.sessions.get(&e));
    // What is started anew where it is waits for its agent.
    is_open(desk, target) && session.is_some_and(|s| s.agent_gone.is_none() || target.node == from)
}

fn is_open(desk: &Desk, target: Target) -> bool {
    let open = target.session.is_some_and(|e| desk.state.sessions.contains_key(&e));
    open && desk.node(target.node).is_some_and(|n| n.drain.is_none() && !n.maintenance)
}

/// Operators' wishes for instances whose replacement comes first.
pub(super) fn grant_wishes(desk: &mut Desk) {
    let slots = desk.state.slots.clone();
    for (id, slot) in &slots {
        let Some(wish) = slot.wish else { continue };
        let Some(from) = settled(desk, id).filter(|p| p.node != wish) else { continue };
        let choice = ask(desk, id, Purpose::Leave(from.node)).filter(|c| c.target.node == wish);
        if let Some(choice) = choice {
            relocate(desk, id, &from, &choice, "");
        }
    }
}

/// Instances on nodes that do not satisfy their declaration any more move, if there is a node that does. The less
/// important service of two that must be apart goes first.
pub(super) fn leave_violated(desk: &mut Desk) {
    for service in desk.services_in_order().iter().rev() {
        let spec = &service.spec;
        let free = spec.placement.require.is_empty() && spec.placement.with.is_empty();
        let unbound = free && desk.apart(&spec.name).next().is_none() && !spec.mode.is_exclusive();
        if unbound || spec.mode == Mode::Everywhere {
            continue;
        }
        for slot in desk.wanted_slots(service) {
            let Some(from) = settled(desk, &slot) else { continue };
            let Some(why) = violation(desk, &slot, &from) else { continue };
            if let Some(choice) = ask(desk, &slot, Purpose::Leave(from.node)) {
                relocate(desk, &slot, &from, &choice, &why);
            }
        }
    }
}

fn violation(desk: &Desk, slot: &SlotId, from: &Placement) -> Option<String> {
    let mut question = Question::new(desk, slot, Purpose::Improve(from.node))?;
    // What is leaving already is no reason to leave.
    for (name, nodes) in &mut question.apart {
        *nodes = desk.homes(name);
    }
    let node = desk.node(from.node)?;
    let first = question.violations(node).into_iter().next()?;
    Some(format!("{} {first}", node.name))
}

/// Instances of services with `failback = "auto"` go to a node that is preferred more.
pub(super) fn fail_back(desk: &mut Desk) {
    for service in desk.services_in_order() {
        let wishes = !service.spec.placement.prefer.is_empty();
        if service.spec.failback != Failback::Auto || !wishes || service.spec.mode == Mode::Everywhere {
            continue;
        }
        let slots = desk.wanted_slots(&service);
        for slot in &slots {
            // One at a time, and only while all others run.
            if slots.iter().any(|s| !is_steady(desk, s)) {
                break;
            }
            let Some(from) = settled(desk, slot).filter(Placement::is_running) else { continue };
            if let Some(choice) = preferred(desk, slot, from.node) {
                relocate(desk, slot, &from, &choice, "a preferred node is back");
            }
        }
    }
}

/// Whether nothing is under way with the slot.
fn is_steady(desk: &Desk, slot: &SlotId) -> bool {
    desk.slot(slot).is_none_or(|s| match s.placements.as_slice() {
        [] => true,
        [only] => only.is_running() || only.is_adrift(),
        _ => false,
    })
}

/// The best other node, if it is preferred more and is better on the whole.
fn preferred(desk: &Desk, slot: &SlotId, from: NodeId) -> Option<Choice> {
    let question = Question::new(desk, slot, Purpose::Improve(from))?;
    let choice = question.choose()?;
    let to = choice.target.node;
    let better =
        question.preference(to) > question.preference(from) && question.score(to) > question.score(from);
    better.then_some(choice)
}
