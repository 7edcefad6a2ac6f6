//! One slot on this node: what is wanted of it, the placement that this host runs for it, and the one step that
//! comes next. It reads no clock and does nothing itself; the loop feeds it and has its steps done. What to do
//! is the core's life cycle's to say; here it meets the guard, its lease and the state.

mod life;
mod steps;
mod wanted;

use muster_core::command::{Observation, StopCause, Stopped};
use muster_core::id::{BootId, Generation, NodeId, SlotId, TaskName};
use muster_core::lifecycle::{Happened, Report as Seen, TaskState};
use muster_core::state::slot::InstanceState;
use muster_guard::protocol::{Event, TaskReport};
use tokio::time::Instant;

use self::life::Life;
pub(super) use self::steps::{Next, Step, StepResult};
pub(super) use self::wanted::{Placed, Wanted};
use super::health::{HealthChecks, HealthReport};
use super::report::Report;
use super::view::GuardView;
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

/// One slot.
pub(super) struct Instance {
    slot: SlotId,
    wanted: Wanted,
    guard_boot: Option<BootId>,
    /// Whether `life` is in line with the guard; not while there is no connection.
    is_known: bool,
    life: Option<Life>,
    /// A step is under way.
    is_busy: bool,
    /// No step before this: the one before was refused for now.
    retry_at: Option<Instant>,
    wake: Option<Instant>,
    /// What the life cycle said last, and what of it is on its way to the cluster.
    seen: Option<Seen>,
    told: Option<Seen>,
    told_stopped: Option<Generation>,
}

impl Instance {
    /// A slot of which the guard has nothing; `guard_boot`: the guard's start while it is connected.
    pub fn new(slot: SlotId, guard_boot: Option<BootId>) -> Self {
        Self {
            slot,
            wanted: Wanted::default(),
            guard_boot,
            is_known: guard_boot.is_some(),
            life: None,
            is_busy: false,
            retry_at: None,
            wake: None,
            seen: None,
            told: None,
            told_stopped: None,
        }
    }

    /// When it wants to be asked again, if nothing else happens before.
    pub fn wake(&self) -> Option<Instant> {
        self.wake
    }

    /// Takes in what the state wants. Tells whether that may lead to anything.
    pub fn take_state(&mut self, wanted: Wanted) -> bool {
        let recorded = |w: &Wanted| w.placed.as_ref().and_then(|p| p.recorded.clone());
        if recorded(&self.wanted) != recorded(&wanted) {
            self.told = None;
        }
        if let (Some(life), Some(placed)) = (&mut self.life, &wanted.placed)
            && life.generation == placed.generation
        {
            life.follow(&placed.spec, placed.before());
        }
        // What is not wanted waits for a state that is new enough to say so.
        let may_matter = wanted.placed.is_none() || self.wanted.placed != wanted.placed;
        self.wanted = wanted;
        may_matter
    }

    /// Takes in everything that a newly connected guard has of this slot.
    pub fn take_tasks(&mut self, boot: BootId, reports: &[TaskReport], now: Instant) {
        if self.guard_boot.replace(boot) != Some(boot) {
            // The guard before took everything with it.
            self.life = None;
            self.told_stopped = None;
        }
        self.is_known = true;
        self.retry_at = None;
        let newest = reports.iter().map(|report| report.generation).max();
        match (&mut self.life, newest) {
            (Some(life), newest) if newest.is_none_or(|generation| generation <= life.generation) => {
                life.compare(reports, now);
            }
            (_, None) => {}
            (_, Some(generation)) => self.adopt(reports, generation, now),
        }
    }

    fn adopt(&mut self, reports: &[TaskReport], generation: Generation, now: Instant) {
        let placed = self.wanted.placed.as_ref().filter(|placed| placed.generation == generation);
        let declared = self.wanted.declared.as_ref();
        self.life = Some(match placed {
            Some(placed) => Life::adopted(reports, generation, placed.spec.clone(), placed.before(), now),
            None => Life::leftover(&self.slot.service, declared, reports, generation, now),
        });
        self.seen = None;
    }

    /// The connection to the guard is gone.
    pub fn take_guard_lost(&mut self) {
        self.is_known = false;
        self.wake = None;
    }

