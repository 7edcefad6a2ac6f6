//! One placement's life here: the core's life cycle, which knows tasks by their number, joined with the guard,
//! which knows them by name, process id and time of their end.

use std::sync::Arc;

use muster_core::id::{Generation, ServiceName, TaskName};
use muster_core::lifecycle::{Exit, Happened, Instance as Cycle, TaskState};
use muster_core::spec::{Driver, ExecSpec, Mode, ServiceSpec, TaskSpec};
use muster_guard::protocol::{self as guard, ExitHow, TaskReport};
use tokio::time::Instant;

/// A placement that this host runs, or still has something of.
#[derive(Debug)]
pub(super) struct Life {
    pub generation: Generation,
    /// The declaration under which it runs. Times and limits follow the newest one as long as the tasks are the same.
    pub spec: Arc<ServiceSpec>,
    pub cycle: Cycle,
    /// What the guard told of each task, in the order of `spec`.
    pub tasks: Vec<Known>,
    /// Whether this guard ran anything of it.
    pub has_run: bool,
    /// Why it was given up here.
    pub given_up: Option<String>,
    /// The guard has ended everything of it and remembers that for good (R10).
    pub is_revoked: bool,
    /// `spec` is made up: the guard was heard before the state that declares and places it.
    is_leftover: bool,
    /// Where the life cycle's clock begins.
    origin: Instant,
}

/// What is known of a task beyond its state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// Grows with each start, so that what a health check says of an earlier run is told apart.
    pub run: u64,
    pub pid: Option<i32>,
    /// When its last run ended, by the guard's clock.
    ended_at_ns: Option<u64>,
    /// What the health check said last, if that was not 'healthy'.
    pub unhealthy: Option<String>,
}

impl Life {
    /// A placement of which nothing runs yet.
    pub fn new(generation: Generation, spec: Arc<ServiceSpec>, restarts: u32, now: Instant) -> Self {
        let tasks = vec![TaskState::Stopped; spec.tasks.len()];
        Self {
            generation,
            tasks: vec![Known::default(); tasks.len()],
            cycle: Cycle::adopted(tasks, restarts),
            spec,
            has_run: false,
            given_up: None,
            is_revoked: false,
            is_leftover: false,
            origin: now,
        }
    }

    /// One of which the state says nothing (yet): it goes by a declaration that is enough to end it in order.
    pub fn leftover(
        service: &ServiceName,
        declared: Option<&Arc<ServiceSpec>>,
        reports: &[TaskReport],
        generation: Generation,
        now: Instant,
    ) -> Self {
        let spec = leftover_spec(service, declared, reports);
        Self { is_leftover: true, ..Self::adopted(reports, generation, spec, (0, false), now) }
    }

    /// A placement that the guard ran before this agent looked. `was_running`: the cluster was told that all of
    /// it runs; the health checks say when that changes.
    pub fn adopted(
        reports: &[TaskReport],
        generation: Generation,
        spec: Arc<ServiceSpec>,
        (restarts, was_running): (u32, bool),
        now: Instant,
    ) -> Self {
        let state = |task: &TaskSpec| {
            let report = reports.iter().find(|r| r.task == task.name && r.generation == generation);
            match report.map(|r| r.state) {
                None => TaskState::Stopped,
                // An end that nobody has seen: it is told below, as the end of a run.
                Some(guard::TaskState::Running { .. } | guard::TaskState::Exited { .. }) => {
                    TaskState::Running { healthy: (task.health.is_some() && was_running).then_some(true) }
                }
                Some(guard::TaskState::Starting) => TaskState::Starting,
                Some(guard::TaskState::Stopping { .. }) => {
                    TaskState::Stopping { kill_at: spec.stop_timeout, killed: None }
                }
            }
        };
        let states = spec.tasks.iter().map(state).collect();
        let mut life = Self::new(generation, spec, restarts, now);
        life.cycle = Cycle::adopted(states, restarts);
        life.has_run = true;
        life.compare(reports, now);
        life
    }

    /// Brings what is known in line with what a newly connected guard has.
    pub fn compare(&mut self, reports: &[TaskReport], now: Instant) {
        for task in 0..self.spec.tasks.len() {
            let name = &self.spec.tasks[task].name;
            let report = reports.iter().find(|r| r.task == *name && r.generation == self.generation);
            let known_end_ns = self.tasks[task].ended_at_ns;
            match report.map(|r| r.state) {
                Some(guard::TaskState::Exited { at_boottime_ns, .. })
                    if known_end_ns == Some(at_boottime_ns) =>
                {
                    // That end is known. What was ordered since then never began.
                    self.cancel(task, now);
                }
                Some(guard::TaskState::Exited { how, at_boottime_ns }) => {
                    self.ended(task, how, at_boottime_ns, now);
                }
                Some(guard::TaskState::Running { pid }) => self.started(task, Some(pid), now),
                Some(guard::TaskState::Starting) => self.on(Happened::Starting(task), now),
                Some(guard::TaskState::Stopping { .. }) => self.on(Happened::StopAsked(task), now),
                None => self.cancel(task, now),
            }
        }
    }

