//! The core simulation: the sans-IO halves of the lease protocol among drifting clocks, lossy networks, crashing
//! voters, guards and machines, and changing voters, in virtual time. A seed is a whole run.
//!
//! ```text
//!   hosts (guard, kernel timer, tasks, agent) ── network ── replicas (voter's half, log, state, leader's detector)
//!            └───────────── faults ─────────────┴────────────── adversary ──────────────┘
//! ```
//!
//! Checked at every step: never two holders of a slot; every task dead by its deadline; no session closed while its
//! host has a lease of it; and after the faults that every slot runs again. The rules are a parameter: every mutant
//! must be caught, or the simulation is blind. In one of [`world::TWIN_EVERY`] seeds of the sound protocol the product's
//! own state machine gets the same log (`twin.rs`), and both must say the same.

pub mod adversary;
pub mod check;
pub mod clocks;
mod control;
pub mod episodes;
pub mod events;
mod faults;
mod guards;
pub mod host;
pub mod ledger;
pub mod mutants;
pub mod network;
pub mod protocol;
mod raft;
pub mod replica;
pub mod rng;
pub mod roster;
pub mod tally;
mod twin;
pub mod world;

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use muster_core::lease::Sound;

use self::check::Violation;
use self::protocol::Protocol;
use self::tally::Tally;
use self::world::World;

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// What went wrong first, if anything did.
    pub violation: Option<Violation>,
    /// What happened, line by line, if it was to be told.
    pub story: Vec<String>,
    /// What happened, counted.
    pub tally: Tally,
}

/// The sound protocol.
#[must_use]
pub fn sound() -> Protocol {
    Protocol::of::<Sound>("sound")
}

/// Runs one seed.
#[must_use]
pub fn run(protocol: Protocol, seed: u64, told: bool) -> Outcome {
    let mut world = World::new(protocol, seed, told);
    world.run();
    let (violation, story) = (world.violation.take(), world.story.take().unwrap_or_default());
    Outcome { violation, story, tally: world.tally }
}

/// The first of `seeds` in which the protocol breaks a promise of safety.
#[must_use]
pub fn first_unsafe(protocol: Protocol, seeds: Range<u64>) -> Option<(u64, Violation)> {
    let mut seeds = seeds;
    seeds.find_map(|seed| {
        let violation = run(protocol, seed, false).violation.filter(Violation::is_unsafe)?;
        Some((seed, violation))
    })
}

/// What many runs of the sound protocol showed.
#[derive(Debug, Default)]
pub struct Survey {
    /// All counts.
    pub tally: Tally,
    /// The seeds in which something went wrong.
    pub failures: Vec<(u64, Violation)>,
}

/// Runs the sound protocol with seed after seed on all processors, until `seeds` are used up or `enough` says so.
#[must_use]
pub fn survey(seeds: Range<u64>, enough: impl Fn() -> bool + Sync) -> Survey {
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let mut survey = Survey::default();
        while !enough() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            let outcome = run(sound(), seed, false);
            survey.tally.add(&outcome.tally);
            survey.failures.extend(outcome.violation.map(|violation| (seed, violation)));
        }
        survey
    };
    let workers = thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let parts: Vec<Survey> = thread::scope(|scope| {
        let running: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        running.into_iter().map(|worker| worker.join().expect("a worker does not panic")).collect()
    });
    let mut all = Survey::default();
    for part in parts {
        all.tally.add(&part.tally);
        all.failures.extend(part.failures);
    }
    all.failures.sort_by_key(|(seed, _)| *seed);
    all
}
