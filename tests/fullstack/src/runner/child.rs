//! The process of one run.

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use crate::mutant::Mutant;
use crate::run::{Outcome, Plan};
use crate::trace::{self, Telling};
use crate::world::World;

/// What the line with the result begins with.
pub const RESULT: &str = "RESULT ";

/// What the process tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Broken promises: which, and what was seen.
    pub violations: Vec<(String, String)>,
    /// Faults by kind.
    pub faults: BTreeMap<String, u64>,
    /// Acknowledged writes.
    pub writes: u64,
    /// Answered reads.
    pub reads: u64,
    /// Tasks that were started.
    pub starts: u64,
    /// Messages that arrived.
    pub messages: u64,
    /// Length of the run.
    pub length_ms: u64,
    /// How long after the healing everything ran.
    pub placed_after_ms: u64,
    /// Lines of the trace, the sum over them, and the sum over all messages.
    pub digest: (u64, u64, u64),
}

impl From<Outcome> for Told {
    fn from(outcome: Outcome) -> Self {
        let ms = |ns: u64| ns / 1_000_000;
        let violations = outcome.violations.into_iter();
        Self {
            violations: violations
                .map(|v| (v.promise.to_owned(), format!("at {} ms: {}", ms(v.at_ns), v.what)))
                .collect(),
            faults: outcome.faults.into_iter().map(|(fault, count)| (format!("{fault:?}"), count)).collect(),
            writes: outcome.writes,
            reads: outcome.reads,
            starts: outcome.starts,
            messages: outcome.messages,
            length_ms: ms(outcome.length_ns),
            placed_after_ms: outcome.placed_after_ns.map_or(u64::MAX, ms),
            digest: outcome.digest,
        }
    }
}

/// Runs one seed in this process.
///
/// # Panics
/// Never: the result is numbers and text.
#[must_use]
pub fn run(seed: u64, mutant: Option<Mutant>, with_story: bool) -> ExitCode {
    let root = match tempfile::tempdir_in(World::scratch()) {
        Ok(root) => root,
        Err(error) => {
            eprintln!("there is no room for the files of the run: {error}");
            return ExitCode::FAILURE;
        }
    };
    trace::begin(
        if with_story { Telling::Story } else { Telling::Digest },
        &root.path().display().to_string(),
    );
    match (Plan { seed, mutant }).run(root.path()) {
        Ok(outcome) => {
            let told = Told::from(outcome);
            let sound = told.violations.is_empty();
            if with_story {
                for (promise, what) in &told.violations {
                    println!("VIOLATION of {promise}: {what}");
                }
            }
            println!("{RESULT}{}", serde_json::to_string(&told).expect("numbers and text"));
            if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("the run did not begin: {error}");
            ExitCode::FAILURE
        }
    }
}
