//! One instance on this node: what is wanted of it, what is known of its tasks, and the one step that comes
//! next. It reads no clock and does nothing itself; the loop feeds it and has its steps done.

mod facts;
mod failures;
mod steps;
mod wanted;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use muster_core::command::{Observation, StopCause, Stopped};
use muster_core::id::{BootId, Generation, NodeId, Revision, SlotId, TaskName};
use muster_core::spec::ServiceSpec;
use muster_core::state::slot::InstanceState;
use muster_guard::protocol::{Event, TaskReport};
use tokio::time::Instant;

use self::facts::{Standing, TaskFact};
use self::failures::Failures;
pub(super) use self::steps::{Next, Step, StepResult};
pub(super) use self::wanted::Wanted;
use super::health::{HealthChecks, HealthReport};
use super::report::Report;
use crate::driver::TaskId;

/// An instance as this host sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalInstance {
    /// Its slot.
    pub slot: SlotId,
    /// Its placement.
    pub generation: Generation,
    /// Whether it may never run twice.
    pub is_exclusive: bool,
    /// Its state.
    pub state: InstanceState,
    /// Restarts on this node under this placement.
    pub restarts: u32,
    /// In words, when there is something to say.
    pub message: Option<String>,
    /// The process ids of its running tasks, as far as the guard told them.
    pub pids: Vec<(TaskName, i32)>,
}

/// One instance.
pub(super) struct Instance {
    slot: SlotId,
    wanted: Option<Wanted>,
    /// The state that `wanted` comes from. It says nothing about placements that are newer than itself.
    judged_at: Revision,
    guard_boot: Option<BootId>,
    /// Whether `tasks` is what the guard has; not while there is no connection.
    is_known: bool,
    tasks: BTreeMap<TaskName, TaskFact>,
    runs: u64,
    /// A step is under way.
    is_busy: bool,
    failures: Failures,
    /// Why it is ended here although it is wanted here.
    given_up: Option<String>,
    /// Since when it is being stopped.
    stopping_since: Option<Instant>,
    /// Up to this generation the guard has ended everything of the slot and remembers that.
    revoked: Option<Generation>,
    /// The declaration by which it runs, also after it is gone from the state.
    spec: Option<Arc<ServiceSpec>>,
    /// No step before this: the one before was refused for now.
    retry_at: Option<Instant>,
    wake: Option<Instant>,
    told: Option<Seen>,
    told_stopped: Option<Generation>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    state: InstanceState,
    restarts: u32,
    message: Option<String>,
}

impl Instance {
    pub fn new(slot: SlotId) -> Self {
        Self {
            slot,
            wanted: None,
            judged_at: Revision(0),
            guard_boot: None,
            is_known: false,
            tasks: BTreeMap::new(),
            runs: 0,
            is_busy: false,
            failures: Failures::default(),
            given_up: None,
            stopping_since: None,
            revoked: None,
            spec: None,
            retry_at: None,
            wake: None,
            told: None,
            told_stopped: None,
        }
    }

    /// When it wants to be asked again, if nothing else happens before.
    pub fn wake(&self) -> Option<Instant> {
        self.wake
    }

    /// Takes in what the state at `revision` wants. Tells whether anything changed.
    pub fn take_state(&mut self, wanted: Option<Wanted>, revision: Revision) -> bool {
        // An instance that nobody wants waits for a state that is new enough to judge it.
        let is_judged_anew = wanted.is_none() && self.judged_at != revision;
        self.judged_at = revision;
        if self.wanted == wanted {
            return is_judged_anew;
        }
        let generation = |w: &Option<Wanted>| w.as_ref().map(|w| w.generation);
        if generation(&self.wanted) != generation(&wanted) {
            let restarts = wanted.as_ref().and_then(|w| w.recorded.as_ref()).map_or(0, |r| r.restarts);
            self.failures = Failures::with_restarts(restarts);
            self.given_up = None;
            self.stopping_since = None;
        }
        let recorded = |w: &Option<Wanted>| w.as_ref().and_then(|w| w.recorded.clone());
        if recorded(&self.wanted) != recorded(&wanted) {
            self.told = None;
        }
        if let Some(wanted) = &wanted {
            self.spec = Some(Arc::clone(&wanted.spec));
        }
        self.wanted = wanted;
        true
    }

