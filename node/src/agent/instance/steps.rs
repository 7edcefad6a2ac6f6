//! The next step of an instance: one at a time, found anew each time from what is wanted and what is known.

use std::time::Duration;

use muster_core::id::{Generation, NodeName, SessionId, TaskName};
use tokio::time::Instant;

use super::facts::{Standing, TaskFact, ending};
use super::failures::Verdict;
use super::{Instance, Wanted};
use crate::agent::guard_link::GuardError;
use crate::agent::view::GuardView;
use crate::driver::{Cause, DriverError, StartOrder, TaskId};

/// A refusal that has to do with the moment is asked again after this time.
const SOON: Duration = Duration::from_millis(50);
/// What the guard could not make sense of is not asked again at once.
const LATER: Duration = Duration::from_secs(1);

/// What the loop is to do for an instance.
#[derive(Debug)]
pub(in crate::agent) enum Next {
    /// Nothing, until something concerns it or its wake time comes.
    Wait,
    /// This step, of this placement.
    Do(Generation, Step),
    /// Forget the instance: it is not wanted here and nothing of it is left.
    Gone,
}

/// One step.
#[derive(Debug)]
pub(in crate::agent) enum Step {
    /// Start a task.
    Start(Box<StartOrder>),
    /// Stop a task, and kill it after the grace.
    Stop { task: TaskName, grace: Duration },
    /// End what is left of the slot up to the generation, for good (R10).
    Revoke,
}

/// What came of a step.
#[derive(Debug)]
pub(in crate::agent) enum StepResult {
    Start(TaskName, Result<(), DriverError>),
    Stop(TaskName, Result<(), DriverError>),
    Revoke(Result<(), GuardError>),
}

/// What [`Instance::decide`] finds.
enum Decision {
    Wait,
    WaitUntil(Instant),
    Start(TaskName),
    Stop(TaskName, Generation),
    Revoke(Generation),
    Gone,
}

impl Instance {
    /// The next step, if it is time for one. The caller has it done and brings the result back.
    pub fn next(&mut self, now: Instant, view: &GuardView, node: &NodeName) -> Next {
        self.wake = None;
        if self.is_busy || !self.is_known {
            return Next::Wait;
        }
        self.count_failures(now, view);
        let decision = match self.retry_at.filter(|at| *at > now) {
            Some(at) => Decision::WaitUntil(at),
            None => self.decide(now, view),
        };
        match decision {
            Decision::Wait => Next::Wait,
            Decision::WaitUntil(at) => {
                self.wake = Some(at);
                Next::Wait
            }
            Decision::Gone => Next::Gone,
            Decision::Start(task) => self.begin_start(task, node),
            Decision::Stop(task, generation) => self.begin_stop(task, generation, now),
            Decision::Revoke(generation) => {
                self.is_busy = true;
                Next::Do(generation, Step::Revoke)
            }
        }
    }

    /// Counts what failed since the last look: tasks that ended unasked, and tasks that became unhealthy.
    fn count_failures(&mut self, now: Instant, view: &GuardView) {
        let Some(wanted) = self.wanted.clone().filter(|_| !self.is_ending()) else { return };
        // What ended with the lease did not fail.
        let is_lease_gone = wanted.needs_lease() && view.valid_session() != wanted.session;
        for (task, fact) in &mut self.tasks {
            if fact.generation != wanted.generation || fact.was_asked {
                continue;
            }
            let what = match (fact.state, &fact.health) {
                (Standing::Ended { how, .. }, _) => ending(how),
                (Standing::Running { .. }, Some(Err(why))) => format!("is unhealthy: {why}"),
                _ => continue,
            };
            fact.was_asked = true;
            if is_lease_gone {
                continue;
            }
            let message = format!("task {task} {what}");
            tracing::info!(instance = %self.slot, "{message}");
            let policy = &wanted.spec.restart;
            if self.failures.count(now, message.clone(), policy) == Verdict::GiveUp {
                self.given_up = Some(message);
            }
        }
    }

