//! What is known of one task of an instance.

use muster_core::id::Generation;
use muster_guard::protocol::{ExitHow, TaskReport, TaskState};

/// A task, as the guard and the health checks show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TaskFact {
    /// The placement that it was started for.
    pub generation: Generation,
    /// Grows with each start, so that what belongs to an earlier run is told apart.
    pub run: u64,
    /// Where it stands.
    pub state: Standing,
    /// What its health check says; `None`: nothing yet.
    pub health: Option<Result<(), String>>,
    /// Its end was ordered, or is counted as a failure already.
    pub was_asked: bool,
}

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Ordered to start.
    Starting,
    /// It runs; the process id is known once the guard told it.
    Running { pid: Option<i32> },
    /// Told to stop.
    Stopping,
    /// Nothing of it is left.
    Ended { how: ExitHow, at_boottime_ns: u64 },
}

impl TaskFact {
    /// A task that was just ordered to start.
    pub(super) fn new(generation: Generation, run: u64) -> Self {
        Self { generation, run, state: Standing::Starting, health: None, was_asked: false }
    }

    /// What the guard reports, on top of what was known before the connection was lost.
    pub(super) fn from_report(report: &TaskReport, before: Option<&Self>) -> Self {
        let state = match report.state {
            TaskState::Starting => Standing::Starting,
            TaskState::Running { pid } => Standing::Running { pid: Some(pid) },
            TaskState::Stopping { .. } => Standing::Stopping,
            TaskState::Exited { how, at_boottime_ns } => Standing::Ended { how, at_boottime_ns },
        };
        let same_run = before.filter(|fact| fact.generation == report.generation && fact.state.is_run_of(state));
        Self {
            generation: report.generation,
            run: before.map_or(0, |fact| fact.run + u64::from(same_run.is_none())),
            state,
            health: same_run.and_then(|fact| fact.health.clone()),
            was_asked: state == Standing::Stopping
                || before.is_some_and(|fact| fact.generation == report.generation && fact.was_asked),
        }
    }

    /// Whether anything of it may still be there.
    pub(super) fn is_alive(&self) -> bool {
        !matches!(self.state, Standing::Ended { .. })
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.state, Standing::Running { .. })
    }
}

impl Standing {
    fn is_run_of(self, later: Self) -> bool {
        match (self, later) {
            (Self::Running { pid: Some(before) }, Self::Running { pid: Some(now) }) => before == now,
            (before, now) => before == now,
        }
    }
}

/// How a task ended, in words.
pub(super) fn ending(how: ExitHow) -> String {
    match how {
        ExitHow::Code(0) => "ended by itself".to_owned(),
        ExitHow::Code(code) => format!("exited with status {code}"),
        ExitHow::Signal(signal) => match nix::sys::signal::Signal::try_from(signal) {
            Ok(name) => format!("was ended by {name}"),
            Err(_) => format!("was ended by signal {signal}"),
        },
    }
}
