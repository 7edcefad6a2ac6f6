//! All cases: the sound protocol in every configuration, and each weakened rule in the smallest that shows it.

use std::fmt::Debug;
use std::hash::Hash;

use stateright::Model;

use super::lease::{Lease, Network};
use super::membership::{Adoption, Membership};
use super::sessions::Sessions;
use super::verdict::{Verdict, explore};
use super::weakened::Weakened;

/// What a case must end with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// No state has two holders.
    Safe,
    /// The checker finds a way to two holders.
    TwoHolders,
}

/// One run of the checker.
pub struct Case {
    /// Which model and configuration.
    pub name: &'static str,
    /// Which rule is missing.
    pub weakened: Option<Weakened>,
    /// How it must end.
    pub expected: Expected,
    /// Too large for every day.
    pub long: bool,
    run: Box<dyn Fn() -> Verdict + Send + Sync>,
}

impl Case {
    /// Runs the checker.
    #[must_use]
    pub fn run(&self) -> Verdict {
        (self.run)()
    }

    fn new<M>(name: &'static str, weakened: Option<Weakened>, expected: Expected, model: M) -> Self
    where
        M: Model + Clone + Send + Sync + 'static,
        M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
        M::Action: Clone + Debug + PartialEq,
    {
        let stop_early = expected == Expected::TwoHolders;
        let run = Box::new(move || explore(model.clone(), stop_early));
        Self { name, weakened, expected, long: false, run }
    }

    fn at_length(self) -> Self {
        Self { long: true, ..self }
    }
}

/// All cases, the sound ones first.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut all = sound();
    all.extend(implied());
    all.extend(mutants());
    all
}

/// Clocks that are wrong by one tick in four: ρ = 25 %, and W = ⌈TTL·(1+ρ)/(1−ρ)⌉ = 4 for a TTL of 2.
fn wrong_clocks(network: Network, closing_age: u8) -> Lease<3> {
    Lease { wrong_every: Some(4), closing_age, ..Lease::sound(2, network) }
}

fn reopened(reopens: u8) -> Lease<3> {
    Lease { reopens, ..Lease::sound(2, Network::Immediate) }
}

fn stalling() -> Lease<3> {
    Lease { guard_stalls: true, ..Lease::sound(2, Network::Datagrams) }
}

/// One voter of three is swapped.
fn swap(ttl: u8) -> Membership<4> {
    Membership::sound(0b0111, 0b1110, ttl)
}

fn swap_with_restarts(restarts: u8) -> Membership<4> {
    Membership { restarts, ..swap(1) }
}

fn swap_with_liar(liar: usize, adoption: Adoption) -> Membership<4> {
    Membership { liar: Some(liar), adoption, ..swap(1) }
}

/// Five voters become three.
fn shrink() -> Membership<5> {
    Membership::sound(0b11111, 0b11100, 1)
}

/// Three voters become five.
fn grow() -> Membership<5> {
    Membership::sound(0b00111, 0b11111, 1)
}

fn sound() -> Vec<Case> {
    let safe = |name| move |model| Case::new(name, None, Expected::Safe, model);
    let five = |reopens| Lease::<5> { reopens, ..Lease::sound(2, Network::Immediate) };
    let swap_case = |name, model: Membership<4>| Case::new(name, None, Expected::Safe, model);
    let sessions = |name, model: Sessions| Case::new(name, None, Expected::Safe, model);
    vec![
        safe("lease: 3 voters, datagrams, TTL 2")(Lease::<3>::sound(2, Network::Datagrams)),
        safe("lease: 3 voters, datagrams, TTL 3")(Lease::<3>::sound(3, Network::Datagrams)).at_length(),
        safe("lease: 3 voters, one Reopen")(reopened(1)),
        safe("lease: 3 voters, two Reopens")(reopened(2)).at_length(),
        safe("lease: 3 voters, clocks wrong by 25 %")(wrong_clocks(Network::Immediate, 4)),
        safe("lease: 3 voters, clocks wrong by 25 %, datagrams")(wrong_clocks(Network::Datagrams, 4))
            .at_length(),
        safe("lease: 3 voters, the guard stalls")(stalling()),
        Case::new("lease: 5 voters", None, Expected::Safe, five(0)),
        Case::new("lease: 5 voters, one Reopen", None, Expected::Safe, five(1)).at_length(),
        swap_case("membership: swap one of 3", swap(1)),
        swap_case("membership: swap one of 3, TTL 2", swap(2)).at_length(),
        swap_case("membership: swap one of 3, truncations", Membership { truncations: true, ..swap(1) }),
        swap_case("membership: swap one of 3, one restart", swap_with_restarts(1)).at_length(),
        swap_case("membership: swap one of 3, two restarts", swap_with_restarts(2)).at_length(),
        swap_case("membership: the leaving voter lies", swap_with_liar(0, Adoption::SameList)),
        swap_case("membership: a staying voter lies", swap_with_liar(1, Adoption::SameList)),
        swap_case("membership: the joining voter lies", swap_with_liar(3, Adoption::SameList)),
        swap_case("membership: a liar, ids may be later", swap_with_liar(1, Adoption::SameOrLater)),
        Case::new("membership: 3 voters become 5", None, Expected::Safe, grow()).at_length(),
        Case::new("membership: 5 voters become 3", None, Expected::Safe, shrink()).at_length(),
        sessions("sessions: 3 sessions, 3 placements", Sessions::sound(3, 3)),
        sessions("sessions: 4 sessions, 4 placements", Sessions::sound(4, 4)).at_length(),
    ]
}

