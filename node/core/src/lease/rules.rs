//! The rules of LEASES.md as a parameter: production runs [`Sound`]; the mutants live in the tests.
//!
//! Every rule that the protocol marks *(m)*, that is, whose removal was shown to end with two holders, is one
//! item here. A test that can't tell a mutant from [`Sound`] is itself broken; that is what this trait is for.
//! The compiler removes every one of these branches from the production build.

use std::fmt::Debug;

use crate::time::{self, HostInstant};

/// The rules, each with the sound choice as its default.
pub trait Rules: Copy + Debug + Default + Send + Sync + 'static {
    /// Parameters: W = ⌈TTL·(1+ρ)/(1−ρ)⌉ + m, in milliseconds.
    #[must_use]
    fn closing_age_ms(ttl_ms: u32) -> u64 {
        time::closing_age_ms(ttl_ms)
    }

    /// R2(b), R5: no ack and no promise while the log holds a membership entry that is not applied.
    const GATE_ON_APPEND: bool = true;
    /// R2(c), R5: no ack and no promise before the voter's own `VoterUp` is applied.
    const NEEDS_VOTER_UP: bool = true;
    /// R2(d): a session that the applied state doesn't hold open is not acked.
    const UNKNOWN_IS_NOT_OPEN: bool = true;
    /// R2(d), R5: who has promised never acks that session again. Without it an age report is taken for a promise.
    const PROMISE_ENDS_ACKS: bool = true;

    /// R3: a lease rests on acks of a majority, of both halves of a joint membership; not on one ack.
    const LEASE_NEEDS_MAJORITY: bool = true;
    /// R3: only acks that name the membership held count, and a newer one is adopted. Without it the host goes on
    /// with the list of its grant and counts whatever that list's voters ack.
    const FOLLOWS_MEMBERSHIP: bool = true;
    /// R3: a newer list is adopted when a majority of the list held vouches for it; not on one voter's word.
    const LIST_NEEDS_MAJORITY: bool = true;
    /// R3: from which moment a lease counts: the send time, never the time of receipt.
    #[must_use]
    fn lease_base(sent: HostInstant, received: HostInstant) -> HostInstant {
        let _ = received;
        sent
    }

    /// R4: how long before the deadline killing starts, in milliseconds.
    #[must_use]
    fn kill_budget_ms(kill_budget_ms: u32) -> u32 {
        kill_budget_ms
    }

    /// R5: a promise names the voter's own applied membership, never the one that was asked for.
    const PROMISE_NAMES_OWN_MEMBERSHIP: bool = true;
    /// R5: a promise names the voter's own applied count of re-openings, never the one that was asked for.
    const PROMISE_NAMES_OWN_REOPENS: bool = true;
    /// R5: a promise is given only at age W or above.
    const PROMISE_NEEDS_AGE: bool = true;

    /// R6: everything counts as just acked when the voter starts.
    const RESET_ON_START: bool = true;
    /// R6: everything counts as just acked when a membership entry is applied.
    const RESET_ON_MEMBERSHIP: bool = true;
    /// R6: everything counts as just acked when a snapshot is installed.
    const RESET_ON_SNAPSHOT: bool = true;

    /// R5, R7: a close needs promises of a majority; not one promise.
    const CLOSE_NEEDS_MAJORITY: bool = true;
    /// R7: the close names the state machine's membership at its own index.
    const CLOSE_CHECKS_MEMBERSHIP: bool = true;
    /// R7: every promise is of that voter's newest boot.
    const CLOSE_CHECKS_BOOTS: bool = true;
    /// R7, R9: the close names the current count of re-openings, so that a `Reopen` voids older promises.
    const CLOSE_CHECKS_REOPENS: bool = true;
    /// R8: a `VoterUp` is refused unless it replaces the voter's current boot.
    const VOTER_UP_NAMES_PREDECESSOR: bool = true;
    /// R9: a `Reopen` forgets promises of lower counts only.
    const REOPEN_KEEPS_NEWER_PROMISES: bool = true;
}

/// The rules as LEASES.md states them: the only ones that production uses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sound;

impl Rules for Sound {}
