//! The lease protocol in the core simulation: the sound rules survive every seed, and every mutant is caught.
//!
//! `just replay 325 LeaseOnOneAck` tells one seed, of the sound protocol or of a mutant, line by line.
//!
//! `MUSTER_SIM_SEEDS` sets how many seeds the sound protocol has to survive.

#![allow(clippy::print_stdout, reason = "the counts are printed")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use muster_tests::proof::{self, Section};
use muster_tests::sim::check::Violation;
use muster_tests::sim::protocol::Protocol;
use muster_tests::sim::{first_unsafe, mutants, run, sound, survey};

/// How many seeds the sound protocol survives with each change.
const SOUND_SEEDS: u64 = 20_000;
/// Within how many seeds a mutant must be caught.
const MUTANT_SEEDS: u64 = 1000;
/// How much of a failed run is shown.
const LAST_LINES: usize = 60;

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// The last lines of a run that failed, so that a report can be understood as it stands.
fn end_of_story(protocol: Protocol, seed: u64) -> String {
    let story = run(protocol, seed, true).story;
    let skipped = story.len().saturating_sub(LAST_LINES);
    format!("seed {seed}, after {skipped} lines:\n{}", story[skipped..].join("\n"))
}

#[test]
fn the_sound_protocol_survives_every_seed() {
    let seeds = number_from("MUSTER_SIM_SEEDS").unwrap_or(SOUND_SEEDS);
    let survey = survey(0..seeds, || false);
    print!("{}", survey.tally);
    let idle = survey.tally.counts().into_iter().filter(|(name, count)| *count == 0 && *name != "violations");
    let idle: Vec<_> = idle.collect();
    assert!(idle.is_empty(), "this never happened: {idle:?}");
    if let Some((seed, violation)) = survey.failures.first() {
        panic!("{violation}\n{}", end_of_story(sound(), *seed));
    }
}

/// Which seed catches each mutant, in their order.
fn caught(all: &[Protocol]) -> Vec<Option<(u64, Violation)>> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut caught = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(mutant) = all.get(at) else { return caught };
            caught.push((at, first_unsafe(*mutant, 0..MUTANT_SEEDS)));
        }
    };
    let mut caught: Vec<(usize, Option<(u64, Violation)>)> = thread::scope(|scope| {
        let workers = thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let running: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        running.into_iter().flat_map(|worker| worker.join().expect("a worker does not panic")).collect()
    });
    caught.sort_by_key(|(at, _)| *at);
    caught.into_iter().map(|(_, seen)| seen).collect()
}

#[test]
fn every_mutant_is_caught() {
    let all = mutants::mutants();
    let caught = caught(&all);
    let survivors = all.iter().zip(&caught).filter(|(_, seen)| seen.is_none()).map(|(mutant, _)| mutant.name);
    let survivors: Vec<&str> = survivors.collect();
    assert!(survivors.is_empty(), "the simulation is blind for {survivors:?}");
    let row = |(mutant, seen): (&Protocol, &Option<(u64, Violation)>)| {
        let (seed, violation) = seen.as_ref()?;
        let name = format!("`{}`", mutant.name);
        Some(vec![mutant.rule.to_owned(), name, (seed + 1).to_string(), violation.kind().to_owned()])
    };
    let rows: Vec<Vec<String>> = all.iter().zip(&caught).filter_map(row).collect();
    let table = proof::table(&["rule", "mutant", "seeds needed", "first seen as"], &rows);
    print!("{table}");
    proof::settle(Section::Mutants, &table).unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn a_seed_is_a_whole_run() {
    for seed in [1, 2, 3] {
        assert_eq!(run(sound(), seed, true).story, run(sound(), seed, true).story, "seed {seed}");
    }
}