    /// Takes in an event of one of its tasks.
    pub fn take_event(&mut self, event: &Event, view: &GuardView, now: Instant) {
        let (Event::TaskStarted { task, generation, .. } | Event::TaskExited { task, generation, .. }) =
            event
        else {
            return;
        };
        let Some(life) = self.life.as_mut().filter(|life| life.generation == *generation) else { return };
        let Some(index) = life.index_of(task) else { return };
        match event {
            Event::TaskStarted { pid, .. } => life.started(index, Some(*pid), now),
            Event::TaskExited { how, at_boottime_ns, .. } => {
                let placed = self.wanted.placed.as_ref().filter(|placed| placed.generation == *generation);
                if placed.is_some_and(|placed| placed.hangs_on_lease() && !placed.has_lease(view)) {
                    // What ended with the lease did not fail.
                    life.expect_end(index, now);
                }
                life.ended(index, *how, *at_boottime_ns, now);
            }
            Event::LeasePhase { .. } | Event::ReleaseRequested { .. } => {}
        }
    }

    /// Takes in a change of a task's health.
    pub fn take_health(&mut self, report: &HealthReport, now: Instant) {
        let Some(life) = &mut self.life else { return };
        let Some(index) = life.index_of(&report.id.task) else { return };
        if life.tasks[index].run == report.run {
            life.tasks[index].unhealthy = report.verdict.clone().err();
            life.on(Happened::Health(index, report.verdict.is_ok()), now);
        }
    }

    /// Has those of its tasks checked that are to be healthy now.
    pub fn watch_health(&self, checks: &mut HealthChecks) {
        let Some(life) = &self.life else { return };
        let is_wanted = self.placed_now().is_some_and(|placed| !placed.is_revoked) && life.given_up.is_none();
        for ((task, known), state) in life.spec.tasks.iter().zip(&life.tasks).zip(life.cycle.tasks()) {
            let id = TaskId { slot: self.slot.clone(), task: task.name.clone() };
            match (&task.health, state) {
                (Some(health), TaskState::Running { .. }) if is_wanted => {
                    checks.watch(&id, known.run, health)
                }
                _ => checks.forget(&id),
            }
        }
    }

    /// The placement in the state, if it is the one that this host has.
    fn placed_now(&self) -> Option<&Placed> {
        let generation = self.life.as_ref()?.generation;
        self.wanted.placed.as_ref().filter(|placed| placed.generation == generation)
    }

    /// What is to be told to the cluster and was not told before.
    pub fn report(&mut self, node: NodeId) -> Option<Report> {
        let life = self.life.as_ref()?;
        let placed = self.placed_now()?.clone();
        if life.is_revoked {
            if self.told_stopped.replace(placed.generation) == Some(placed.generation) {
                return None;
            }
            return Some(Report::Stopped(stopped(&self.slot, node, &placed, life.given_up.as_ref())));
        }
        let recorded = placed.recorded?;
        let recorded = Seen { state: recorded.state, restarts: recorded.restarts, message: recorded.message };
        let seen = self.seen.clone()?;
        if seen == *self.told.as_ref().unwrap_or(&recorded) {
            return None;
        }
        self.told = Some(seen.clone());
        Some(Report::Observed(Observation {
            slot: self.slot.clone(),
            node,
            generation: placed.generation,
            state: seen.state,
            restarts: seen.restarts,
            message: seen.message,
        }))
    }

    /// How it is, for `status` and the health endpoints of this host.
    pub fn local(&self) -> Option<LocalInstance> {
        let placed = self.wanted.placed.as_ref()?;
        let life = self.life.as_ref().filter(|life| life.generation == placed.generation);
        let seen = self.seen.as_ref().filter(|_| life.is_some());
        let pids = life.into_iter().flat_map(|life| life.spec.tasks.iter().zip(&life.tasks));
        Some(LocalInstance {
            slot: self.slot.clone(),
            generation: placed.generation,
            is_exclusive: placed.is_exclusive(),
            state: seen.map_or(InstanceState::Placed, |seen| seen.state),
            restarts: seen.map_or(0, |seen| seen.restarts),
            message: seen.and_then(|seen| seen.message.clone()),
            pids: pids.filter_map(|(spec, known)| Some((spec.name.clone(), known.pid?))).collect(),
        })
    }
}

fn stopped(slot: &SlotId, node: NodeId, placed: &Placed, given_up: Option<&String>) -> Stopped {
    let why = match given_up {
        Some(message) if !placed.is_revoked => StopCause::Failed { message: message.clone() },
        _ => StopCause::Revoked,
    };
    Stopped { slot: slot.clone(), node, session: placed.session, generation: placed.generation, why }
}

#[cfg(test)]
mod tests;
