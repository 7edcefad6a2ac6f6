//! Placing instances: whenever the state changed, the scheduler is asked for a plan.

use std::sync::Arc;

use muster_core::command::Command;
use muster_core::state::State;

use super::close_round::now;
use super::{Controller, Leading, Proposed};

impl Controller {
    pub(super) fn place(&self, leading: &mut Leading, state: &Arc<State>) {
        let at = now(state);
        let time_is_up = leading.replan_at.is_some_and(|due| due <= at);
        let seen = Some((state.topology, state.observed));
        if leading.plan_in_flight || (leading.planned_for == seen && !time_is_up) {
            return;
        }
        let plan = muster_core::scheduler::plan(state, at);
        leading.planned_for = seen;
        leading.replan_at = muster_core::scheduler::next_wakeup(state, at);
        if plan.actions.is_empty() {
            return;
        }
        tracing::debug!(base = %plan.base, steps = plan.actions.len(), "proposing a plan");
        leading.plan_in_flight = true;
        // Should it be refused as stale, the newer state is planned on when the answer is here.
        leading.planned_for = None;
        self.propose(Proposed::Plan, Command::ApplyPlan(plan));
    }
}
