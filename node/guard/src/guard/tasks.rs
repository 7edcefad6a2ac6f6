//! The guard's tasks, and which generations were revoked.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use muster_core::id::{Generation, SlotId, TaskName};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::cgroup::Cgroup;
use crate::deadline::HEAD_START_NS;
use crate::handle::Handle;
use crate::kernel;
use crate::link::{self, ToInit};
use crate::process::Process;
use crate::protocol::{Binding, ExitHow, InventoryEntry, Refusal, StartTask, TaskState};

/// The most tasks, running or ended, that the guard keeps.
pub(crate) const TASKS_MAX: usize = 1024;
/// The most slots whose revoked generations are kept.
pub(crate) const SLOTS_MAX: usize = 16_384;

/// What a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asked {
    pub(crate) client: u64,
    pub(crate) request: u64,
}

/// One task.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) number: u64,
    pub(crate) order: StartTask,
    pub(crate) shim: u64,
    /// Wire to its init; `None` once it hung up.
    pub(crate) wire: Option<Handle>,
    /// Readable once the init has ended, and with it the whole PID namespace. `None` until the init's hello:
    /// before that nothing of the user's runs.
    pub(crate) pidfd: Option<Handle>,
    pub(crate) init: Option<Process>,
    pub(crate) cgroup: Option<Cgroup>,
    pub(crate) state: TaskState,
    /// Whether it is bound to the lease by `SetPrimary`.
    pub(crate) primary: bool,
    pub(crate) notes: Vec<String>,
    /// Process id of the command, known just before its exec.
    pub(crate) pid: i32,
    /// What the init said before it ended.
    pub(crate) how: Option<ExitHow>,
    pub(crate) log_dropped_bytes: u64,
    /// Why it could not be started.
    pub(crate) refusal: Option<Refusal>,
    pub(crate) started_for: Option<Asked>,
    /// Health checks under way: number and who asked.
    pub(crate) checks: Vec<(u64, Asked)>,
    /// When an orderly stop turns into SIGKILL, by `CLOCK_BOOTTIME`.
    pub(crate) kill_at_ns: Option<u64>,
    /// When the init itself is killed, because it did not manage to kill the rest.
    pub(crate) kill_init_at_ns: Option<u64>,
    /// It is to be killed; one without a hello yet is killed instead of started.
    pub(crate) doomed: bool,
    /// Its init knows the deadline, and what [`ToInit::KillNow`] means.
    #[serde(default)]
    pub(crate) takes_deadline: bool,
}

impl Task {
    pub(crate) fn new(number: u64, order: StartTask, shim: u64, wire: Handle, asked: Asked) -> Self {
        Self {
            number,
            order,
            shim,
            wire: Some(wire),
            pidfd: None,
            init: None,
            cgroup: None,
            state: TaskState::Starting,
            primary: false,
            notes: Vec::new(),
            pid: 0,
            how: None,
            log_dropped_bytes: 0,
            refusal: None,
            started_for: Some(asked),
            checks: Vec::new(),
            kill_at_ns: None,
            kill_init_at_ns: None,
            doomed: false,
            takes_deadline: false,
        }
    }

    pub(crate) fn is(&self, slot: &SlotId, task: &TaskName) -> bool {
        self.order.slot == *slot && self.order.task == *task
    }

    /// Whether something of it may still run.
    pub(crate) fn is_alive(&self) -> bool {
        !matches!(self.state, TaskState::Exited { .. })
    }

    /// Whether nothing will tell its end any more: it has neither a wire nor an init that can be watched.
    pub(crate) fn is_lost(&self) -> bool {
        self.is_alive() && self.wire.is_none() && self.pidfd.is_none()
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(self.state, TaskState::Running { .. })
    }

    /// Whether the end of the lease must end it before Fenced may be sent (R4, R13).
    pub(crate) fn is_bound(&self) -> bool {
        self.order.binding == Binding::Exclusive || self.primary
    }

    /// Whether the end of the lease ends it, bound or not.
    pub(crate) fn ends_with_lease(&self) -> bool {
        self.is_bound() || self.order.stop_on_quorum_loss
    }

    /// Tells its init something; false when that is gone.
    pub(crate) fn tell(&self, message: &ToInit) -> nix::Result<()> {
        let wire = self.wire.as_ref().ok_or(nix::errno::Errno::ENOTCONN)?;
        link::send_json(wire.as_fd(), message)
    }

    /// The same with a descriptor.
    pub(crate) fn tell_with(&self, message: &ToInit, fd: BorrowedFd<'_>) -> nix::Result<()> {
        let wire = self.wire.as_ref().ok_or(nix::errno::Errno::ENOTCONN)?;
        let bytes = serde_json::to_vec(message).map_err(|_| nix::errno::Errno::EINVAL)?;
        link::send_fds(wire.as_fd(), &bytes, &[fd])
    }

    /// Kills all of it at once: by its init's hand, and a moment later by the init's death.
    pub(crate) fn kill(&mut self, now_ns: u64) {
        self.doomed = true;
        // The orderly stop is over, and with it the longer time that it would give the init.
        self.kill_at_ns = None;
        if self.is_running() {
            self.state = TaskState::Stopping { pid: self.pid };
        }
        let last_resort_ns = now_ns.saturating_add(HEAD_START_NS);
        if self.kill_init_at_ns.is_some_and(|at_ns| at_ns <= last_resort_ns) {
            return;
        }
        if self.takes_deadline && self.tell(&ToInit::KillNow).is_ok() {
            self.kill_init_at_ns = Some(last_resort_ns);
        } else {
            self.kill_init();
        }
    }