    /// The number of a task of this placement.
    pub fn index_of(&self, name: &TaskName) -> Option<usize> {
        self.spec.tasks.iter().position(|task| task.name == *name)
    }

    /// A reading of the life cycle's clock.
    pub fn at(&self, now: Instant) -> std::time::Duration {
        now.duration_since(self.origin)
    }

    /// When the life cycle's clock reads this.
    pub fn instant(&self, at: std::time::Duration) -> Option<Instant> {
        self.origin.checked_add(at)
    }

    pub fn on(&mut self, happened: Happened, now: Instant) {
        let at = self.at(now);
        self.cycle.on(happened, &self.spec, at);
    }

    /// A task is about to be started.
    pub fn starting(&mut self, task: usize, now: Instant) {
        self.has_run = true;
        let known = &mut self.tasks[task];
        (known.run, known.pid, known.unhealthy) = (known.run + 1, None, None);
        self.on(Happened::Starting(task), now);
    }

    /// A task runs, whether or not it is known that it was started.
    pub fn started(&mut self, task: usize, pid: Option<i32>, now: Instant) {
        if self.cycle.tasks().get(task) == Some(&TaskState::Stopped) {
            self.starting(task, now);
        }
        self.tasks[task].pid = pid.or(self.tasks[task].pid);
        self.on(Happened::Started(task), now);
    }

    /// A run of a task ended.
    pub fn ended(&mut self, task: usize, how: ExitHow, at_boottime_ns: u64, now: Instant) {
        let known = &mut self.tasks[task];
        known.ended_at_ns = Some(at_boottime_ns);
        known.pid = None;
        let exit = match how {
            ExitHow::Code(status) => Exit::Status(status),
            ExitHow::Signal(signal) => Exit::Signal(signal),
        };
        self.on(Happened::Exited(task, exit), now);
    }

    /// The end of a task that comes now is no failure of its own.
    pub fn expect_end(&mut self, task: usize, now: Instant) {
        self.on(Happened::KillSent(task), now);
    }

    /// Nothing of a task runs, and it did not fail: it was never started, or was ended for good reason.
    pub fn cancel(&mut self, task: usize, now: Instant) {
        self.tasks[task].pid = None;
        self.expect_end(task, now);
        self.on(Happened::Exited(task, Exit::Status(0)), now);
    }

    /// Takes over a newer declaration of the same tasks, or at last the one under which all of it was started. `before`:
    /// as in [`Self::adopted`].
    pub fn follow(&mut self, spec: &Arc<ServiceSpec>, before: (u32, bool)) {
        if self.is_leftover {
            self.learn(spec, before);
        } else if self.spec.tasks == spec.tasks {
            self.spec = Arc::clone(spec);
        }
    }

    fn learn(&mut self, spec: &Arc<ServiceSpec>, (restarts, was_running): (u32, bool)) {
        let learnt = |task: &TaskSpec| {
            let Some(index) = self.index_of(&task.name) else {
                return (TaskState::Stopped, Known::default());
            };
            let state = match self.cycle.tasks()[index] {
                TaskState::Running { .. } => {
                    TaskState::Running { healthy: (task.health.is_some() && was_running).then_some(true) }
                }
                other => other,
            };
            (state, self.tasks[index].clone())
        };
        let (states, tasks) = spec.tasks.iter().map(learnt).unzip();
        (self.cycle, self.tasks) = (Cycle::adopted(states, restarts), tasks);
        (self.spec, self.is_leftover) = (Arc::clone(spec), false);
    }

    /// A message of the life cycle, with what the health check said where it is about health.
    pub fn detailed(&self, message: String) -> String {
        for (spec, known) in self.spec.tasks.iter().zip(&self.tasks) {
            let judgement = format!("task {} is unhealthy", spec.name);
            if let (Some(why), Some(rest)) = (&known.unhealthy, message.strip_prefix(&judgement)) {
                return format!("{judgement} ({why}){rest}");
            }
        }
        message
    }
}

/// A declaration for what the guard runs although it is not wanted here: enough to end it in order.
fn leftover_spec(
    service: &ServiceName,
    declared: Option<&Arc<ServiceSpec>>,
    reports: &[TaskReport],
) -> Arc<ServiceSpec> {
    let unknown = |report: &TaskReport| TaskSpec {
        name: report.task.clone(),
        driver: Driver::Exec(ExecSpec::default()),
        health: None,
    };
    let Some(declared) = declared else {
        let tasks = reports.iter().map(unknown).collect();
        return Arc::new(ServiceSpec::with_defaults(service.clone(), Mode::Exclusive, tasks));
    };
    let is_undeclared = |r: &&TaskReport| declared.tasks.iter().all(|task| task.name != r.task);
    let mut spec = ServiceSpec::clone(declared);
    spec.tasks.extend(reports.iter().filter(is_undeclared).map(unknown));
    Arc::new(spec)
}
