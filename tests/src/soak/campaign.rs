//! The campaign of faults on real processes, cluster after cluster.

use super::options::Options;
use super::report::Section;
use super::stage::{Limit, Place, Stage};
use crate::campaign::invariants::Severity;
use crate::campaign::options::ROUNDS_OF_A_CLUSTER;
use crate::campaign::{self, Tally};
use crate::harness::binaries;

/// It.
#[derive(Debug)]
pub struct CampaignStage {
    options: campaign::Options,
    rounds: u64,
}

impl CampaignStage {
    /// As the command line says.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        let Options { seed, fault, pairs, story, rounds, .. } = options.clone();
        let pairs_percent = pairs.unwrap_or(campaign::options::PAIRS_PERCENT);
        let options = campaign::Options { seed, rounds: 0, only: fault, told: story, pairs_percent };
        Self { options, rounds: rounds.unwrap_or(u64::MAX) }
    }
}

impl Stage for CampaignStage {
    fn name(&self) -> String {
        "campaign on real processes".to_owned()
    }

    fn place(&self) -> Place {
        Place::Foreground
    }

    fn obstacle(&self) -> Option<String> {
        binaries::obstacle()
    }

    fn run(&mut self, limit: &Limit<'_>) -> Section {
        let mut all = Tally::default();
        let mut failed = Vec::new();
        while !limit.is_over() && all.rounds < self.rounds {
            self.options.rounds = ROUNDS_OF_A_CLUSTER.min(self.rounds - all.rounds);
            match campaign::play(&self.options, || limit.is_over()) {
                Ok(tally) => all.add(tally),
                Err(error) => {
                    failed.push(format!("seed {}: no cluster came up: {error}", self.options.seed));
                    break;
                }
            }
            self.options.seed += 1;
        }
        let mut section = section(&self.name(), &all);
        section.violations.extend(failed);
        section
    }
}

/// A campaign's tally as a section of the table.
#[must_use]
pub fn section(name: &str, tally: &Tally) -> Section {
    let mut section = Section::new(name);
    section.count("clusters (a seed each)", tally.seeds.len() as u64);
    section.count("rounds", tally.rounds);
    for (kind, counts) in &tally.kinds {
        match &counts.skipped {
            Some(why) => section.count(&format!("  {kind} (SKIPPED: {why})"), counts.rounds),
            None => section.count(&format!("  {kind}"), counts.rounds),
        }
    }
    section.count("host faults", tally.host_faults);
    section.count("runs of services seen", tally.runs);
    section.count("failovers timed", tally.failovers_ms.len() as u64);
    if let Some((median, longest)) = tally.failover_median_and_longest_ms() {
        section.measure("failover, median ms", median);
        section.measure("failover, longest ms", longest);
    }
    section.count("registers with a judged history", tally.registers);
    section.count("API calls with a known outcome", tally.calls);
    section.count("API calls without", tally.calls_unknown);
    section.count("API writes acknowledged", tally.writes_acknowledged);
    section.count("counts that Redis acknowledged", tally.counts_acknowledged);
    section.count("wrong", tally.count(Severity::Wrong) as u64);
    section.count("late", tally.count(Severity::Late) as u64);
    section.violations = tally
        .violations
        .iter()
        .map(|found| {
            format!(
                "seed {}, round {} ({}): {}\nplay it again: {}",
                found.seed, found.round, found.fault, found.violation, found.replay
            )
        })
        .collect();
    section
}
