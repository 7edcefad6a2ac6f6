//! The simulation of the whole stack: runs many seeds, each in a process of its own, and prints one table.
//!
//! ```text
//! cargo test -p muster-fullstack                            the short form
//! MUSTER_FULLSTACK_SEEDS=20000 cargo test -p muster-fullstack   the long form
//! cargo test -p muster-fullstack --test fullstack -- --seed 17         one seed, with its story
//! cargo test -p muster-fullstack --test fullstack -- --mutants 40      in how many seeds each mutant is caught
//! ```

#[path = "fullstack/runner.rs"]
mod runner;

use std::process::ExitCode;

use muster_fullstack::mutant::Mutant;
use runner::{Runner, child};

/// Seeds of the short form.
const SHORT_SEEDS: u64 = 200;
/// How many there are.
const SEEDS_VARIABLE: &str = "MUSTER_FULLSTACK_SEEDS";
/// The first one.
const FIRST_VARIABLE: &str = "MUSTER_FULLSTACK_FIRST";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let after = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).map(String::as_str)
    };
    let mutant = after("--mutant").map(|name| Mutant::named(name).expect("a mutant of that name"));
    if let Some(seed) = after("--child") {
        return child::run(seed.parse().expect("a seed"), mutant, false);
    }
    if let Some(seed) = after("--seed") {
        return child::run(seed.parse().expect("a seed"), mutant, true);
    }
    if let Some(limit) = after("--mutants") {
        return Runner::default().hunt(limit.parse().expect("a number of seeds"));
    }
    if arguments.iter().any(|argument| argument == "--list") {
        println!("fullstack: test");
        return ExitCode::SUCCESS;
    }
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number of seeds"));
    let first = number(FIRST_VARIABLE).unwrap_or(1);
    let seeds = number(SEEDS_VARIABLE).unwrap_or(SHORT_SEEDS);
    Runner::default().run(first..first + seeds)
}
