//! What happened in a run, counted: so that nobody takes an idle simulation for a proof.

use std::collections::BTreeMap;
use std::fmt;

/// Counts of one run, or of many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many seeds.
    pub seeds: u64,
    /// Simulated time, in milliseconds.
    pub simulated_ms: u64,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Messages that arrived.
    pub sent: u64,
    /// Messages lost, by chance or because a link was cut.
    pub lost: u64,
    /// Datagrams that arrived twice.
    pub doubled: u64,
    /// Sessions opened.
    pub opened: u64,
    /// Sessions closed with promises.
    pub closed_by_promises: u64,
    /// Sessions closed by Fenced.
    pub closed_by_fenced: u64,
    /// Starts of a slot on another host than before, because the session of the former one was closed.
    pub failovers: u64,
    /// Starts of a slot on another host than before, with the session of the former one still open.
    pub moves: u64,
    /// Memberships applied.
    pub memberships: u64,
    /// Entries that the product's own state machine was given too.
    pub twin_entries: u64,
    /// Violations.
    pub violations: u64,
}

impl Tally {
    /// Counts a fault.
    pub fn fault(&mut self, kind: &'static str) {
        *self.faults.entry(kind).or_default() += 1;
    }

    /// Adds another run's counts.
    pub fn add(&mut self, other: &Self) {
        for (kind, count) in &other.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        let pairs = [
            (&mut self.seeds, other.seeds),
            (&mut self.simulated_ms, other.simulated_ms),
            (&mut self.sent, other.sent),
            (&mut self.lost, other.lost),
            (&mut self.doubled, other.doubled),
            (&mut self.opened, other.opened),
            (&mut self.closed_by_promises, other.closed_by_promises),
            (&mut self.closed_by_fenced, other.closed_by_fenced),
            (&mut self.failovers, other.failovers),
            (&mut self.moves, other.moves),
            (&mut self.memberships, other.memberships),
            (&mut self.twin_entries, other.twin_entries),
            (&mut self.violations, other.violations),
        ];
        pairs.into_iter().for_each(|(own, more)| *own += more);
    }

    /// All counts with their names, in the order in which they are shown.
    #[must_use]
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let mut counts = vec![("seeds", self.seeds), ("simulated minutes", self.simulated_ms / 60_000)];
        counts.extend(self.faults.iter().map(|(kind, count)| (*kind, *count)));
        counts.extend([
            ("messages delivered", self.sent),
            ("messages lost", self.lost),
            ("messages doubled", self.doubled),
            ("sessions opened", self.opened),
            ("sessions closed with promises", self.closed_by_promises),
            ("sessions closed by Fenced", self.closed_by_fenced),
            ("changes of voters applied", self.memberships),
            ("failovers", self.failovers),
            ("planned moves", self.moves),
            ("entries given to the product's state too", self.twin_entries),
            ("violations", self.violations),
        ]);
        counts
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in self.counts() {
            writeln!(f, "{name:<44} {count:>14}")?;
        }
        Ok(())
    }
}
