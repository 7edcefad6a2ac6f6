//! Vacant slots get a node.

use super::desk::Desk;
use super::plan::ActionKind;
use super::question::{Purpose, Question};
use super::refused::ago;
use crate::id::SlotId;
use crate::spec::Mode;
use crate::state::slot::{Phase, Placement};

/// Places all vacant slots, those of the most important services first.
pub(super) fn place_vacant(desk: &mut Desk) {
    for service in desk.services_in_order() {
        for slot in desk.wanted_slots(&service) {
            place(desk, &slot);
        }
    }
}

/// Places the vacant slots of exclusive services only: what a failover needs.
pub(super) fn place_vacant_exclusive(desk: &mut Desk) {
    for service in desk.services_in_order() {
        if service.spec.mode.is_exclusive() {
            for slot in desk.wanted_slots(&service) {
                place(desk, &slot);
            }
        }
    }
}

fn place(desk: &mut Desk, slot: &SlotId) {
    let Some(occasion) = occasion(desk, slot) else { return };
    let choice = Question::new(desk, slot, Purpose::Place).and_then(|question| question.choose());
    if let Some(choice) = choice {
        desk.step(slot, ActionKind::Assign(choice.target), format!("{occasion}{}", choice.why));
    }
}

/// Why the slot needs a placement now; none if it has one, or may still get one back.
fn occasion(desk: &Desk, slot: &SlotId) -> Option<String> {
    let placements = desk.slot(slot).map_or(&[][..], |s| &s.placements);
    let Some(last) = placements.last() else { return Some(desk.loss_of(slot)) };
    let replicated =
        desk.service(&slot.service).is_some_and(|s| matches!(s.spec.mode, Mode::Replicated { .. }));
    if !replicated || placements.iter().any(|p| !may_be_replaced(desk, slot, p)) {
        return None;
    }
    Some(match last.phase {
        Phase::Adrift { since } => {
            format!("replaces the one on {}, lost {}; ", desk.name(last.node), ago(desk.now.since(since)))
        }
        Phase::Active | Phase::Revoking { .. } => {
            format!("replaces the one on {}, which is lost; ", desk.name(last.node))
        }
    })
}

/// Whether this placement is lost and has had its time to come back.
fn may_be_replaced(desk: &Desk, slot: &SlotId, placement: &Placement) -> bool {
    match placement.phase {
        Phase::Active => false,
        // It is on its way out; without a session nothing of it will be heard before its node comes back.
        Phase::Revoking { .. } => placement.session.is_none() && !desk.brake_is_on(),
        Phase::Adrift { since } => {
            let patience = desk.service(&slot.service).map(|s| s.spec.replace_after).unwrap_or_default();
            desk.now >= since.plus(patience) && !desk.brake_is_on()
        }
    }
}
