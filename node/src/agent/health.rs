//! Health checks: one watcher for each running task that declares one. A watcher tells only changes; what
//! follows from them is decided by the life cycle.

mod probe;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use muster_core::spec::{Check, HealthSpec};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::clock;
use crate::driver::{Driver, TaskId};

/// Until a task was healthy once it is tried at this pace, so that it is known to be up soon after it is.
const STARTUP_PACE: Duration = Duration::from_millis(50);
/// The same for commands, each of which is a process.
const STARTUP_PACE_EXEC: Duration = Duration::from_millis(250);

/// A change of a task's health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthReport {
    /// Which task.
    pub id: TaskId,
    /// Which run of it, as given to [`HealthChecks::watch`].
    pub run: u64,
    /// Healthy, or why not.
    pub verdict: Result<(), String>,
}

/// The watchers of all tasks of this host.
pub struct HealthChecks {
    driver: Arc<dyn Driver>,
    reports: mpsc::Sender<HealthReport>,
    watchers: HashMap<TaskId, Watched>,
}

struct Watched {
    run: u64,
    spec: HealthSpec,
    task: AbortHandle,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl HealthChecks {
    /// Nothing watched yet; changes go to `reports`.
    #[must_use]
    pub fn new(driver: Arc<dyn Driver>, reports: mpsc::Sender<HealthReport>) -> Self {
        Self { driver, reports, watchers: HashMap::new() }
    }

    /// Watches this run of a task, unless it is watched so already.
    pub fn watch(&mut self, id: &TaskId, run: u64, spec: &HealthSpec) {
        if self.watchers.get(id).is_some_and(|w| w.run == run && w.spec == *spec) {
            return;
        }
        let watcher = Watcher {
            id: id.clone(),
            run,
            spec: spec.clone(),
            driver: Arc::clone(&self.driver),
            reports: self.reports.clone(),
        };
        let task = tokio::spawn(watcher.run()).abort_handle();
        self.watchers.insert(id.clone(), Watched { run, spec: spec.clone(), task });
    }

    /// Stops watching a task.
    pub fn forget(&mut self, id: &TaskId) {
        self.watchers.remove(id);
    }
}

struct Watcher {
    id: TaskId,
    run: u64,
    spec: HealthSpec,
    driver: Arc<dyn Driver>,
    reports: mpsc::Sender<HealthReport>,
}

impl Watcher {
    async fn run(self) {
        let mut tally = Tally::new(&self.spec, clock::monotonic());
        loop {
            let began = clock::monotonic();
            let result = probe::probe(&self.spec, &self.id, self.driver.as_ref()).await;
            if let Some(verdict) = result.and_then(|health| tally.count(health, clock::monotonic())) {
                let report = HealthReport { id: self.id.clone(), run: self.run, verdict };
                if self.reports.send(report).await.is_err() {
                    return;
                }
            }
            tokio::time::sleep_until(began + tally.pace()).await;
        }
    }
}

/// Turns results into verdicts. A failure counts once an interval, so that the faster tries of a start-up
/// leave the task as much time as the declaration says.
struct Tally<'a> {
    spec: &'a HealthSpec,
    healthy: Option<bool>,
    failures: u32,
    /// A failure before this moment does not count.
    counts_from: Instant,
}

impl<'a> Tally<'a> {
    fn new(spec: &'a HealthSpec, now: Instant) -> Self {
        Self { spec, healthy: None, failures: 0, counts_from: now + spec.interval }
    }

    fn count(&mut self, result: Result<(), String>, now: Instant) -> Option<Result<(), String>> {
        match result {
            Ok(()) => {
                self.failures = 0;
                self.counts_from = now;
                (self.healthy.replace(true) != Some(true)).then_some(Ok(()))
            }
            Err(why) => {
                if now >= self.counts_from {
                    self.failures = self.failures.saturating_add(1);
                    self.counts_from = if self.healthy.is_some() { now } else { now + self.spec.interval };
                }
                let is_verdict = self.failures >= self.spec.failures && self.healthy != Some(false);
                is_verdict.then(|| {
                    self.healthy = Some(false);
                    Err(why)
                })
            }
        }
    }

    fn pace(&self) -> Duration {
        let startup = match self.spec.check {
            Check::Tcp(_) | Check::Http(_) => STARTUP_PACE,
            Check::Exec(_) => STARTUP_PACE_EXEC,
        };
        if self.healthy.is_none() { startup.min(self.spec.interval) } else { self.spec.interval }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> HealthSpec {
        HealthSpec {
            check: Check::Tcp("127.0.0.1:1".to_owned()),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            failures: 3,
        }
    }

    fn bad() -> Result<(), String> {
        Err("refused".to_owned())
    }

    #[test]
    fn a_start_up_has_as_many_intervals_as_failures_are_allowed() {
        let spec = spec();
        let begin = Instant::now();
        let mut tally = Tally::new(&spec, begin);
        assert_eq!(tally.pace(), STARTUP_PACE);
        let mut now = begin;
        let unhealthy = loop {
            if tally.count(bad(), now).is_some() {
                break now - begin;
            }
            now += tally.pace();
        };
        assert_eq!(unhealthy, Duration::from_secs(3));
    }

    #[test]
    fn failures_in_a_row_count_and_one_success_clears_them() {
        let spec = spec();
        let now = Instant::now();
        let mut tally = Tally::new(&spec, now);
        assert_eq!(tally.count(Ok(()), now), Some(Ok(())));
        assert_eq!(tally.pace(), spec.interval);
        assert_eq!(tally.count(bad(), now), None);
        assert_eq!(tally.count(bad(), now), None);
        assert_eq!(tally.count(Ok(()), now), None);
        assert_eq!(tally.count(bad(), now), None);
        assert_eq!(tally.count(bad(), now), None);
        assert_eq!(tally.count(bad(), now), Some(bad()));
        assert_eq!(tally.count(bad(), now), None, "told once");
        assert_eq!(tally.count(Ok(()), now), Some(Ok(())));
    }
}
