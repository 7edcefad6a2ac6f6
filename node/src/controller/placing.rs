//! Placing instances: whenever the state changed, the scheduler is asked for a plan.

use std::sync::Arc;
use std::time::Duration;

use muster_core::command::Command;
use muster_core::state::State;

use muster_core::scheduler::plan::Action;

use super::{Controller, Leading, Proposed};
use crate::clock;

/// The same steps are not proposed again sooner than this: should apply refuse what the scheduler wishes, the log
/// must not fill with it.
const SAME_PLAN_PAUSE: Duration = Duration::from_millis(500);

impl Controller {
    pub(super) fn place(&self, leading: &mut Leading, state: &Arc<State>) {
        let at = self.proposer.now(state);
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
        if let Some(wait) = leading.repeated_too_soon(&plan.actions) {
            leading.replan_at = Some(at.plus(wait));
            return;
        }
        tracing::debug!(base = %plan.base, steps = plan.actions.len(), "proposing a plan");
        leading.plan_in_flight = true;
        // Should it be refused as stale, the newer state is planned on when the answer is here.
        leading.planned_for = None;
        self.propose(Proposed::Plan, Command::ApplyPlan(plan));
    }
}

impl Leading {
    /// How long the same steps as last time have to wait; remembers them otherwise.
    fn repeated_too_soon(&mut self, actions: &[Action]) -> Option<Duration> {
        let at = clock::monotonic();
        if let Some((last, proposed)) = &self.last_plan
            && last == actions
            && at - *proposed < SAME_PLAN_PAUSE
        {
            return Some(SAME_PLAN_PAUSE - (at - *proposed));
        }
        self.last_plan = Some((actions.to_vec(), at));
        None
    }
}
