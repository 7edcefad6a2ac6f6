//! The life of one instance on its node: tasks are started in order, stopped in reverse order, restarted at once
//! and then with growing pauses, and given up after too many failures.
//!
//! ```text
//!   what happened ─▶ Instance::on ─▶ what is known ─┐
//!                                                   ├─▶ Instance::step ─▶ one Action ─▶ the agent carries it out
//!   the replicated state ─────────────▶ Desired ────┘
//! ```
//! The agent calls [`Instance::step`] until it answers [`Action::WaitUntil`] or [`Action::Idle`], carries out each
//! action, and tells the instance what happened. Times are readings of one monotonic clock.

mod step;

use std::time::Duration;

use crate::spec::ServiceSpec;
use crate::state::slot::InstanceState;

/// What should be.
#[derive(Clone, Copy, Debug)]
pub struct Desired<'a> {
    /// The declaration under which the instance was placed.
    pub spec: &'a ServiceSpec,
    /// Whether it should run, or be stopped and revoked.
    pub run: bool,
}

/// The next thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start this task. Tell [`Happened::Starting`], then [`Happened::Started`] or [`Happened::Exited`].
    StartTask(usize),
    /// Ask this task to stop; it will be killed after `grace`. Tell [`Happened::StopAsked`].
    StopTask {
        /// Which.
        task: usize,
        /// How long it has.
        grace: Duration,
    },
    /// Kill this task. Tell [`Happened::KillSent`].
    KillTask(usize),
    /// Tell the cluster. Tell [`Happened::Reported`] once it is on its way.
    Report(Report),
    /// Everything is stopped as wished: the guard is to remember the generation as revoked; then `Stopped` is
    /// reported with [`crate::command::StopCause::Revoked`]. The last action.
    Revoke,
    /// It failed too often here and everything is stopped: the guard is to remember the generation as revoked;
    /// then `Stopped` is reported with [`crate::command::StopCause::Failed`]. The last action.
    GiveUp {
        /// What happened, in words.
        message: String,
    },
    /// Nothing until then, unless something happens.
    WaitUntil(Duration),
    /// Nothing until something happens.
    Idle,
}

/// What the cluster is told of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its state.
    pub state: InstanceState,
    /// How often it was restarted here.
    pub restarts: u32,
    /// In words, when there is something to say.
    pub message: Option<String>,
}

/// What is known of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// It does not run.
    Stopped,
    /// It is being started.
    Starting,
    /// It runs.
    Running {
        /// What its health check says; none: it has no check, or none was done yet.
        healthy: Option<bool>,
    },
    /// It was asked to stop, or killed.
    Stopping {
        /// When it will be killed.
        kill_at: Duration,
        /// When it was killed last.
        killed: Option<Duration>,
    },
}

impl TaskState {
    fn is_stopped(self) -> bool {
        matches!(self, Self::Stopped)
    }
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With this exit status.
    Status(i32),
    /// By this signal.
    Signal(i32),
    /// It could not be started: program not found, no such user, limits.
    NotStarted(String),
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "ended with exit status {status}"),
            Self::Signal(signal) => write!(f, "was ended by signal {signal}"),
            Self::NotStarted(why) => write!(f, "could not be started: {why}"),
        }
    }
}

/// What the agent tells an instance. Anything may be told at any time; what does not fit is ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// The task is being started, as asked by [`Action::StartTask`].
    Starting(usize),
    /// The task runs.
    Started(usize),
    /// The task's health check was judged: `true` after a success, `false` after the declared number of failures.
    Health(usize, bool),
    /// The task was asked to stop, as asked by [`Action::StopTask`].
    StopAsked(usize),
    /// The task was killed, as asked by [`Action::KillTask`].
    KillSent(usize),
    /// The task has ended, wished or not, and nothing of it is left.
    Exited(usize, Exit),
    /// The report is on its way.
    Reported(Report),
}

/// What the agent knows of one instance under one generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    tasks: Vec<TaskState>,
    /// The failure that is being dealt with; it ends with the start of its task.
    failure: Option<TaskFailure>,
    /// When it was restarted, oldest first; those that no window can hold any more are dropped.
    restarts: Vec<Duration>,
    /// How often it was restarted.
    restart_count: u32,
    /// Since when tasks are being stopped.
    stopping_since: Option<Duration>,
    /// What the cluster was told last.
    reported: Option<Report>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct TaskFailure {
    task: usize,
    at: Duration,
    unhealthy: bool,
    message: String,
}

/// How many restarts are remembered; more attempts than that cannot be declared usefully.
const KEPT_RESTARTS: usize = 256;

