//! One round: a fault, its healing, and what the services did meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use muster::stamp::Run;

use super::fault::Cost;
use crate::harness::Metronome;
use crate::harness::wait::Moment;

/// What the invariants judge.
pub struct Round<'a> {
    /// What the fault may cost.
    pub cost: &'a Cost,
    /// Just before the fault.
    pub begun: Moment,
    /// Just before healing began.
    pub healing: Moment,
    /// When everything was healed.
    pub healed: Moment,
    /// When every service ran again.
    pub placed: Moment,
    /// The last moment at which every service was seen to run: runs that ended before it have ended.
    pub end: Moment,
    /// By service: every run that stamped since the fault began.
    pub runs: BTreeMap<&'static str, Vec<Run>>,
    /// How late the machine was.
    pub metronome: &'a Metronome,
}

impl Round<'_> {
    /// Whether a run went on until the end of the round.
    #[must_use]
    pub fn lives(&self, run: &Run) -> bool {
        run.last_ns >= self.end.0
    }

    /// The bound in time, with what the machine was late.
    #[must_use]
    pub fn lenient(&self, bound: Duration, from: Moment, to: Moment) -> Duration {
        bound + self.metronome.late(from, to)
    }
}
