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
//! must be caught, or the simulation is blind.

pub mod adversary;
pub mod check;
pub mod clocks;
mod control;
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
pub mod world;

use muster_core::lease::Sound;

use self::check::Violation;
use self::protocol::Protocol;
use self::world::World;

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// What went wrong first, if anything did.
    pub violation: Option<Violation>,
    /// What happened, line by line, if it was to be told.
    pub story: Vec<String>,
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
    let end = world.end();
    world.run(end);
    if world.violation.is_none() {
        world.check_running();
    }
    Outcome { violation: world.violation.take(), story: world.story.take().unwrap_or_default() }
}

/// The first of `seeds` in which the protocol breaks a promise of safety.
#[must_use]
pub fn first_unsafe(protocol: Protocol, seeds: std::ops::Range<u64>) -> Option<(u64, Violation)> {
    let mut seeds = seeds;
    seeds.find_map(|seed| {
        let violation = run(protocol, seed, false).violation.filter(Violation::is_unsafe)?;
        Some((seed, violation))
    })
}
