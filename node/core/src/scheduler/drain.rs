//! Drains: everything moves away, replacements first where two may overlap; what has nowhere to go stays until
//! the deadline.

use std::collections::BTreeSet;

use super::desk::Desk;
use super::moves::{ask, relocate, settled};
use super::question::Purpose;
use crate::id::{Generation, NodeId, ServiceName, SlotId};
use crate::spec::Mode;
use crate::state::node::Node;
use crate::state::slot::{Phase, Placement};
use crate::time::Stamp;

/// When the drain of a node stops waiting; none: never, or it is not being drained.
pub(super) fn deadline(node: &Node) -> Option<Stamp> {
    let drain = node.drain?;
    Some(drain.since.plus(drain.wish.deadline?))
}

pub(super) fn drain(desk: &mut Desk) {
    let draining =
        desk.state.nodes.values().filter(|n| n.drain.is_some() && n.session.is_some() && !n.maintenance);
    for node in draining.map(|n| n.id).collect::<Vec<_>>() {
        drain_node(desk, node);
    }
}

fn drain_node(desk: &mut Desk, node: NodeId) {
    let overdue = desk.node(node).and_then(deadline).is_some_and(|at| at <= desk.now);
    let here = placements(desk, node);
    let everywhere = |id: &SlotId| desk.service(&id.service).is_some_and(|s| s.spec.mode == Mode::Everywhere);
    let (last, first): (Vec<_>, Vec<_>) = here.into_iter().partition(|(id, _)| everywhere(id));
    for (slot, generation) in &first {
        if has_room_for_a_move(desk, node) || overdue {
            empty(desk, node, slot, *generation, overdue);
        }
    }
    let is_empty = first.is_empty();
    for (slot, generation) in &last {
        let may_end = overdue || (is_empty && has_room_for_a_move(desk, node));
        if may_end && is_active(desk, slot, *generation) {
            desk.revoke(slot, *generation, &format!("{} is being drained", desk.name(node)));
        }
    }
}

/// What is on the node: what others wait for first, so that they follow once it runs again; then by importance.
fn placements(desk: &Desk, node: NodeId) -> Vec<(SlotId, Generation)> {
    let mut here: Vec<_> = desk.state.placements_on(node).map(|(id, p)| (id.clone(), p.generation)).collect();
    here.sort_by_cached_key(|(id, _)| {
        let priority = desk.service(&id.service).map_or(0, |s| s.spec.priority);
        (awaited(desk, &id.service), std::cmp::Reverse(priority))
    });
    here
}

/// How many services have to run before this one, directly or through others.
fn awaited(desk: &Desk, service: &ServiceName) -> usize {
    let mut seen = BTreeSet::new();
    let mut open = vec![service.clone()];
    while let Some(name) = open.pop() {
        let Some(service) = desk.service(&name) else { continue };
        for before in &service.spec.placement.after {
            if seen.insert(before.clone()) {
                open.push(before.clone());
            }
        }
    }
    seen.len()
}

fn empty(desk: &mut Desk, node: NodeId, slot: &SlotId, generation: Generation, overdue: bool) {
    let why = format!("{} is being drained", desk.name(node));
    let from = settled(desk, slot).filter(|p| p.generation == generation);
    if let Some((from, choice)) = from.zip(ask(desk, slot, Purpose::Leave(node))) {
        relocate(desk, slot, &from, &choice, &why);
    }
    if overdue && is_active(desk, slot, generation) {
        desk.revoke(slot, generation, &format!("{why}, and the deadline is over"));
    }
}

fn is_active(desk: &Desk, slot: &SlotId, generation: Generation) -> bool {
    let placement = desk.slot(slot).and_then(|s| s.placement(generation));
    placement.is_some_and(|p| matches!(p.phase, Phase::Active))
}

/// Whether the drain may begin another move.
fn has_room_for_a_move(desk: &Desk, node: NodeId) -> bool {
    let limit = desk.node(node).and_then(|n| n.drain).map_or(0, |d| d.wish.max_parallel);
    if limit == 0 {
        return true;
    }
    let on_its_way = |(id, p): &(&SlotId, &Placement)| {
        let superseded =
            desk.slot(id).and_then(|s| s.current()).is_some_and(|c| c.generation != p.generation);
        superseded || p.is_revoking()
    };
    let under_way = desk.state.placements_on(node).filter(on_its_way).count();
    u32::try_from(under_way).is_ok_and(|n| n < limit)
}
