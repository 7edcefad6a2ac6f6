//! The mutants: each removes or weakens one rule of LEASES.md that is marked *(m)*, or one named in TESTING.md.

use muster_core::lease::{Rules, Sound};
use muster_core::time::HostInstant;

use super::protocol::{Habits, Protocol};

macro_rules! mutants {
    ($($rule:literal $name:ident { $($body:tt)* })*) => {
        $(
            #[derive(Clone, Copy, Debug, Default)]
            struct $name;
            impl Rules for $name { $($body)* }
        )*
        /// Mutants of the core's rules.
        fn of_rules() -> Vec<Protocol> {
            vec![$(Protocol { rule: $rule, ..Protocol::of::<$name>(stringify!($name)) }),*]
        }
    };
}

mutants! {
    "W" ClosingAgeIsTtl { fn closing_age_ms(ttl_ms: u32) -> u64 { u64::from(ttl_ms) } }
    "W" ClosingAgeForgetsOneClock {
        fn closing_age_ms(ttl_ms: u32) -> u64 { (u64::from(ttl_ms) * 101).div_ceil(100) }
    }
    "R2b" AcksBetweenAppendAndApply { const GATE_ON_APPEND: bool = false; }
    "R2c" AcksBeforeVoterUp { const NEEDS_VOTER_UP: bool = false; }
    "R2d" AcksUnknownSessions { const UNKNOWN_IS_NOT_OPEN: bool = false; }
    "R5" AgeReportTakenForAPromise { const PROMISE_ENDS_ACKS: bool = false; }
    "R3" LeaseOnOneAck { const LEASE_NEEDS_MAJORITY: bool = false; }
    "R3" GrantedListForEver { const FOLLOWS_MEMBERSHIP: bool = false; }
    "R3" ListOfOneVoterAdopted { const LIST_NEEDS_MAJORITY: bool = false; }
    "R3" LeaseFromReceipt {
        fn lease_base(_sent: HostInstant, received: HostInstant) -> HostInstant { received }
    }
    "R4" KillsAtTheDeadline { fn kill_budget_ms(_kill_budget_ms: u32) -> u32 { 0 } }
    "R5" PromisesNameTheRequestedMembership { const PROMISE_NAMES_OWN_MEMBERSHIP: bool = false; }
    "R5" PromisesNameTheRequestedReopens { const PROMISE_NAMES_OWN_REOPENS: bool = false; }
    "R5" PromisesAtAnyAge { const PROMISE_NEEDS_AGE: bool = false; }
    "R6" NoResetAtStart { const RESET_ON_START: bool = false; }
    "R6" NoResetAtMembership { const RESET_ON_MEMBERSHIP: bool = false; }
    "R6" NoResetAtSnapshot { const RESET_ON_SNAPSHOT: bool = false; }
    "R5, R7" CloseOnOnePromise { const CLOSE_NEEDS_MAJORITY: bool = false; }
    "R7" CloseUnderAnyMembership { const CLOSE_CHECKS_MEMBERSHIP: bool = false; }
    "R7" CloseWithOldBoots { const CLOSE_CHECKS_BOOTS: bool = false; }
    "R8" LateVoterUpTaken { const VOTER_UP_NAMES_PREDECESSOR: bool = false; }
    "R9" ReopenVoidsNothing { const CLOSE_CHECKS_REOPENS: bool = false; }
    "R9" ReopenForgetsEveryPromise { const REOPEN_KEEPS_NEWER_PROMISES: bool = false; }
}

/// Mutants of guard, shim and replicated state.
fn of_habits() -> Vec<Protocol> {
    let sound = Protocol::of::<Sound>("sound");
    let with = |rule, name, change: fn(&mut Habits)| {
        let mut protocol = Protocol { rule, name, ..sound };
        change(&mut protocol.habits);
        protocol
    };
    vec![
        with("R4", "RelativeTimer", |habits| habits.absolute_timer = false),
        with("R4", "FencedByNodeIdentity", |habits| habits.fenced_needs_key = false),
        with("R10", "HeldSlotAssigned", |habits| habits.held_slot_is_refused = false),
        with("R10", "AssignmentNamesTheNodeOnly", |habits| habits.assignment_names_session = false),
        with("R10", "StartWithoutALease", |habits| habits.start_needs_lease = false),
        with("R10", "RevokedGenerationStarted", |habits| habits.start_needs_newer_generation = false),
        with("R10", "FailureFreesWithoutRevoke", |habits| habits.failure_is_recorded = false),
        with("R11", "TasksOutliveTheirGuard", |habits| habits.tasks_die_with_guard = false),
        with("R12", "ClocksStopInPauses", |habits| habits.clocks_survive_pauses = false),
    ]
}

/// All mutants.
#[must_use]
pub fn mutants() -> Vec<Protocol> {
    let mut all = of_rules();
    all.extend(of_habits());
    all
}

/// The protocol of that name: `sound` or a mutant.
#[must_use]
pub fn named(name: &str) -> Option<Protocol> {
    let mut all = mutants();
    all.push(Protocol::of::<Sound>("sound"));
    all.into_iter().find(|protocol| protocol.name == name)
}
