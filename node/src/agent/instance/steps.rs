//! The next step of a slot: one at a time, found anew each time from what is wanted and what is known.

use std::time::Duration;

use muster_core::id::{Generation, NodeName, SessionId, TaskName};
use muster_core::lifecycle::{Action, Desired, Exit, Happened, Report as Seen};
use muster_core::state::slot::InstanceState;
use tokio::time::Instant;

use super::Instance;
use super::life::Life;
use crate::agent::guard_link::GuardError;
use crate::agent::view::GuardView;
use crate::driver::{DriverError, StartOrder, TaskId};

/// A refusal that has to do with the moment is asked again after this time.
const SOON: Duration = Duration::from_millis(50);
/// What the guard could not make sense of is not asked again at once.
const LATER: Duration = Duration::from_secs(1);

/// What the loop is to do for a slot.
#[derive(Debug)]
pub(in crate::agent) enum Next {
    /// Nothing, until something concerns it or its wake time comes.
    Wait,
    /// This step, of this placement.
    Do(Generation, Step),
    /// Forget the slot: it is not wanted here and nothing of it is left.
    Gone,
}

/// One step.
#[derive(Debug)]
pub(in crate::agent) enum Step {
    /// Start a task.
    Start(Box<StartOrder>),
    /// Stop a task, and kill it after the grace.
    Stop { task: TaskName, grace: Duration },
    /// Kill a task.
    Kill { task: TaskName },
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

impl Instance {
    /// The next step, if it is time for one. The caller has it done and brings the result back.
    pub fn next(&mut self, now: Instant, view: &GuardView, node: &NodeName) -> Next {
        self.wake = None;
        if self.is_busy || !self.is_known {
            return Next::Wait;
        }
        if let Some(at) = self.retry_at.filter(|at| *at > now) {
            self.wake = Some(at);
            return Next::Wait;
        }
        if self.life.as_ref().is_some_and(|life| life.is_revoked) {
            if self.placed_now().is_some() {
                // The cluster is told, and will take the placement away.
                return Next::Wait;
            }
            self.life = None;
        }
        let life = match &self.life {
            Some(life) => life,
            None => {
                let Some(placed) = &self.wanted.placed else { return Next::Gone };
                let restarts = placed.recorded.as_ref().map_or(0, |recorded| recorded.restarts);
                self.seen = None;
                self.life.insert(Life::new(placed.generation, placed.spec.clone(), restarts, now))
            }
        };
        let run = match &self.wanted.placed {
            Some(placed) if placed.generation == life.generation => {
                !placed.is_revoked && life.given_up.is_none()
            }
            // The host runs what is newer than the state that this agent has.
            Some(placed) if placed.generation < life.generation => return Next::Wait,
            None if life.generation.0 > self.wanted.judged_at.0 => return Next::Wait,
            Some(_) | None => false,
        };
        self.advance(run, now, view, node)
    }

    fn advance(&mut self, run: bool, now: Instant, view: &GuardView, node: &NodeName) -> Next {
        loop {
            let Some(life) = &mut self.life else { return Next::Wait };
            let spec = life.spec.clone();
            let action = life.cycle.step(Desired { spec: &spec, run }, life.at(now));
            match action {
                Action::Idle => return Next::Wait,
                Action::WaitUntil(at) => {
                    self.wake = life.instant(at);
                    return Next::Wait;
                }
                Action::Report(report) => {
                    life.on(Happened::Reported(report.clone()), now);
                    let message = report.message.map(|message| life.detailed(message));
                    self.seen = Some(Seen { message, ..report });
                }
                Action::StartTask(task) => return self.begin_start(task, now, view, node),
                Action::StopTask { task, grace } => {
                    life.on(Happened::StopAsked(task), now);
                    return self.begin(Step::Stop { task: spec.tasks[task].name.clone(), grace });
                }
                Action::KillTask(task) => {
                    life.on(Happened::KillSent(task), now);
                    return self.begin(Step::Kill { task: spec.tasks[task].name.clone() });
                }
                Action::Revoke => return self.begin(Step::Revoke),
                Action::GiveUp { message } => {
                    life.given_up = Some(life.detailed(message));
                    return self.begin(Step::Revoke);
                }
            }
        }
    }

