//! The figures of the README, measured on real agents, guards and tasks, each host a network namespace.
//!
//! One file a figure. Gaps are read from the stamps of the services themselves. Nothing here is a timed test: a
//! missed target is printed, and only a broken promise (two copies at once) fails.

pub mod failover;
pub mod idle;
pub mod interrupt;
pub mod memory;
pub mod moves;
pub mod process;
pub mod report;
pub mod restarts;
pub mod scene;
pub mod start;
pub mod statistics;
pub mod writes;

pub use interrupt::Interrupt;
pub use report::Report;
pub use scene::Scene;

use crate::harness::HarnessError;

/// A group of figures that can be asked for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// A host crashes or is cut off.
    Failover,
    /// Drains, moves, and restarts on the same host.
    Moves,
    /// Agents and guards are restarted under a running service.
    Restarts,
    /// Writes a second, beside the disk and etcd.
    Writes,
    /// What an idle cluster costs.
    Idle,
}

impl Figure {
    /// All of them, in the order in which they are measured.
    pub const ALL: [Self; 5] = [Self::Failover, Self::Moves, Self::Restarts, Self::Writes, Self::Idle];

    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Failover => "failover",
            Self::Moves => "moves",
            Self::Restarts => "restarts",
            Self::Writes => "writes",
            Self::Idle => "idle",
        }
    }

    /// Measures it.
    ///
    /// # Errors
    /// When the cluster does not form or a promise is broken; what was measured until then is in the report.
    pub fn measure(self, runs: usize, stop: &Interrupt, report: &mut Report) -> Result<(), HarnessError> {
        match self {
            Self::Failover => {
                start::measure(runs, stop, report)?;
                failover::measure(runs, stop, report)
            }
            Self::Moves => {
                moves::measure(runs, stop, report)?;
                process::measure(runs, stop, report)
            }
            Self::Restarts => restarts::measure(runs, stop, report),
            Self::Writes => writes::measure(stop, report),
            Self::Idle => idle::measure(runs, stop, report),
        }
    }
}

/// Says what is being done.
pub fn say(text: &str) {
    eprintln!("{text}");
}
