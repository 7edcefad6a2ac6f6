//! The next thing to do for an instance. It acts first and reports when there is nothing more to do at once: a
//! restart does not wait for a report.

use std::time::Duration;

use super::{Action, Desired, Instance, Report, TaskFailure, TaskState};
use crate::spec::RestartPolicy;
use crate::state::slot::InstanceState;

/// A killed task that has not ended after so long is killed again.
pub const KILL_AGAIN_AFTER: Duration = Duration::from_secs(1);

impl Instance {
    /// The next thing to do at `now`: a forward step, one at a time.
    #[must_use]
    pub fn step(&self, desired: Desired<'_>, now: Duration) -> Action {
        if !desired.run {
            return self.stop_from(0, desired, now).unwrap_or(Action::Revoke);
        }
        match &self.failure {
            Some(failure) => self.recover(failure, desired, now),
            None => self.start(desired, now),
        }
    }

    fn start(&self, desired: Desired<'_>, now: Duration) -> Action {
        self.bring_up(self.tasks.len(), desired, now)
            .unwrap_or_else(|| self.report_or(InstanceState::Running, None, Action::Idle))
    }

    /// What the first of these tasks that is not up needs; none once they all run and are healthy.
    fn bring_up(&self, tasks: usize, desired: Desired<'_>, now: Duration) -> Option<Action> {
        let waits = || self.report_or(InstanceState::Starting, None, Action::Idle);
        for (index, (task, spec)) in self.tasks.iter().zip(&desired.spec.tasks).take(tasks).enumerate() {
            match task {
                // Tasks after a missing one depend on it: they end first.
                TaskState::Stopped => {
                    return self.stop_from(index + 1, desired, now).or(Some(Action::StartTask(index)));
                }
                TaskState::Running { healthy: Some(true) } => {}
                TaskState::Running { healthy: None } if spec.health.is_none() => {}
                TaskState::Starting | TaskState::Running { .. } => return Some(waits()),
                // It was to be stopped, and is wanted again: its end comes first.
                TaskState::Stopping { .. } => {
                    return self.stop_from(index, desired, now).or_else(|| Some(waits()));
                }
            }
        }
        None
    }

    /// After a failure: the failed task and all after it are stopped in reverse order and started anew, at once
    /// the first time, then after growing pauses; after too many, everything is stopped and given up.
    fn recover(&self, failure: &TaskFailure, desired: Desired<'_>, now: Duration) -> Action {
        let policy = &desired.spec.restart;
        let recent = self.restarts_within(policy, failure.at);
        let message = failure.message.clone();
        if recent >= policy.attempts {
            return self.stop_from(0, desired, now).unwrap_or(Action::GiveUp {
                message: match recent {
                    0 => message,
                    1 => format!("{message}, after 1 restart here"),
                    n => format!("{message}, after {n} restarts here"),
                },
            });
        }
        if let Some(action) = self.stop_from(failure.task, desired, now) {
            return action;
        }
        let at = failure.at.saturating_add(pause(policy, recent));
        if now < at {
            return self.report_or(InstanceState::Failed, Some(message), Action::WaitUntil(at));
        }
        // What comes before it may have been stopped meanwhile.
        self.bring_up(failure.task, desired, now).unwrap_or(Action::StartTask(failure.task))
    }

    fn restarts_within(&self, policy: &RestartPolicy, now: Duration) -> u32 {
        let recent = self.restarts.iter().filter(|at| now.saturating_sub(**at) < policy.window).count();
        u32::try_from(recent).unwrap_or(u32::MAX)
    }

    /// Stops the tasks from `first` on, the last one first; none once they are all stopped.
    fn stop_from(&self, first: usize, desired: Desired<'_>, now: Duration) -> Option<Action> {
        let index = (first..self.tasks.len()).rev().find(|i| !self.tasks[*i].is_stopped())?;
        let TaskState::Stopping { kill_at, killed } = self.tasks[index] else {
            let since = self.stopping_since.unwrap_or(now);
            let spent = now.saturating_sub(since);
            return Some(Action::StopTask {
                task: index,
                grace: desired.spec.stop_timeout.saturating_sub(spent),
            });
        };
        let next_kill = killed.map_or(kill_at, |at| at.saturating_add(KILL_AGAIN_AFTER));
        if now >= next_kill {
            return Some(Action::KillTask(index));
        }
        let (state, message) = match &self.failure {
            Some(f) if desired.run && f.unhealthy => (InstanceState::Unhealthy, Some(f.message.clone())),
            Some(f) if desired.run => (InstanceState::Failed, Some(f.message.clone())),
            Some(_) | None => (InstanceState::Stopping, None),
        };
        Some(self.report_or(state, message, Action::WaitUntil(next_kill)))
    }

    fn report_or(&self, state: InstanceState, message: Option<String>, otherwise: Action) -> Action {
        let report = Report { state, restarts: self.restart_count, message };
        if self.reported.as_ref() == Some(&report) { otherwise } else { Action::Report(report) }
    }
}

/// How long to wait before a restart when there were `recent` ones: nothing, then doubled from the shortest on.
fn pause(policy: &RestartPolicy, recent: u32) -> Duration {
    match recent.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => {
            policy.backoff_min.saturating_mul(2_u32.saturating_pow(doublings)).min(policy.backoff_max)
        }
    }
}
