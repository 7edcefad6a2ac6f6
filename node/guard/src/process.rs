//! A process named so that it can't be taken for a later one with the same number.

use std::os::fd::AsFd;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::kernel;

/// A process id with the time at which the process started.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Process {
    pid: i32,
    /// In clock ticks since the host's start.
    started_ticks: u64,
    /// Whether it has ended and waits to be reaped.
    #[serde(skip)]
    pub(crate) zombie: bool,
    /// Its parent's process id.
    #[serde(skip)]
    pub(crate) parent: i32,
}

impl Process {
    /// Looks a process up; `None` when there is none.
    pub(crate) fn read(pid: Pid) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may contain anything, but the last parenthesis ends it.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        // State is field 3 of proc(5), the parent field 4, the start time field 22.
        let started_ticks = fields.nth(22 - 5)?.parse().ok()?;
        Some(Self { pid: pid.as_raw(), started_ticks, zombie: matches!(state, "Z" | "X"), parent })
    }

    /// All processes that this one can see.
    pub(crate) fn all() -> Vec<Self> {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter_map(|pid| Self::read(Pid::from_raw(pid))).collect()
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.pid)
    }

    /// Kills exactly this process and waits until it has ended. False when it had ended already.
    pub(crate) fn kill_and_wait(&self) -> bool {
        // The descriptor first, the look at the start time second: what the descriptor names can't change.
        let Ok(pidfd) = kernel::pidfd_open(self.pid()) else { return false };
        if !Self::read(self.pid()).is_some_and(|now| now.started_ticks == self.started_ticks && !now.zombie) {
            return false;
        }
        // It may have ended just now.
        let _ended = kernel::pidfd_signal(pidfd.as_fd(), Signal::SIGKILL);
        while !matches!(kernel::wait_readable(pidfd.as_fd(), -1), Ok(true)) {}
        true
    }
}

impl PartialEq for Process {
    fn eq(&self, other: &Self) -> bool {
        (self.pid, self.started_ticks) == (other.pid, other.started_ticks)
    }
}

impl Eq for Process {}