    /// Takes in everything that a newly connected guard has of this slot.
    pub fn take_tasks(&mut self, boot: BootId, reports: &[TaskReport]) {
        if self.guard_boot.replace(boot) != Some(boot) {
            self.revoked = None;
            self.told_stopped = None;
        }
        let was_running = self
            .wanted
            .as_ref()
            .and_then(|w| w.recorded.as_ref().map(|r| (w.generation, r.state)))
            .filter(|(_, state)| *state == InstanceState::Running);
        let fact = |report: &TaskReport| {
            let before = self.tasks.get(&report.task);
            let mut fact = TaskFact::from_report(report, before);
            let is_recorded_running = was_running.is_some_and(|(generation, _)| generation == fact.generation);
            if before.is_none() && fact.is_running() && is_recorded_running {
                // It was healthy when the agent before this one looked; the checks say when that changes.
                fact.health = Some(Ok(()));
            }
            (report.task.clone(), fact)
        };
        self.tasks = reports.iter().map(fact).collect();
        self.runs = self.tasks.values().map(|fact| fact.run).fold(self.runs, u64::max);
        self.is_known = true;
        self.retry_at = None;
    }

    /// The connection to the guard is gone.
    pub fn take_guard_lost(&mut self) {
        self.is_known = false;
        self.wake = None;
    }

    /// Takes in an event of one of its tasks.
    pub fn take_event(&mut self, event: &Event) {
        let (Event::TaskStarted { task, generation, .. } | Event::TaskExited { task, generation, .. }) = event
        else {
            return;
        };
        let runs = &mut self.runs;
        let fact = self.tasks.entry(task.clone()).or_insert_with(|| {
            *runs += 1;
            TaskFact::new(*generation, *runs)
        });
        if fact.generation != *generation {
            return;
        }
        match event {
            Event::TaskStarted { pid, .. } if fact.state == Standing::Starting => {
                fact.state = Standing::Running { pid: Some(*pid) };
            }
            Event::TaskExited { how, at_boottime_ns, .. } => {
                fact.state = Standing::Ended { how: *how, at_boottime_ns: *at_boottime_ns };
            }
            _ => {}
        }
    }

    /// Takes in a change of a task's health.
    pub fn take_health(&mut self, report: &HealthReport) {
        if let Some(fact) = self.tasks.get_mut(&report.id.task).filter(|fact| fact.run == report.run) {
            fact.health = Some(report.verdict.clone());
        }
    }

    /// Has those of its tasks checked that are to be healthy now.
    pub fn watch_health(&self, checks: &mut HealthChecks) {
        let Some(spec) = &self.spec else { return };
        let generation = self.wanted.as_ref().filter(|_| !self.is_ending()).map(|w| w.generation);
        for task in &spec.tasks {
            let id = TaskId { slot: self.slot.clone(), task: task.name.clone() };
            let running = self.tasks.get(&task.name).filter(|fact| fact.is_running());
            match (&task.health, running.filter(|fact| Some(fact.generation) == generation)) {
                (Some(health), Some(fact)) => checks.watch(&id, fact.run, health),
                _ => checks.forget(&id),
            }
        }
    }

    /// Whether what is wanted of it, or what became of it, is its end here.
    fn is_ending(&self) -> bool {
        self.given_up.is_some() || self.wanted.as_ref().is_none_or(|w| w.is_revoked)
    }