/// What turns out to follow from the other rules.
fn implied() -> Vec<Case> {
    let restarts = |rule| {
        Case::new("membership: one restart", Some(rule), Expected::Safe, {
            swap_with_restarts(1).without(rule)
        })
    };
    let truncations = |rule| {
        let model = Membership { truncations: true, ..swap(1) }.without(rule);
        Case::new("membership: truncations", Some(rule), Expected::Safe, model)
    };
    let sessions = |rule| {
        Case::new(
            "sessions: 3 sessions, 3 placements",
            Some(rule),
            Expected::Safe,
            Sessions::sound(3, 3).without(rule),
        )
    };
    let lease = |rule| {
        let model = Lease::<3>::sound(2, Network::Immediate).without(rule);
        Case::new("lease: 3 voters", Some(rule), Expected::Safe, model)
    };
    vec![
        lease(Weakened::PromisesBeforeVoterUp),
        restarts(Weakened::PromisesBeforeVoterUp).at_length(),
        truncations(Weakened::PromisesBetweenAppendAndApply),
        sessions(Weakened::NewSessionClosesTheOld),
    ]
}

fn mutants() -> Vec<Case> {
    use Weakened as W;
    let two = Expected::TwoHolders;
    let lease = |rule, model: Lease<3>| Case::new("lease", Some(rule), two, model.without(rule));
    let plain = || Lease::<3>::sound(2, Network::Datagrams);
    let membership =
        |rule, model: Membership<4>| Case::new("membership", Some(rule), two, model.without(rule));
    let sessions = |rule| Case::new("sessions", Some(rule), two, Sessions::sound(4, 4).without(rule));
    vec![
        lease(W::ClosingAgeIsTtl, wrong_clocks(Network::Immediate, 2)),
        lease(W::ClosingAgeForgetsOneClock, wrong_clocks(Network::Immediate, 3)),
        lease(W::AcksBeforeVoterUp, plain()),
        lease(W::AcksUnknownSessions, plain()),
        lease(W::LeaseOnOneAck, plain()),
        lease(W::LeaseFromReceipt, plain()),
        lease(W::KillsAtTheDeadline, plain()),
        lease(W::RelativeTimer, stalling()),
        lease(W::PromisesAtAnyAge, plain()),
        lease(W::PromisesNameTheRequestedReopens, reopened(1)),
        lease(W::AgeReportTakenForAPromise, plain()),
        lease(W::CloseOnOnePromise, plain()),
        lease(W::NoResetAtStart, plain()),
        lease(W::CloseWithOldBoots, plain()),
        lease(W::LateVoterUpTaken, plain()),
        lease(W::ReopenVoidsNothing, reopened(1)),
        lease(W::ReopenForgetsEveryPromise, reopened(1)),
        lease(W::ClocksStopInPauses, plain()),
        membership(W::AcksBetweenAppendAndApply, swap(1)),
        membership(W::GrantedListForEver, swap(1)),
        membership(W::ListOfOneVoterAdopted, swap_with_liar(1, Adoption::SameList)),
        Case::new("membership: 5 voters become 3", Some(W::PromisesNameTheRequestedMembership), two, {
            shrink().without(W::PromisesNameTheRequestedMembership)
        }),
        membership(W::NoResetAtMembership, swap(1)),
        membership(W::NoResetAtSnapshot, swap(1)),
        membership(W::CloseUnderAnyMembership, swap(1)),
        sessions(W::FencedByNodeIdentity),
        sessions(W::HeldSlotAssigned),
        sessions(W::AssignmentNamesTheNodeOnly),
        sessions(W::StartWithoutALease),
        sessions(W::RevokedGenerationStarted),
        sessions(W::FailureFreesWithoutRevoke),
        sessions(W::TasksOutliveTheirGuard),
    ]
}