    /// Kills its init, with which the kernel kills the rest. That may wait for locks of others (`deadline.rs`).
    pub(crate) fn kill_init(&mut self) {
        self.doomed = true;
        self.kill_init_at_ns = None;
        if let Some(pidfd) = &self.pidfd {
            let _ended = kernel::pidfd_signal(pidfd.as_fd(), Signal::SIGKILL);
        }
        if let Some(cgroup) = &self.cgroup {
            cgroup.kill();
        }
    }

    /// Begins an orderly stop that is given `grace_ms`.
    pub(crate) fn stop(&mut self, now_ns: u64, grace_ms: u64) {
        if !self.is_running() {
            return self.kill(now_ns);
        }
        let signal = self.order.spec.stop_signal.unwrap_or(Signal::SIGTERM as i32);
        if self.tell(&ToInit::Signal { signal }).is_err() {
            return self.kill(now_ns);
        }
        self.state = TaskState::Stopping { pid: self.pid };
        self.kill_at_ns = Some(now_ns.saturating_add(grace_ms.saturating_mul(1_000_000)));
    }

    pub(crate) fn note_init(&mut self, pid: Pid) -> nix::Result<()> {
        self.pidfd = Some(kernel::pidfd_open(pid)?.into());
        self.init = Process::read(pid);
        Ok(())
    }

    pub(crate) fn wire_fd(&self) -> i32 {
        self.wire.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }

    pub(crate) fn pidfd_fd(&self) -> i32 {
        self.pidfd.as_ref().filter(|_| self.is_alive()).map_or(-1, AsRawFd::as_raw_fd)
    }
}

/// What may not be started any more.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Revoked {
    pub(crate) slot: SlotId,
    pub(crate) generation: Generation,
}

/// All tasks.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tasks {
    pub(crate) all: Vec<Task>,
    pub(crate) revoked: Vec<Revoked>,
    pub(crate) made: u64,
    /// Clients that wait until nothing of a slot runs.
    pub(crate) revoking: Vec<(SlotId, Asked)>,
}

impl Tasks {
    pub(crate) fn find(&mut self, slot: &SlotId, task: &TaskName) -> Result<&mut Task, Refusal> {
        let found = self.all.iter_mut().find(|known| known.is(slot, task) && known.is_alive());
        found.ok_or(Refusal::NoSuchTask)
    }

    /// The task that has this number of the guard's own; none when it was forgotten.
    pub(crate) fn numbered(&mut self, number: u64) -> Option<&mut Task> {
        self.all.iter_mut().find(|task| task.number == number)
    }

    pub(crate) fn runs(&self, slot: &SlotId) -> bool {
        self.all.iter().any(|task| task.order.slot == *slot && task.is_alive())
    }

    /// R10: the rules that need no lease.
    pub(crate) fn may_start(&self, order: &StartTask) -> Result<(), Refusal> {
        let revoked = self.revoked.iter().find(|entry| entry.slot == order.slot);
        if let Some(entry) = revoked.filter(|entry| order.generation <= entry.generation) {
            return Err(Refusal::GenerationRevoked { revoked: entry.generation });
        }
        let in_the_way = self.all.iter().filter(|task| task.is_alive()).find(|task| {
            task.is(&order.slot, &order.task)
                || (task.order.slot == order.slot && task.order.generation != order.generation)
        });
        if let Some(task) = in_the_way {
            return Err(Refusal::SlotBusy { running: task.order.generation });
        }
        if self.all.len() >= TASKS_MAX {
            return Err(Refusal::TooMany { what: "tasks".to_owned(), limit: TASKS_MAX as u64 });
        }
        Ok(())
    }

    pub(crate) fn revoke(
        &mut self,
        now_ns: u64,
        slot: &SlotId,
        generation: Generation,
    ) -> Result<(), Refusal> {
        let slots = self.revoked.len();
        match self.revoked.iter_mut().find(|entry| entry.slot == *slot) {
            Some(entry) => entry.generation = entry.generation.max(generation),
            None if slots >= SLOTS_MAX => {
                return Err(Refusal::TooMany { what: "slots".to_owned(), limit: SLOTS_MAX as u64 });
            }
            None => self.revoked.push(Revoked { slot: slot.clone(), generation }),
        }
        let tasks = self.all.iter_mut().filter(|task| task.order.slot == *slot && task.is_alive());
        tasks.for_each(|task| task.kill(now_ns));
        Ok(())
    }

    /// The deadline of a shim came nearer: its inits sleep until the one that they know.
    pub(crate) fn wake_inits(&self, shim: u64) {
        for task in self.all.iter().filter(|task| task.shim == shim && task.takes_deadline) {
            // One that can't be told has ended, or has so much to hear that it is awake.
            let _awake = task.tell(&ToInit::Deadline);
        }
    }

    pub(crate) fn inventory(&self) -> Vec<InventoryEntry> {
        let mut entries: Vec<InventoryEntry> = Vec::new();
        for task in self.all.iter().filter(|task| task.is_alive()) {
            if !entries.iter().any(|entry| entry.slot == task.order.slot) {
                let exclusive = task.order.binding == Binding::Exclusive;
                let (slot, generation) = (task.order.slot.clone(), task.order.generation);
                entries.push(InventoryEntry { slot, generation, exclusive });
            }
        }
        entries
    }
}
