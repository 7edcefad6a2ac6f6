//! The guard's shims: one for all exclusive tasks, one for the others, and one for each promotable slot.

use std::os::fd::AsFd;

use muster_core::id::SlotId;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::tasks::Task;
use crate::deadline::{Deadline, HEAD_START_NS};
use crate::handle::Handle;
use crate::link::{self, ToInit, ToShim};
use crate::process::Process;
use crate::protocol::Binding;
use crate::shim;

/// Whose tasks a shim holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ShimKind {
    /// Exclusive tasks; its timer follows the lease.
    Leased,
    /// Tasks that know no lease; it has no timer.
    Free,
    /// One promotable slot; its timer follows the lease while the slot is primary.
    Promotable { slot: SlotId, primary: bool },
}

impl ShimKind {
    pub(crate) fn of(binding: Binding, slot: &SlotId) -> Self {
        match binding {
            Binding::Exclusive => Self::Leased,
            Binding::Free => Self::Free,
            Binding::Promotable => Self::Promotable { slot: slot.clone(), primary: false },
        }
    }

    /// Whether both kinds mean the same shim.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Promotable { slot: a, .. }, Self::Promotable { slot: b, .. }) => a == b,
            _ => self == other,
        }
    }
}

/// One shim.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Shim {
    pub(crate) number: u64,
    pub(crate) kind: ShimKind,
    pid: i32,
    pub(crate) process: Option<Process>,
    pub(crate) wire: Handle,
    /// It was reaped. Its inits may still be dying.
    pub(crate) dead: bool,
    /// Whom to tell that the timer is armed: client and request.
    pub(crate) confirm_to: Option<(u64, u64)>,
    /// What its inits know of its timer. `None` without a timer, and where an older guard forked it.
    #[serde(default)]
    pub(crate) deadline: Option<Deadline>,
    /// When it is killed, because its inits had their time to kill what they hold.
    #[serde(default)]
    kill_at_ns: Option<u64>,
}

impl Shim {
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.pid)
    }

    /// Whether the end of the lease ends it.
    pub(crate) fn is_bound(&self) -> bool {
        match &self.kind {
            ShimKind::Leased => true,
            ShimKind::Free => false,
            ShimKind::Promotable { primary, .. } => *primary,
        }
    }

    /// Notes whether its slot is primary; the timer is moved by [`Self::arm`].
    pub(crate) fn set_primary(&mut self, now: bool) {
        if let ShimKind::Promotable { primary, .. } = &mut self.kind {
            *primary = now;
        }
    }

    /// Moves the timer; 0 disarms it. A shim that doesn't read any more dies by the value it had. True when the inits
    /// have to be woken ([`super::tasks::Tasks::wake_inits`]).
    pub(crate) fn arm(&self, boottime_ns: u64, confirm: bool) -> nix::Result<bool> {
        let set = || self.deadline.as_ref().is_some_and(|deadline| deadline.set(boottime_ns));
        // The later moment must not hold alone: a guard may be stopped between the two.
        if boottime_ns == 0 {
            set();
        }
        link::send_bytes(self.wire.as_fd(), &ToShim::Arm { boottime_ns, confirm }.encode())?;
        Ok(set())
    }

    /// Ends it with everything under it: its inits kill what they hold, and have a moment for that.
    pub(crate) fn end(&mut self, now_ns: u64, has_inits_that_kill: bool) {
        if let Some(deadline) = &self.deadline {
            deadline.pass();
        }
        let kill_at_ns = *self.kill_at_ns.get_or_insert(now_ns.saturating_add(HEAD_START_NS));
        if !has_inits_that_kill || kill_at_ns <= now_ns {
            self.kill();
        }
    }

    /// Kills the shim and all inits under it, which share its process group.
    pub(crate) fn kill(&self) {
        if !self.dead {
            let _ended = kill(self.pid(), Signal::SIGKILL);
        }
        let _ended = kill(Pid::from_raw(-self.pid), Signal::SIGKILL);
    }

    /// Whether the shim and every init that was ever under it are gone, each with its PID namespace. As the
    /// subreaper the guard becomes the parent of a dead shim's inits: no child in the group, nobody left.
    pub(crate) fn is_gone(&mut self) -> bool {
        loop {
            match waitpid(Pid::from_raw(-self.pid), Some(WaitPidFlag::WNOHANG)) {
                Err(Errno::ECHILD) => {
                    // The shim itself leads the group, so it was reaped too, perhaps just now.
                    self.dead = true;
                    return true;
                }
                Ok(WaitStatus::StillAlive) => return false,
                // One was reaped just now: look again.
                Ok(_) | Err(_) => {}
            }
        }
    }
}

/// All shims.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Shims {
    pub(crate) all: Vec<Shim>,
    made: u64,
}

impl Shims {
    /// The living shim of that kind, forked if there is none. A new one's timer is not armed.
    pub(crate) fn get_or_fork(&mut self, kind: &ShimKind) -> nix::Result<&Shim> {
        // One that an older guard forked starts inits that know no deadline: it keeps what it has, and gets no more.
        let is_old = |shim: &Shim| shim.kind == ShimKind::Leased && shim.deadline.is_none();
        let known = self.all.iter().position(|shim| shim.kind.is(kind) && !shim.dead && !is_old(shim));
        let index = match known {
            Some(index) => index,
            None => {
                let with_timer = *kind != ShimKind::Free;
                let deadline = if with_timer { Some(Deadline::new()?) } else { None };
                let forked = shim::fork(with_timer)?;
                self.made += 1;
                self.all.push(Shim {
                    number: self.made,
                    kind: kind.clone(),
                    pid: forked.pid.as_raw(),
                    process: Process::read(forked.pid),
                    wire: forked.wire.into(),
                    dead: false,
                    confirm_to: None,
                    deadline,
                    kill_at_ns: None,
                });
                self.all.len() - 1
            }
        };
        Ok(&self.all[index])
    }

    /// Gives the task's init the page on which its shim's deadline stands, if there is one.
    pub(crate) fn show_deadline(&self, task: &Task) -> nix::Result<()> {
        let shim = self.all.iter().find(|shim| shim.number == task.shim);
        match shim.and_then(|shim| shim.deadline.as_ref()) {
            Some(deadline) => task.tell_with(&ToInit::Deadline, deadline.file()),
            None => Ok(()),
        }
    }

    pub(crate) fn of_slot(&mut self, slot: &SlotId) -> Option<&mut Shim> {
        self.all.iter_mut().find(|shim| {
            !shim.dead && matches!(&shim.kind, ShimKind::Promotable { slot: mine, .. } if mine == slot)
        })
    }

    /// Whether there are inits that go by a page of this guard's.
    pub(crate) fn have_deadlines(&self) -> bool {
        self.all.iter().any(|shim| shim.deadline.is_some())
    }

    /// Whether all bound shims are gone, with everything that was ever under them.
    pub(crate) fn bound_are_gone(&mut self) -> bool {
        self.all.iter_mut().filter(|shim| shim.is_bound()).all(Shim::is_gone)
    }

    pub(crate) fn bound(&self) -> impl Iterator<Item = &Shim> {
        self.all.iter().filter(|shim| shim.is_bound())
    }

    /// Notes that a child was reaped. When it was a shim: whether the end of the lease ends that one.
    pub(crate) fn note_reaped(&mut self, pid: Pid) -> Option<bool> {
        let shim = self.all.iter_mut().find(|shim| shim.pid() == pid)?;
        shim.dead = true;
        Some(shim.is_bound())
    }
}
