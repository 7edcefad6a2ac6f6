//! Where instances should run: pure functions from a state to a plan.
//!
//! ```text
//!            ┌─ tidy ─ place ─ retarget ─ drain ─ wishes ─ violations ─ rollout ─┐
//!   State ─▶ Desk (a working copy, judged by apply) ◀── until nothing changes ───┘ ─▶ failback ─▶ Plan
//! ```
//! Each pass asks a [`question`](question::Question): filters refuse nodes and say why, scores decide between the
//! rest. Same state and time, same plan. A plan that was applied leaves nothing to plan, with one exception: what was
//! placed beside a service that moves in the same plan follows it in the next.

mod backoff;
mod desk;
mod drain;
mod explain;
mod filter;
mod item;
mod moves;
mod place;
pub mod plan;
mod question;
mod rebalance;
mod refused;
mod rollout;
mod score;
mod simulate;
mod tidy;
mod wakeup;

use crate::id::SessionId;
use crate::state::State;
use crate::time::Stamp;
use desk::Desk;
use plan::Plan;

pub use explain::{Explanation, best_elsewhere, check_move, drain_blocked, explain, explain_service};
pub use item::{Item, ItemAction, NodeVerdict, items_of_plan};
pub use question::Candidate;
pub use rebalance::rebalance;
pub use refused::{Refused, Resource, ago, span};
pub use simulate::{
    MAX_COMBINATIONS, Survival, drain_preview, plan_for_services, rebalance_items, simulate, survive,
};

/// A pass acts on what earlier ones did; the longest chains follow `with` from service to service.
const MAX_PASSES: usize = 64;

/// What is to be done now. Empty when all is as it should be, or has to wait: see [`next_wakeup`].
#[must_use]
pub fn plan(state: &State, now: Stamp) -> Plan {
    let mut desk = Desk::new(state.clone(), now);
    run_passes(&mut desk);
    desk.into_plan(state.topology)
}

/// The plan that goes with the close of a session: the exclusive slots that it frees are placed in the same
/// apply. Everything else can wait for the next plan.
#[must_use]
pub fn plan_after_loss(state: &State, session: SessionId, now: Stamp) -> Plan {
    let mut desk = Desk::after_loss(state, session, now);
    until_settled(&mut desk, place::place_vacant_exclusive);
    desk.into_plan(state.topology)
}

/// When time alone will change the plan: a drain's deadline, the end of a wait for a lost host, of a pause after
/// failures, of the brake.
#[must_use]
pub fn next_wakeup(state: &State, now: Stamp) -> Option<Stamp> {
    wakeup::next(&Desk::new(state.clone(), now))
}

fn run_passes(desk: &mut Desk) {
    until_settled(desk, needful);
    // Improvements come last: what is needful has the first choice.
    until_settled(desk, |desk| {
        moves::fail_back(desk);
        needful(desk);
    });
}

fn needful(desk: &mut Desk) {
    tidy::tidy(desk);
    place::place_vacant(desk);
    moves::retarget(desk);
    drain::drain(desk);
    moves::grant_wishes(desk);
    moves::leave_violated(desk);
    rollout::roll_out(desk);
}

fn until_settled(desk: &mut Desk, mut pass: impl FnMut(&mut Desk)) {
    for _ in 0..MAX_PASSES {
        let before = desk.steps();
        pass(desk);
        if desk.steps() == before {
            return;
        }
    }
}
