//! The core simulation by hand: `sim replay SEED [MUTANT]` tells one run, `sim survey [MINUTES] [FIRST_SEED]` runs seed
//! after seed of the sound protocol for so long and prints what happened.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what it prints is what it is for")]
#![allow(clippy::disallowed_methods, reason = "a survey lasts for a time on the wall")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use muster_tests::sim::{mutants, run, survey};

const USAGE: &str = "usage: sim replay SEED [MUTANT] | sim survey [MINUTES] [FIRST_SEED]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["replay", seed] => replay(seed, "sound"),
        ["replay", seed, mutant] => replay(seed, mutant),
        ["survey"] => survey_for("1", "0"),
        ["survey", minutes] => survey_for(minutes, "0"),
        ["survey", minutes, first] => survey_for(minutes, first),
        _ => None,
    };
    done.unwrap_or_else(|| {
        eprintln!("{USAGE}");
        ExitCode::from(2)
    })
}

/// Tells a run. `None`: there is no such seed or mutant.
fn replay(seed: &str, name: &str) -> Option<ExitCode> {
    let protocol = mutants::named(name)?;
    let seed = seed.parse().ok()?;
    let outcome = run(protocol, seed, true);
    outcome.story.iter().for_each(|line| println!("{line}"));
    let end = outcome.violation.map_or("no violation".to_owned(), |violation| violation.to_string());
    println!("{name}, seed {seed}: {end}");
    Some(ExitCode::SUCCESS)
}

/// Runs the sound protocol. `None`: the numbers are none.
fn survey_for(minutes: &str, first: &str) -> Option<ExitCode> {
    let minutes: u64 = minutes.parse().ok()?;
    let first: u64 = first.parse().ok()?;
    let began = Instant::now();
    let survey = survey(first..u64::MAX, || began.elapsed() >= Duration::from_secs(60 * minutes));
    let rate =
        survey.tally.simulated_ms / 60 / u64::try_from(began.elapsed().as_millis()).unwrap_or(1).max(1);
    print!("{}", survey.tally);
    println!("{:<44} {rate:>14}", "simulated minutes per second");
    for (seed, violation) in &survey.failures {
        println!("seed {seed}: {violation}; see `just replay {seed}`");
    }
    Some(if survey.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
