//! The whole stack on simulated hosts, seed after seed, each in a process of its own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::report::Section;
use super::stage::{Limit, Place, Stage};

/// It.
#[derive(Debug)]
pub struct WholeStack {
    /// Where its seeds begin.
    pub seed: u64,
}

/// What a run tells.
#[derive(Debug, Deserialize)]
struct Told {
    violations: Vec<(String, String)>,
    faults: BTreeMap<String, u64>,
    writes: u64,
    length_ms: u64,
}

impl Stage for WholeStack {
    fn name(&self) -> String {
        "whole stack".to_owned()
    }

    fn place(&self) -> Place {
        Place::Background
    }

    fn share(&self) -> u32 {
        2
    }

    fn obstacle(&self) -> Option<String> {
        let missing = program().is_none_or(|program| !program.is_file());
        missing.then(|| "its program is not built: cargo build --release -p muster-fullstack".to_owned())
    }

    fn run(&mut self, limit: &Limit<'_>) -> Section {
        let mut section = Section::new(&self.name());
        let (mut runs, mut writes, mut length_ms) = (0, 0, 0);
        let mut faults = BTreeMap::<String, u64>::new();
        let mut seed = self.seed;
        while !limit.is_over() {
            match one(seed) {
                Ok(told) => {
                    writes += told.writes;
                    length_ms += told.length_ms;
                    for (fault, count) in told.faults {
                        *faults.entry(fault).or_default() += count;
                    }
                    let again = format!("play it again: just story {seed}");
                    let broken = told.violations.into_iter();
                    section.violations.extend(
                        broken.map(|(promise, what)| format!("seed {seed}: {promise}: {what}\n{again}")),
                    );
                }
                Err(why) => section.violations.push(format!("seed {seed}: {why}")),
            }
            runs += 1;
            seed += 1;
        }
        section.count("seeds", runs);
        section.count("simulated minutes", length_ms / 60_000);
        section.count("acknowledged writes", writes);
        for (fault, count) in faults {
            section.count(&fault, count);
        }
        section
    }
}

/// The program stands beside this one.
fn program() -> Option<PathBuf> {
    Some(std::env::current_exe().ok()?.with_file_name("fullstack"))
}

#[allow(
    clippy::disallowed_methods,
    reason = "a run needs a process of its own: its clocks and randomness are simulated"
)]
fn one(seed: u64) -> Result<Told, String> {
    let program = program().ok_or("this program does not know where it is")?;
    let output = Command::new(program).args(["--child", &seed.to_string()]).stdin(Stdio::null()).output();
    let output = output.map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let result = text.lines().rev().find_map(|line| line.strip_prefix("RESULT "));
    let result = result.ok_or_else(|| format!("it ended with {} and no result", output.status))?;
    serde_json::from_str(result).map_err(|e| e.to_string())
}
