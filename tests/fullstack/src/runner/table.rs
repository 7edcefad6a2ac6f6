//! The counts of many runs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::child::Told;

/// The sums, and what failed.
#[derive(Debug, Default)]
pub struct Table {
    runs: u64,
    faults: BTreeMap<String, u64>,
    writes: u64,
    reads: u64,
    starts: u64,
    messages: u64,
    length_ms: u64,
    slowest_ms: u64,
    digests: BTreeMap<u64, (u64, u64, u64)>,
    again: Vec<(u64, (u64, u64, u64))>,
    /// One line for each run that failed.
    pub failures: Vec<String>,
}

impl Table {
    /// A run's result.
    pub fn add(&mut self, seed: u64, told: &Result<Told, String>) {
        self.runs += 1;
        let told = match told {
            Ok(told) => told,
            Err(error) => return self.failures.push(format!("seed {seed}: {error}")),
        };
        for (fault, count) in &told.faults {
            *self.faults.entry(fault.clone()).or_default() += count;
        }
        self.writes += told.writes;
        self.reads += told.reads;
        self.starts += told.starts;
        self.messages += told.messages;
        self.length_ms += told.length_ms;
        self.slowest_ms = self.slowest_ms.max(told.placed_after_ms);
        for (promise, what) in &told.violations {
            self.failures.push(format!("seed {seed}: {promise}: {what}"));
        }
        self.digests.insert(seed, told.digest);
        self.compare();
    }

    /// The result of a second run of the same seed.
    pub fn add_again(&mut self, seed: u64, told: &Result<Told, String>) {
        match told {
            Ok(told) => self.again.push((seed, told.digest)),
            Err(error) => self.failures.push(format!("seed {seed}, again: {error}")),
        }
        self.compare();
    }

    /// Two runs of one seed must be equal to the last line and the last message.
    fn compare(&mut self) {
        let (digests, failures) = (&self.digests, &mut self.failures);
        self.again.retain(|(seed, again)| {
            let Some(first) = digests.get(seed) else { return true };
            if first != again {
                failures.push(format!("seed {seed}: two runs differ: {first:?} and {again:?}"));
            }
            false
        });
    }

    /// The table.
    pub fn told(&self, twice: u64) -> String {
        let mut text = String::new();
        let mut row = |name: &str, count: String| {
            writeln!(text, "{name:<34} {count:>12}").expect("a String takes everything");
        };
        row("runs", self.runs.to_string());
        row("of them run twice and compared", twice.to_string());
        row(
            "simulated hours",
            format!("{}.{:02}", self.length_ms / 3_600_000, self.length_ms / 36_000 % 100),
        );
        row("messages", self.messages.to_string());
        row("tasks started", self.starts.to_string());
        row("acknowledged writes", self.writes.to_string());
        row("linearizable reads", self.reads.to_string());
        row("slowest recovery, ms", self.slowest_ms.to_string());
        for (fault, count) in &self.faults {
            row(&format!("  {fault}"), count.to_string());
        }
        row("faults", self.faults.values().sum::<u64>().to_string());
        row("violations", self.failures.len().to_string());
        text
    }
}
