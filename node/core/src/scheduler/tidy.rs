//! What has no place any more: instances of stopped services and surplus slots, superseded ones, and replacements
//! of instances that came back.

use super::desk::Desk;
use super::plan::ActionKind;
use crate::id::SlotId;
use crate::spec::Mode;
use crate::state::service::Service;
use crate::state::slot::{InstanceState, Phase, Placement, Slot};

pub(super) fn tidy(desk: &mut Desk) {
    let slots = desk.state.slots.clone();
    for (id, slot) in &slots {
        if slot.placements.is_empty() {
            continue;
        }
        if desk.state.wants(id) {
            settle(desk, id, slot);
        } else {
            end_all(desk, id, slot);
        }
    }
}

/// Nothing of the slot is wanted: everything is revoked, and moves under way lose their targets.
fn end_all(desk: &mut Desk, id: &SlotId, slot: &Slot) {
    let why = why_unwanted(desk, id);
    for placement in &slot.placements {
        let ends = matches!(placement.phase, Phase::Revoking { target: None, .. });
        if !ends && desk.is_touchable(placement.node) {
            desk.revoke(id, placement.generation, &why);
        }
    }
}

fn why_unwanted(desk: &Desk, id: &SlotId) -> String {
    let Some(service) = desk.service(&id.service) else { return "the service is gone".to_owned() };
    match service.spec.mode {
        _ if service.removing => "the service is being removed".to_owned(),
        _ if !service.wanted => "the service was stopped".to_owned(),
        Mode::Replicated { count } => format!("the service has {count} instances now"),
        Mode::Everywhere => "the service's requirements do not hold there any more".to_owned(),
        Mode::Exclusive => "an exclusive service has one instance".to_owned(),
    }
}

/// A wanted slot with several placements: the newest counts.
fn settle(desk: &mut Desk, id: &SlotId, slot: &Slot) {
    let Some((last, older)) = slot.placements.split_last() else { return };
    let Some(service) = desk.service(&id.service).filter(|s| !s.spec.mode.is_exclusive()) else { return };
    for placement in older {
        if !desk.is_touchable(placement.node) {
            continue;
        }
        match placement.phase {
            Phase::Adrift { .. } if desk.node(placement.node).is_none() => {
                let generation = placement.generation;
                desk.step(id, ActionKind::Abandon { generation }, "its node left the cluster".to_owned());
            }
            // It is recorded until its node comes back, so that it is stopped then.
            Phase::Adrift { .. } | Phase::Revoking { target: None, .. } => {}
            Phase::Revoking { target: Some(_), .. } => {
                desk.revoke(id, placement.generation, "another instance has taken its place");
            }
            Phase::Active if last.is_running() => {
                let why = format!("the instance on {} has taken its place", desk.name(last.node));
                desk.revoke(id, placement.generation, &why);
            }
            Phase::Active if may_stay(desk, &service, placement, last) => {
                let generation = placement.generation;
                let why = format!("{} came back in time", desk.name(placement.node));
                if desk.step(id, ActionKind::Keep { generation }, why) {
                    return;
                }
            }
            Phase::Active => {}
        }
    }
}

/// Whether an instance came back after its replacement was placed, and is as good as before (LEASES.md R13).
fn may_stay(desk: &Desk, service: &Service, old: &Placement, replacement: &Placement) -> bool {
    // A session's id is the log index at which it was opened, as a generation is that of its placement.
    let came_back = old.session.is_some_and(|session| session.0 > replacement.generation.0);
    let failed = matches!(old.observed.state, InstanceState::Failed | InstanceState::Stopped);
    came_back
        && !failed
        && old.generation.0 >= service.rollout.0
        && desk.node(old.node).is_some_and(|n| n.drain.is_none() && !n.maintenance)
        && desk.is_touchable(replacement.node)
}