    fn decide(&mut self, now: Instant, view: &GuardView) -> Decision {
        let newest_here = self.tasks.values().map(|fact| fact.generation).max();
        let Some(wanted) = self.wanted.clone() else {
            return match newest_here {
                None => Decision::Gone,
                // Placed after the state that this host has: that state can't say that it is not wanted.
                Some(generation) if generation.0 > self.judged_at.0 => Decision::Wait,
                Some(generation) => self.wind_down(generation, now),
            };
        };
        if newest_here > Some(wanted.generation) {
            return Decision::Wait;
        }
        let superseded = self.tasks.values().map(|f| f.generation).filter(|g| *g < wanted.generation).max();
        if let Some(generation) = superseded {
            return self.wind_down(generation, now);
        }
        if !self.is_ending() {
            self.stopping_since = None;
            return self.run_up(&wanted, now, view);
        }
        if self.revoked >= Some(wanted.generation) {
            // The cluster is told, and will take the placement away.
            return Decision::Wait;
        }
        self.wind_down(wanted.generation, now)
    }

    /// Towards running: the tasks in order, each once the one before runs and is healthy.
    fn run_up(&mut self, wanted: &Wanted, now: Instant, view: &GuardView) -> Decision {
        for task in &wanted.spec.tasks {
            let Some(fact) = self.tasks.get(&task.name) else {
                return self.start_when_allowed(&task.name, wanted, now, view);
            };
            match (fact.state, &fact.health) {
                (Standing::Starting | Standing::Stopping, _) => return Decision::Wait,
                (Standing::Ended { .. }, _) => {
                    return self.start_when_allowed(&task.name, wanted, now, view);
                }
                (Standing::Running { .. }, Some(Err(_))) => {
                    return Decision::Stop(task.name.clone(), wanted.generation);
                }
                (Standing::Running { .. }, None) if task.health.is_some() => return Decision::Wait,
                (Standing::Running { .. }, _) => {}
            }
        }
        Decision::Wait
    }

    fn start_when_allowed(
        &mut self,
        task: &TaskName,
        wanted: &Wanted,
        now: Instant,
        view: &GuardView,
    ) -> Decision {
        if let Some(at) = self.failures.wait_until(now) {
            return Decision::WaitUntil(at);
        }
        let is_allowed = if wanted.needs_lease() {
            wanted.session.is_some() && view.valid_session() == wanted.session
        } else {
            // Begun under its own session only: a host that was restarted may hold an old copy of the state.
            // What this guard has run already goes on without one (R13).
            !self.tasks.is_empty() || (wanted.session.is_some() && view.session == wanted.session)
        };
        if is_allowed { Decision::Start(task.clone()) } else { Decision::Wait }
    }

    /// Towards the end: the tasks in reverse order, each with what is left of the time for an orderly stop;
    /// then the guard ends the rest and remembers the generation.
    fn wind_down(&mut self, generation: Generation, now: Instant) -> Decision {
        self.stopping_since.get_or_insert(now);
        let is_alive = |name: &TaskName| {
            self.tasks.get(name).is_some_and(|fact| fact.is_alive() && fact.generation <= generation)
        };
        let Some(task) = self.stop_order().into_iter().find(is_alive) else {
            return Decision::Revoke(generation);
        };
        let grace = self.grace(now);
        if grace.is_zero() {
            tracing::info!(instance = %self.slot, %task, "the time for an orderly stop is over");
            Decision::Revoke(generation)
        } else if self.tasks.get(&task).is_some_and(|fact| fact.state == Standing::Stopping) {
            Decision::WaitUntil(now + grace)
        } else {
            Decision::Stop(task, generation)
        }
    }

    /// The declared tasks from the last to the first, after those that are declared no more.
    fn stop_order(&self) -> Vec<TaskName> {
        let declared: Vec<_> =
            self.spec.iter().flat_map(|spec| &spec.tasks).map(|task| task.name.clone()).collect();
        let undeclared = self.tasks.keys().filter(|name| !declared.contains(name)).cloned();
        undeclared.chain(declared.iter().rev().cloned()).collect()
    }

    /// What is left of the time for an orderly stop.
    fn grace(&self, now: Instant) -> Duration {
        let since = self.stopping_since.unwrap_or(now);
        self.stop_timeout().saturating_sub(now.duration_since(since))
    }

