//! The lease protocol in the core simulation: the sound rules survive every seed, and every mutant is caught.
//!
//! One seed, told line by line, of the sound protocol or of a mutant:
//! `MUSTER_SIM_STORY=325 MUSTER_SIM_MUTANT=LeaseOnOneAck cargo test -p muster-tests --test lease_sim story -- --nocapture`
//!
//! `MUSTER_SIM_SEEDS` sets how many seeds the sound protocol has to survive.

#![allow(clippy::print_stdout, reason = "the story is printed")]

use std::thread;

use muster_tests::sim::protocol::Protocol;
use muster_tests::sim::{first_unsafe, mutants, run, sound, survey};

/// How many seeds the sound protocol survives with each change.
const SOUND_SEEDS: u64 = 3000;
/// Within how many seeds a mutant must be caught.
const MUTANT_SEEDS: u64 = 1000;
/// How much of a failed run is shown.
const LAST_LINES: usize = 60;

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

fn workers() -> u64 {
    let known = thread::available_parallelism().map_or(2, std::num::NonZero::get);
    u64::try_from(known).unwrap_or(2)
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
    if let Some((seed, violation)) = survey.failures.first() {
        panic!("{violation}\n{}", end_of_story(sound(), *seed));
    }
}

#[test]
fn every_mutant_is_caught() {
    let all = mutants::mutants();
    let share = all.len().div_ceil(usize::try_from(workers()).unwrap_or(2));
    let survivors: Vec<&str> = thread::scope(|scope| {
        let judge = |some: &[Protocol]| -> Vec<&'static str> {
            let mut survivors = Vec::new();
            for mutant in some {
                match first_unsafe(*mutant, 0..MUTANT_SEEDS) {
                    Some((seed, violation)) => println!("{:28} seed {seed:>4}: {violation}", mutant.name),
                    None => survivors.push(mutant.name),
                }
            }
            survivors
        };
        let running: Vec<_> = all.chunks(share).map(|some| scope.spawn(move || judge(some))).collect();
        running.into_iter().flat_map(|worker| worker.join().expect("a worker does not panic")).collect()
    });
    assert!(survivors.is_empty(), "the simulation is blind for {survivors:?}");
}

#[test]
fn a_seed_is_a_whole_run() {
    for seed in [1, 2, 3] {
        assert_eq!(run(sound(), seed, true).story, run(sound(), seed, true).story, "seed {seed}");
    }
}

#[test]
fn story() {
    let Some(seed) = number_from("MUSTER_SIM_STORY") else { return };
    let name = std::env::var("MUSTER_SIM_MUTANT").unwrap_or_else(|_| "sound".to_owned());
    let protocol = mutants::named(&name).expect("the name of a mutant");
    let outcome = run(protocol, seed, true);
    outcome.story.iter().for_each(|line| println!("{line}"));
    println!(
        "{name}, seed {seed}: {}",
        outcome.violation.map_or("no violation".to_owned(), |v| v.to_string())
    );
}
