//! Evening out on an operator's wish: what runs goes to clearly better nodes. Each instance moves once at most.

use super::desk::Desk;
use super::moves::{relocate, settled};
use super::plan::Plan;
use super::question::{Purpose, Question};
use super::score::INSTANCE;
use crate::spec::Mode;
use crate::state::State;
use crate::state::slot::Placement;
use crate::time::Stamp;

/// The moves that make the cluster clearly more even: more points than one instance on a node counts.
#[must_use]
pub fn rebalance(state: &State, now: Stamp) -> Plan {
    let mut desk = Desk::new(state.clone(), now);
    for service in desk.services_in_order() {
        if service.spec.mode == Mode::Everywhere {
            continue;
        }
        for slot in desk.wanted_slots(&service) {
            let single = desk.slot(&slot).is_some_and(|s| s.placements.len() == 1);
            let Some(from) = settled(&desk, &slot).filter(Placement::is_running).filter(|_| single) else {
                continue;
            };
            let better = Question::new(&desk, &slot, Purpose::Improve(from.node)).and_then(|question| {
                let choice = question.choose()?;
                let gain = question.score(choice.target.node) - question.score(from.node);
                (gain >= INSTANCE).then_some(choice)
            });
            if let Some(choice) = better {
                relocate(&mut desk, &slot, &from, &choice, "rebalanced");
            }
        }
    }
    desk.into_plan(state.topology)
}