    fn begin(&mut self, step: Step) -> Next {
        let Some(life) = &self.life else { return Next::Wait };
        self.is_busy = true;
        Next::Do(life.generation, step)
    }

    fn begin_start(&mut self, task: usize, now: Instant, view: &GuardView, node: &NodeName) -> Next {
        let (Some(life), Some(placed)) = (&mut self.life, &self.wanted.placed) else { return Next::Wait };
        if !placed.may_start(view, life.has_run) {
            // It is asked again when the lease or the session changes.
            if let Some(seen) = &mut self.seen {
                seen.state = InstanceState::Starting;
                seen.message = Some("it waits for this host's lease".to_owned());
            }
            return Next::Wait;
        }
        life.starting(task, now);
        let spec = &life.spec.tasks[task];
        let order = StartOrder {
            id: TaskId { slot: self.slot.clone(), task: spec.name.clone() },
            generation: life.generation,
            session: placed.session.unwrap_or(SessionId(0)),
            node: node.clone(),
            binding: placed.binding(),
            stop_on_quorum_loss: placed.stops_on_quorum_loss(),
            stop_timeout: life.spec.stop_timeout,
            spec: spec.clone(),
        };
        self.begin(Step::Start(Box::new(order)))
    }

    /// Takes in what came of a step.
    pub fn take_result(&mut self, generation: Generation, result: StepResult, now: Instant) {
        self.is_busy = false;
        let Some(life) = self.life.as_mut().filter(|life| life.generation == generation) else { return };
        match result {
            StepResult::Start(task, Ok(())) => {
                if let Some(index) = life.index_of(&task) {
                    life.on(Happened::Started(index), now);
                }
            }
            StepResult::Start(task, Err(error)) => self.take_start_error(&task, error, now),
            StepResult::Stop(_, Ok(())) => {}
            StepResult::Stop(task, Err(DriverError::NotRunning)) => {
                // Nothing of it runs, whether or not its end was told.
                if let Some(index) = life.index_of(&task) {
                    life.cancel(index, now);
                }
            }
            // The life cycle kills what does not stop.
            StepResult::Stop(task, Err(error)) => {
                tracing::warn!(instance = %self.slot, %task, "not stopped: {error}");
            }
            StepResult::Revoke(Ok(())) => life.is_revoked = true,
            StepResult::Revoke(Err(error)) => {
                tracing::warn!(instance = %self.slot, "generation {generation} is not ended yet: {error}");
                self.retry_at = Some(now + SOON);
            }
        }
    }

    fn take_start_error(&mut self, task: &TaskName, error: DriverError, now: Instant) {
        tracing::info!(instance = %self.slot, %task, "not started: {error}");
        let Some(life) = &mut self.life else { return };
        let Some(index) = life.index_of(task) else { return };
        match error {
            DriverError::Cannot(problem) => {
                let exit = Exit::NotStarted(problem.cause.to_string());
                life.on(Happened::Exited(index, exit), now);
            }
            DriverError::Revoked(_) => {
                life.cancel(index, now);
                life.given_up = Some("it was ended on this host before".to_owned());
            }
            DriverError::NoLease | DriverError::NotRunning => {
                life.cancel(index, now);
                self.retry_at = Some(now + SOON);
            }
            DriverError::NoSecrets(why) => {
                life.cancel(index, now);
                // The life cycle has nothing to say of a first task that was not started yet.
                let recorded = self.wanted.placed.as_ref().and_then(|placed| placed.recorded.as_ref());
                let restarts = self.seen.as_ref().map(|seen| seen.restarts);
                self.seen = Some(Seen {
                    state: InstanceState::Starting,
                    restarts: restarts.or(recorded.map(|recorded| recorded.restarts)).unwrap_or(0),
                    message: Some(format!("task {task} waits for its secrets: {why}")),
                });
                self.retry_at = Some(now + LATER);
            }
            DriverError::Busy(_) | DriverError::Unknown(_) => {
                life.cancel(index, now);
                self.retry_at = Some(now + LATER);
            }
        }
    }
}
