//! When time alone changes the plan.

use super::backoff::{refused_until, retry_at};
use super::desk::{BRAKE_HOLDS, Desk};
use super::drain::deadline;
use crate::state::slot::{Phase, Slot};
use crate::time::Stamp;

/// The earliest of the times that lie ahead.
pub(super) fn next(desk: &Desk) -> Option<Stamp> {
    let drains = desk.state.nodes.values().filter_map(deadline);
    let brake = desk.brake_losses().map(|since| since.plus(BRAKE_HOLDS));
    let slots = desk.state.slots.iter().filter_map(|(id, slot)| {
        let service = desk.state.services.get(&id.service).filter(|s| s.wanted)?;
        of_slot(desk, slot, &service.spec)
    });
    drains.chain(brake).chain(slots).filter(|at| *at > desk.now).min()
}

fn of_slot(desk: &Desk, slot: &Slot, spec: &crate::spec::ServiceSpec) -> Option<Stamp> {
    let failures = slot.failures.iter().map(|f| refused_until(f, spec));
    let retry = retry_at(slot, spec, desk.now);
    let adrift = slot.placements.iter().filter_map(|p| match p.phase {
        Phase::Adrift { since } => Some(since.plus(spec.replace_after)),
        Phase::Active | Phase::Revoking { .. } => None,
    });
    failures.chain(retry).chain(adrift).filter(|at| *at > desk.now).min()
}
