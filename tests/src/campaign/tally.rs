//! What a campaign came to, in numbers.

use std::collections::BTreeMap;

use serde::Serialize;

use super::invariants::{Severity, Violation};

/// One kind of fault.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Kind {
    /// How often it was inflicted.
    pub rounds: u64,
    /// Why it was not, if it can't be here.
    pub skipped: Option<String>,
    /// Exclusive services that moved because of it.
    pub failovers: u64,
    /// The longest failover, in milliseconds from the fault to the first stamp elsewhere.
    pub longest_failover_ms: f64,
    /// The longest time from healing until every service ran, in milliseconds.
    pub longest_recovery_ms: f64,
}

/// A violation with what plays it again.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// What did not hold.
    #[serde(flatten)]
    pub violation: Violation,
    /// The campaign's seed.
    pub seed: u64,
    /// The round, counted from 1.
    pub round: u64,
    /// What was broken.
    pub fault: String,
    /// The command that plays it again.
    pub replay: String,
}

/// All of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tally {
    /// The seeds that were played, one for each cluster.
    pub seeds: Vec<u64>,
    /// Rounds.
    pub rounds: u64,
    /// Faults that took a host or its guard from the others, one for each such host.
    pub host_faults: u64,
    /// By kind of fault.
    pub kinds: BTreeMap<String, Kind>,
    /// Every failover within the formula's reach, in milliseconds.
    pub failovers_ms: Vec<f64>,
    /// Runs of services that were seen.
    pub runs: u64,
    /// Registers whose history was judged.
    pub registers: u64,
    /// Calls of the API's clients with a known outcome.
    pub calls: u64,
    /// Calls without.
    pub calls_unknown: u64,
    /// Writes that were acknowledged, all of them found again.
    pub writes_acknowledged: u64,
    /// Counts that Redis acknowledged.
    pub counts_acknowledged: u64,
    /// What did not hold.
    pub violations: Vec<Found>,
}

impl Tally {
    /// Violations of that severity.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.violations.iter().filter(|found| found.violation.severity == severity).count()
    }

    /// The median and the longest failover, in milliseconds.
    #[must_use]
    pub fn failover_median_and_longest_ms(&self) -> Option<(f64, f64)> {
        let mut sorted = self.failovers_ms.clone();
        sorted.sort_by(f64::total_cmp);
        Some((*sorted.get(sorted.len() / 2)?, *sorted.last()?))
    }

    /// Adds another campaign's.
    pub fn add(&mut self, other: Self) {
        self.seeds.extend(other.seeds);
        self.rounds += other.rounds;
        self.host_faults += other.host_faults;
        for (name, kind) in other.kinds {
            let own = self.kinds.entry(name).or_default();
            own.rounds += kind.rounds;
            own.failovers += kind.failovers;
            own.skipped = kind.skipped;
            own.longest_failover_ms = own.longest_failover_ms.max(kind.longest_failover_ms);
            own.longest_recovery_ms = own.longest_recovery_ms.max(kind.longest_recovery_ms);
        }
        self.failovers_ms.extend(other.failovers_ms);
        self.runs += other.runs;
        self.registers += other.registers;
        self.calls += other.calls;
        self.calls_unknown += other.calls_unknown;
        self.writes_acknowledged += other.writes_acknowledged;
        self.counts_acknowledged += other.counts_acknowledged;
        self.violations.extend(other.violations);
    }
}
