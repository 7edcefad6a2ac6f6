//! The mutants: each removes or weakens one rule of LEASES.md that is marked *(m)*, or one named in TESTING.md.

use muster_core::lease::{Rules, Sound};
use muster_core::time::HostInstant;

use super::protocol::{Habits, Protocol};

macro_rules! mutants {
    ($($name:ident { $($body:tt)* })*) => {
        $(
            #[derive(Clone, Copy, Debug, Default)]
            struct $name;
            impl Rules for $name { $($body)* }
        )*
        /// Mutants of the core's rules.
        fn of_rules() -> Vec<Protocol> {
            vec![$(Protocol::of::<$name>(stringify!($name))),*]
        }
    };
}

mutants! {
    // Parameters.
    ClosingAgeIsTtl { fn closing_age_ms(ttl_ms: u32) -> u64 { u64::from(ttl_ms) } }
    ClosingAgeForgetsOneClock {
        fn closing_age_ms(ttl_ms: u32) -> u64 { (u64::from(ttl_ms) * 101).div_ceil(100) }
    }
    // R2.
    AcksBetweenAppendAndApply { const GATE_ON_APPEND: bool = false; }
    AcksBeforeVoterUp { const NEEDS_VOTER_UP: bool = false; }
    AcksUnknownSessions { const UNKNOWN_IS_NOT_OPEN: bool = false; }
    AgeReportTakenForAPromise { const PROMISE_ENDS_ACKS: bool = false; }
    // R3.
    LeaseOnOneAck { const LEASE_NEEDS_MAJORITY: bool = false; }
    GrantedListForEver { const FOLLOWS_MEMBERSHIP: bool = false; }
    ListOfOneVoterAdopted { const LIST_NEEDS_MAJORITY: bool = false; }
    LeaseFromReceipt {
        fn lease_base(_sent: HostInstant, received: HostInstant) -> HostInstant { received }
    }
    // R4.
    KillsAtTheDeadline { fn kill_budget_ms(_kill_budget_ms: u32) -> u32 { 0 } }
    // R5.
    PromisesNameTheRequestedMembership { const PROMISE_NAMES_OWN_MEMBERSHIP: bool = false; }
    PromisesNameTheRequestedReopens { const PROMISE_NAMES_OWN_REOPENS: bool = false; }
    PromisesAtAnyAge { const PROMISE_NEEDS_AGE: bool = false; }
    // R6.
    NoResetAtStart { const RESET_ON_START: bool = false; }
    NoResetAtMembership { const RESET_ON_MEMBERSHIP: bool = false; }
    NoResetAtSnapshot { const RESET_ON_SNAPSHOT: bool = false; }
    // R7.
    CloseOnOnePromise { const CLOSE_NEEDS_MAJORITY: bool = false; }
    CloseUnderAnyMembership { const CLOSE_CHECKS_MEMBERSHIP: bool = false; }
    CloseWithOldBoots { const CLOSE_CHECKS_BOOTS: bool = false; }
    // R8.
    LateVoterUpTaken { const VOTER_UP_NAMES_PREDECESSOR: bool = false; }
    // R9.
    ReopenVoidsNothing { const CLOSE_CHECKS_REOPENS: bool = false; }
    ReopenForgetsEveryPromise { const REOPEN_KEEPS_NEWER_PROMISES: bool = false; }
}

/// Mutants of guard, shim and replicated state.
fn of_habits() -> Vec<Protocol> {
    let sound = Protocol::of::<Sound>("sound");
    let with = |name, change: fn(&mut Habits)| {
        let mut protocol = Protocol { name, ..sound };
        change(&mut protocol.habits);
        protocol
    };
    vec![
        with("RelativeTimer", |habits| habits.absolute_timer = false),
        with("FencedByNodeIdentity", |habits| habits.fenced_needs_key = false),
        with("HeldSlotAssigned", |habits| habits.held_slot_is_refused = false),
        with("AssignmentNamesTheNodeOnly", |habits| habits.assignment_names_session = false),
        with("StartWithoutALease", |habits| habits.start_needs_lease = false),
        with("RevokedGenerationStarted", |habits| habits.start_needs_newer_generation = false),
        with("FailureFreesWithoutRevoke", |habits| habits.failure_is_recorded = false),
        with("TasksOutliveTheirGuard", |habits| habits.tasks_die_with_guard = false),
        with("ClocksStopInPauses", |habits| habits.clocks_survive_pauses = false),
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