    /// What is to be told to the cluster and was not told before.
    pub fn report(&mut self, node: NodeId) -> Option<Report> {
        let wanted = self.wanted.as_ref()?;
        if self.is_ending() && self.revoked >= Some(wanted.generation) {
            return self.report_stopped(node);
        }
        let recorded = wanted.recorded.as_ref()?;
        let seen = self.seen()?;
        let known = self.told.clone().unwrap_or_else(|| Seen {
            state: recorded.state,
            restarts: recorded.restarts,
            message: recorded.message.clone(),
        });
        if seen == known {
            return None;
        }
        self.told = Some(seen.clone());
        Some(Report::Observed(Observation {
            slot: self.slot.clone(),
            node,
            generation: wanted.generation,
            state: seen.state,
            restarts: seen.restarts,
            message: seen.message,
        }))
    }

    fn report_stopped(&mut self, node: NodeId) -> Option<Report> {
        let wanted = self.wanted.as_ref()?;
        if self.told_stopped.replace(wanted.generation) == Some(wanted.generation) {
            return None;
        }
        let why = match &self.given_up {
            Some(message) if !wanted.is_revoked => StopCause::Failed { message: message.clone() },
            _ => StopCause::Revoked,
        };
        Some(Report::Stopped(Stopped {
            slot: self.slot.clone(),
            node,
            session: wanted.session,
            generation: wanted.generation,
            why,
        }))
    }

    /// How it is, or `None` while that is not known.
    fn seen(&self) -> Option<Seen> {
        let wanted = self.wanted.as_ref().filter(|_| self.is_known)?;
        let facts: Vec<_> = wanted.spec.tasks.iter().map(|task| (task, self.own_fact(&task.name))).collect();
        let unhealthy = facts.iter().find_map(|(task, fact)| {
            let why = fact.filter(|f| f.is_alive())?.health.as_ref()?.as_ref().err()?;
            Some(format!("task {}: {why}", task.name))
        });
        let is_up = |(task, fact): &(&muster_core::spec::TaskSpec, Option<&TaskFact>)| {
            fact.is_some_and(|f| f.is_running() && (task.health.is_none() || f.health == Some(Ok(()))))
        };
        let (state, message) = if self.is_ending() {
            (InstanceState::Stopping, self.given_up.clone())
        } else if let Some(why) = unhealthy {
            (InstanceState::Unhealthy, Some(why))
        } else if facts.iter().all(is_up) {
            (InstanceState::Running, None)
        } else if self.failures.is_waiting() {
            (InstanceState::Failed, self.failures.message())
        } else if facts.iter().all(|(_, fact)| fact.is_none()) && self.failures.message().is_none() {
            (InstanceState::Placed, None)
        } else {
            (InstanceState::Starting, self.failures.message())
        };
        Some(Seen { state, restarts: self.failures.restarts(), message })
    }

    /// What is known of a task under the wanted placement.
    fn own_fact(&self, task: &TaskName) -> Option<&TaskFact> {
        let generation = self.wanted.as_ref()?.generation;
        self.tasks.get(task).filter(|fact| fact.generation == generation)
    }

    /// How it is, for `status` and the health endpoints of this host.
    pub fn local(&self) -> Option<LocalInstance> {
        let wanted = self.wanted.as_ref()?;
        let seen = self.seen()?;
        let pid = |(name, fact): (&TaskName, &TaskFact)| match fact.state {
            Standing::Running { pid: Some(pid) } => Some((name.clone(), pid)),
            _ => None,
        };
        Some(LocalInstance {
            slot: self.slot.clone(),
            generation: wanted.generation,
            is_exclusive: wanted.is_exclusive(),
            state: seen.state,
            restarts: seen.restarts,
            message: seen.message,
            pids: self.tasks.iter().filter_map(pid).collect(),
        })
    }

    fn stop_timeout(&self) -> Duration {
        // An instance whose declaration nobody remembers gets the default of declarations.
        const DEFAULT: Duration = Duration::from_secs(30);
        self.spec.as_ref().map_or(DEFAULT, |spec| spec.stop_timeout)
    }
}
