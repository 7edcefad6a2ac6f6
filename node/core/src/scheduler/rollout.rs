//! Rollouts: instances that were placed before the last change to what runs are started anew, one at a time.

use std::sync::Arc;

use super::desk::Desk;
use super::moves::{ask, relocate, settled};
use super::question::Purpose;
use crate::id::SlotId;
use crate::state::service::Service;
use crate::state::slot::{Phase, Placement};

pub(super) fn roll_out(desk: &mut Desk) {
    for service in desk.services_in_order() {
        roll_out_service(desk, &service);
    }
}

fn roll_out_service(desk: &mut Desk, service: &Arc<Service>) {
    let slots = desk.wanted_slots(service);
    let mut old: Vec<(SlotId, Placement)> = slots
        .iter()
        .filter_map(|s| settled(desk, s).map(|p| (s.clone(), p)))
        .filter(|(_, p)| is_old(service, p) && !desk.is_draining(p.node))
        .collect();
    if old.is_empty() || slots.iter().any(|s| is_under_way(desk, service, s)) {
        return;
    }
    // What does not run anyway goes first: the change may be its remedy.
    old.sort_by_key(|(_, p)| p.is_running());
    for (slot, from) in &old {
        let Some(choice) = ask(desk, slot, Purpose::Stay(from.node)) else { continue };
        if relocate(desk, slot, from, &choice, "the service is started anew") {
            return;
        }
    }
}

fn is_old(service: &Service, placement: &Placement) -> bool {
    placement.generation.0 < service.rollout.0
}

/// Whether an instance is being stopped or has not come up since: the next one waits for it.
fn is_under_way(desk: &Desk, service: &Service, slot: &SlotId) -> bool {
    let placements = desk.slot(slot).map_or(&[][..], |s| &s.placements);
    let Some((last, older)) = placements.split_last() else { return false };
    let starting = matches!(last.phase, Phase::Active) && !is_old(service, last) && !last.is_running();
    let stopping = last.is_revoking() && last.session.is_some();
    let doubled = older.iter().any(|p| p.session.is_some());
    starting || stopping || doubled
}