impl Instance {
    /// An instance of which nothing runs yet.
    #[must_use]
    pub fn new(tasks: usize) -> Self {
        Self::adopted(vec![TaskState::Stopped; tasks], 0)
    }

    /// An instance that the guard ran while the agent was away.
    #[must_use]
    pub fn adopted(tasks: Vec<TaskState>, restart_count: u32) -> Self {
        Self {
            tasks,
            failure: None,
            restarts: Vec::new(),
            restart_count,
            stopping_since: None,
            reported: None,
        }
    }

    /// What is known of its tasks.
    #[must_use]
    pub fn tasks(&self) -> &[TaskState] {
        &self.tasks
    }

    /// How often it was restarted here.
    #[must_use]
    pub fn restart_count(&self) -> u32 {
        self.restart_count
    }

    /// Whether nothing of it runs.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.tasks.iter().all(|t| t.is_stopped())
    }

    /// Takes note of what happened at `now`. `spec` is the declaration under which it was placed.
    pub fn on(&mut self, happened: Happened, spec: &ServiceSpec, now: Duration) {
        match happened {
            Happened::Starting(task) => self.starting(task, now),
            Happened::Started(task) => {
                self.change(task, |old| match old {
                    TaskState::Starting => TaskState::Running { healthy: None },
                    TaskState::Stopped | TaskState::Running { .. } | TaskState::Stopping { .. } => old,
                });
            }
            Happened::Health(task, healthy) => self.judged(task, healthy, spec, now),
            Happened::StopAsked(task) => {
                let since = *self.stopping_since.get_or_insert(now);
                let kill_at = now.max(since.saturating_add(spec.stop_timeout));
                self.change(task, |old| match old {
                    TaskState::Starting | TaskState::Running { .. } => {
                        TaskState::Stopping { kill_at, killed: None }
                    }
                    TaskState::Stopped | TaskState::Stopping { .. } => old,
                });
            }
            Happened::KillSent(task) => {
                self.change(task, |old| match old {
                    TaskState::Stopped => old,
                    TaskState::Stopping { kill_at, .. } => TaskState::Stopping { kill_at, killed: Some(now) },
                    TaskState::Starting | TaskState::Running { .. } => {
                        TaskState::Stopping { kill_at: now, killed: Some(now) }
                    }
                });
            }
            Happened::Exited(task, exit) => self.exited(task, &exit, spec, now),
            Happened::Reported(report) => self.reported = Some(report),
        }
    }

    fn change(&mut self, task: usize, to: impl FnOnce(TaskState) -> TaskState) {
        if let Some(state) = self.tasks.get_mut(task) {
            *state = to(*state);
        }
    }

    fn starting(&mut self, task: usize, now: Duration) {
        if self.tasks.get(task) != Some(&TaskState::Stopped) {
            return;
        }
        self.change(task, |_| TaskState::Starting);
        self.stopping_since = None;
        if self.failure.take_if(|f| f.task == task).is_some() {
            self.restarts.push(now);
            self.restart_count = self.restart_count.saturating_add(1);
            if self.restarts.len() > KEPT_RESTARTS {
                self.restarts.remove(0);
            }
        }
    }

    fn judged(&mut self, task: usize, healthy: bool, spec: &ServiceSpec, now: Duration) {
        let Some(TaskState::Running { healthy: old }) = self.tasks.get_mut(task) else { return };
        *old = Some(healthy);
        if !healthy {
            self.failed(TaskFailure {
                task,
                at: now,
                unhealthy: true,
                message: format!("task {} is unhealthy", task_name(spec, task)),
            });
        }
    }

    fn exited(&mut self, task: usize, exit: &Exit, spec: &ServiceSpec, now: Duration) {
        let Some(old) = self.tasks.get(task).copied() else { return };
        self.change(task, |_| TaskState::Stopped);
        match old {
            // It was asked to: no failure. What it failed of before is already noted.
            TaskState::Stopped | TaskState::Stopping { .. } => {}
            TaskState::Starting | TaskState::Running { .. } => self.failed(TaskFailure {
                task,
                at: now,
                unhealthy: false,
                message: format!("task {} {exit}", task_name(spec, task)),
            }),
        }
    }

    /// The failure of the first task in order counts: everything from there on is started anew.
    fn failed(&mut self, failure: TaskFailure) {
        if self.failure.as_ref().is_none_or(|old| failure.task < old.task) {
            self.failure = Some(failure);
        }
    }
}

fn task_name(spec: &ServiceSpec, task: usize) -> String {
    spec.tasks.get(task).map_or_else(|| format!("#{task}"), |t| t.name.to_string())
}