    fn begin_start(&mut self, task: TaskName, node: &NodeName) -> Next {
        let wanted = self.wanted.as_ref().expect("only what is wanted is started");
        let spec = wanted.spec.tasks.iter().find(|t| t.name == task).expect("a declared task is started");
        let generation = wanted.generation;
        let order = StartOrder {
            id: TaskId { slot: self.slot.clone(), task: task.clone() },
            generation,
            session: wanted.session.unwrap_or(SessionId(0)),
            node: node.clone(),
            binding: wanted.binding(),
            stop_on_quorum_loss: wanted.stops_on_quorum_loss(),
            spec: spec.clone(),
        };
        self.is_busy = true;
        self.runs += 1;
        self.tasks.insert(task, TaskFact::new(generation, self.runs));
        Next::Do(generation, Step::Start(Box::new(order)))
    }

    fn begin_stop(&mut self, task: TaskName, generation: Generation, now: Instant) -> Next {
        let grace = self.grace(now);
        self.is_busy = true;
        if let Some(fact) = self.tasks.get_mut(&task) {
            fact.state = Standing::Stopping;
            fact.was_asked = true;
        }
        Next::Do(generation, Step::Stop { task, grace })
    }

    /// Takes in what came of a step.
    pub fn take_result(&mut self, generation: Generation, result: StepResult, now: Instant) {
        self.is_busy = false;
        match result {
            StepResult::Start(task, Ok(())) => self.settle(&task, Standing::Starting, |fact| {
                fact.state = Standing::Running { pid: None };
            }),
            StepResult::Start(task, Err(error)) => self.take_start_error(generation, &task, error, now),
            StepResult::Stop(_, Ok(())) => {}
            StepResult::Stop(task, Err(DriverError::NotRunning)) => {
                // Nothing of it runs, although its end was not told: the guard has forgotten it.
                if self.tasks.get(&task).is_some_and(|fact| fact.state == Standing::Stopping) {
                    self.tasks.remove(&task);
                }
            }
            StepResult::Stop(task, Err(error)) => {
                tracing::debug!(instance = %self.slot, %task, "a stop was not carried out: {error}");
                self.retry_at = Some(now + SOON);
                self.settle(&task, Standing::Stopping, |fact| fact.state = Standing::Running { pid: None });
            }
            StepResult::Revoke(Ok(())) => {
                self.revoked = self.revoked.max(Some(generation));
                self.stopping_since = None;
                self.tasks.retain(|_, fact| fact.generation > generation);
            }
            StepResult::Revoke(Err(error)) => {
                tracing::warn!(instance = %self.slot, "generation {generation} is not ended yet: {error}");
                self.retry_at = Some(now + SOON);
            }
        }
    }

    /// Edits a task's fact if nothing was told about it since the step began.
    fn settle(&mut self, task: &TaskName, before: Standing, edit: impl FnOnce(&mut TaskFact)) {
        if let Some(fact) = self.tasks.get_mut(task).filter(|fact| fact.state == before) {
            edit(fact);
        }
    }

    fn take_start_error(&mut self, generation: Generation, task: &TaskName, error: DriverError, now: Instant) {
        if self.tasks.get(task).is_some_and(|fact| fact.state == Standing::Starting) {
            self.tasks.remove(task);
        }
        let Some(wanted) = self.wanted.clone().filter(|w| w.generation == generation) else { return };
        tracing::info!(instance = %self.slot, %task, "not started: {error}");
        match error {
            DriverError::Cannot(problem) => {
                let message = problem.to_string();
                // The system may have more to give in a moment; a missing program stays missing.
                let may_pass = matches!(problem.cause, Cause::System { .. } | Cause::Guard(_));
                let verdict = self.failures.count(now, message.clone(), &wanted.spec.restart);
                if !may_pass || verdict == Verdict::GiveUp {
                    self.given_up = Some(message);
                }
            }
            DriverError::Revoked(_) => {
                let message = "it was ended on this host before".to_owned();
                self.given_up = Some(self.failures.message().unwrap_or(message));
            }
            DriverError::NoLease | DriverError::NotRunning => self.retry_at = Some(now + SOON),
            DriverError::Busy(_) | DriverError::Unknown(_) => self.retry_at = Some(now + LATER),
        }
    }
}
