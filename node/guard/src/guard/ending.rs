//! Ends: of the lease, of a session that is released, and of the guard itself.

use muster_core::id::SlotId;
use muster_core::time::HostInstant;
use serde::{Deserialize, Serialize};

use super::Guard;
use super::tasks::{Asked, Task};
use crate::clock;
use crate::launch::Isolation;
use crate::protocol::{LeasePhase, Reply};
use crate::report::report;

/// How long a guard that ends goes on to tell the voters, in nanoseconds; its note stays for a successor.
const FENCED_FOR_NS: u64 = 3_000_000_000;

/// The guard's own orderly end.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Stopping {
    /// Replaces the tasks' own grace.
    grace_ms: Option<u64>,
    asked: Option<Asked>,
    /// Set once nothing runs any more.
    give_up_at_ns: Option<u64>,
}

impl Guard {
    /// The lease has ended: kill everything that hangs on it, and tell the lease once nothing is left (R4).
    pub(super) fn kill_bound(&mut self, now: HostInstant) {
        for task in self.tasks.all.iter_mut().filter(|task| task.is_alive() && task.ends_with_lease()) {
            task.kill(now.boottime_ns);
        }
        let tasks = &self.tasks;
        for shim in self.shims.all.iter_mut().filter(|shim| shim.is_bound()) {
            let mut under_it = tasks.all.iter().filter(|task| task.is_alive() && task.shim == shim.number);
            shim.end(now.boottime_ns, under_it.any(|task| task.takes_deadline));
        }
        if self.isolation == Isolation::Nothing {
            self.kill_strays();
        }
        self.reap();
        if self.nothing_bound_is_left()
            && let Some(session) = &mut self.session
        {
            session.lease.nothing_left(now);
            report!("session {}: nothing exclusive is left", session.id());
        }
    }

    /// Whether nothing that was bound to the lease runs: every shim and init is gone, each with its namespace.
    fn nothing_bound_is_left(&mut self) -> bool {
        let shims_are_gone = self.shims.bound_are_gone();
        let tasks_are_gone = !self.tasks.all.iter().any(|task| task.is_alive() && task.is_bound());
        let gone =
            shims_are_gone && tasks_are_gone && (self.isolation != Isolation::Nothing || self.kill_strays());
        if gone {
            self.shims.all.retain(|shim| !shim.is_bound());
        }
        gone
    }

    /// Ends the session: everything exclusive is killed.
    pub(super) fn end_session(&mut self) {
        let now = clock::now();
        if let Some(session) = &mut self.session {
            session.lease.end(now);
        }
        self.keep_lease(now);
    }

    /// The controller asked for a release: while no agent is there to do it, the guard stops what is exclusive.
    pub(super) fn tend_release(&mut self, now: HostInstant) {
        // One that went just now counts until it is forgotten, and with it what was asked while it was here.
        let agent_present = self.clients.iter().any(super::Client::came_as_agent);
        let releasing = self
            .session
            .as_mut()
            .is_some_and(|session| session.release && session.phase(now) <= LeasePhase::Valid);
        if agent_present || !releasing {
            return;
        }
        if self.stop_in_order(now, None, Task::is_bound) {
            self.end_session();
        }
    }

    /// Tells the guard to end.
    pub(super) fn begin_to_stop(&mut self, grace_ms: Option<u64>, asked: Option<Asked>) {
        if self.stopping.is_none() {
            report!("stopping all tasks, then this guard");
            crate::notify::notify("STOPPING=1");
            self.stopping = Some(Stopping { grace_ms, asked, give_up_at_ns: None });
        }
    }

    /// True when the guard has nothing more to do.
    pub(super) fn tend_stopping(&mut self, now: HostInstant) -> bool {
        let Some(grace_ms) = self.stopping.as_ref().map(|stopping| stopping.grace_ms) else { return false };
        if !self.stop_in_order(now, grace_ms, |_| true) {
            return false;
        }
        self.end_session();
        let over = self.session.as_mut().is_none_or(|session| session.phase(now) == LeasePhase::Ended);
        let Some(stopping) = &mut self.stopping else { return false };
        let give_up_at_ns = *stopping.give_up_at_ns.get_or_insert(now.boottime_ns + FENCED_FOR_NS);
        if !over && now.boottime_ns < give_up_at_ns {
            return false;
        }
        let asked = stopping.asked.take();
        self.answer(asked, Ok(Reply::Ok));
        for shim in &self.shims.all {
            shim.kill();
        }
        self.note_for_successor();
        self.cgroups.remove();
        true
    }

    /// Stops the tasks that `which` names, of each slot the last started first. True when none is left.
    fn stop_in_order(&mut self, now: HostInstant, grace_ms: Option<u64>, which: fn(&Task) -> bool) -> bool {
        let alive = |task: &&Task| task.is_alive() && which(task);
        let slots: Vec<(SlotId, u64)> =
            self.tasks.all.iter().filter(alive).map(|task| (task.order.slot.clone(), task.number)).collect();
        for (slot, number) in &slots {
            let is_last = !slots.iter().any(|(other, later)| other == slot && later > number);
            let task = self.tasks.all.iter_mut().find(|task| task.number == *number && task.is_running());
            if let (true, Some(task)) = (is_last, task) {
                let grace_ms = grace_ms.unwrap_or(task.order.spec.stop_grace_ms);
                task.stop(now.boottime_ns, grace_ms);
            }
        }
        slots.is_empty()
    }
}
