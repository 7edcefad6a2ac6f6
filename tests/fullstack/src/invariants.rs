//! What must hold in every run. Each promise has a file of its own; this one collects what they are told and find.

mod calm;
mod exclusive;
mod generations;
pub mod history;
mod replicas;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use muster_core::state::State;
use muster_guard::protocol::ExitHow;

use crate::tasks::Running;
use crate::trace;

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which promise: its number in the project's list of invariants, and its name.
    pub promise: &'static str,
    /// When, in nanoseconds of the world.
    pub at_ns: u64,
    /// What was seen.
    pub what: String,
}

#[derive(Default)]
struct Seen {
    exclusive: exclusive::Copies,
    generations: generations::Generations,
    replicas: replicas::Replicas,
    calm: calm::Calm,
    violations: Vec<Violation>,
    starts: u64,
}

/// Judges a run; cheap to clone.
#[derive(Clone, Default)]
pub struct Checker(Arc<Mutex<Seen>>);

impl Checker {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A task begins to run.
    pub fn started(&self, at_ns: u64, host: &str, task: &Running) {
        trace::line(&format!("{host}: {} generation {} runs", task.slot, task.generation));
        let mut seen = self.lock();
        seen.starts += 1;
        let found = [seen.exclusive.started(host, task), seen.generations.started(host, task)];
        for (promise, what) in found.into_iter().flatten() {
            seen.report(promise, at_ns, what);
        }
    }

    /// A task is dead.
    pub fn ended(&self, at_ns: u64, host: &str, task: &Running, how: ExitHow) {
        trace::line(&format!("{host}: {} generation {} ended: {how:?}", task.slot, task.generation));
        let mut seen = self.lock();
        seen.exclusive.ended(host, task);
        if let Some(what) = seen.calm.ended(host, task, how) {
            seen.report("8 nothing for nothing", at_ns, what);
        }
    }

    /// From now on, or no longer, nothing happens to any host that would be a reason to stop a service.
    pub fn expect_calm(&self, calm: bool) {
        self.lock().calm.expect(calm);
    }

    /// A replica has this state.
    pub fn replica(&self, at_ns: u64, host: &str, state: &State, sum: u64) {
        let mut seen = self.lock();
        if let Some(what) = seen.replicas.seen(host, state, sum) {
            seen.report("3 replicas are sound and equal", at_ns, what);
        }
    }

    /// An exclusive task runs although its deadline has passed.
    pub fn outlived(&self, at_ns: u64, host: &str, task: &Running) {
        let what = format!("{} runs on {host} beyond the deadline of session {}", task.slot, task.session);
        self.lock().report("2 dead by the deadline", at_ns, what);
    }

    /// Something else was found.
    pub fn report(&self, promise: &'static str, at_ns: u64, what: String) {
        self.lock().report(promise, at_ns, what);
    }

    /// What was found.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        self.lock().violations.clone()
    }

    /// How many tasks were started.
    #[must_use]
    pub fn starts(&self) -> u64 {
        self.lock().starts
    }
}

impl Seen {
    fn report(&mut self, promise: &'static str, at_ns: u64, what: String) {
        let violation = Violation { promise, at_ns, what };
        trace::line(&format!("VIOLATION of {promise}: {}", violation.what));
        // One that lasts is one.
        if !self.violations.iter().any(|known| known.promise == promise && known.what == violation.what) {
            self.violations.push(violation);
        }
    }
}
