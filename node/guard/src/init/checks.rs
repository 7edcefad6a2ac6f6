//! A task's health checks, run by a process beside the init: an init that forked them itself could be kept from killing.
//!
//! To fork, a process takes a lock of each file that it maps, libc's among them, and whoever holds one of these may
//! wait long for a processor (`docs/decisions/0022`). An init has to be awake when its deadline comes.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, pipe2};

use super::child::Command;
use super::ended_child;
use crate::clock;
use crate::kernel::{self, Fork};
use crate::launch::Launch;
use crate::link::{self, FromInit, ToInit};
use crate::memory;
use crate::protocol::ExitHow;

/// Health checks of one task that may run at once; a further one is reported as timed out.
const CHECKS_MAX: usize = 8;
const WIRE_FD: i32 = 3;

/// How long the process may take, beyond a check's own time, to tell what came of it, in nanoseconds.
const SLACK_NS: u64 = 1_000_000_000;

/// The checks as the init sees them.
#[derive(Default)]
pub(super) struct Checks {
    process: Option<Process>,
    /// Number, and when it is given up.
    under_way: Vec<(u64, u64)>,
}

/// The process that runs them.
struct Process {
    pid: Pid,
    wire: OwnedFd,
}

/// What came of a check; without `how` it ran out of time, or could not be run.
pub(super) struct Outcome {
    pub(super) id: u64,
    pub(super) how: Option<ExitHow>,
}

impl Checks {
    /// Starts the process that runs them, unless there is one.
    pub(super) fn prepare(&mut self, launch: &Launch) {
        if self.process.is_none() {
            // What fails now is tried again by the next check.
            self.process = start(launch).ok();
        }
    }

    /// Has a check run. False when it can't be.
    pub(super) fn begin(&mut self, launch: &Launch, id: u64, argv: Vec<String>, timeout_ms: u64) -> bool {
        if self.under_way.len() >= CHECKS_MAX {
            return false;
        }
        self.prepare(launch);
        let check = ToInit::Check { id, argv, timeout_ms };
        let process = self.process.as_ref();
        let told = process.is_some_and(|process| link::send_json(process.wire.as_fd(), &check).is_ok());
        if told {
            let time_ns = timeout_ms.saturating_mul(1_000_000).saturating_add(SLACK_NS);
            self.under_way.push((id, clock::now().boottime_ns.saturating_add(time_ns)));
        }
        told
    }

    /// Readable when something came of a check.
    pub(super) fn wire_fd(&self) -> i32 {
        self.process.as_ref().map_or(-1, |process| process.wire.as_raw_fd())
    }

    /// When a check is given up, at the earliest.
    pub(super) fn due_ns(&self) -> Option<u64> {
        self.under_way.iter().map(|(_, give_up_at_ns)| *give_up_at_ns).min()
    }

    /// What came of checks since the last time; `heard` when the wire is readable.
    pub(super) fn tend(&mut self, heard: bool) -> Vec<Outcome> {
        let mut outcomes = if heard { self.hear() } else { Vec::new() };
        if self.due_ns().is_some_and(|due_ns| due_ns <= clock::now().boottime_ns) {
            // Somebody stopped the process. The next check starts another one.
            outcomes.append(&mut self.give_up());
        }
        outcomes
    }

    fn hear(&mut self) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        while let Some(process) = &self.process {
            match link::receive(&process.wire, false) {
                Ok(Some(message)) => {
                    if let Some(FromInit::Checked { id, how }) = message.parse() {
                        self.under_way.retain(|(known, _)| *known != id);
                        outcomes.push(Outcome { id, how });
                    }
                }
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                // Somebody killed the process, the task perhaps with all else that it can see. The next check starts
                // another one.
                Ok(None) | Err(_) => outcomes.append(&mut self.give_up()),
            }
        }
        outcomes
    }

    /// No check comes to an end any more.
    pub(super) fn give_up(&mut self) -> Vec<Outcome> {
        if let Some(process) = self.process.take() {
            // Not reaped yet, so the number is still its own.
            let _ended = kill(process.pid, Signal::SIGKILL);
        }
        self.under_way.drain(..).map(|(id, _)| Outcome { id, how: None }).collect()
    }
}

fn start(launch: &Launch) -> nix::Result<Process> {
    let (ours, theirs) = link::pair()?;
    match kernel::fork(0)? {
        Fork::Parent(pid) => Ok(Process { pid, wire: ours }),
        Fork::Child => {
            drop(ours);
            // Refused without privileges if it is negative.
            let _refused = kernel::set_ordinary_priority(launch.ordinary.nice);
            kernel::exit_now(i32::from(live(launch, theirs).is_err()));
        }
    }
}

/// The life of the process that runs the checks.
fn live(launch: &Launch, wire: OwnedFd) -> nix::Result<()> {
    kernel::die_with_parent(None)?;
    kernel::place_fd(wire.as_fd(), WIRE_FD)?;
    std::mem::forget(wire);
    // Above all what tells the guard that the init lives.
    kernel::close_from(WIRE_FD + 1, false);
    nix::sys::prctl::set_name(c"muster-check")?;
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    memory::give_back_program();
    let mut runner = Runner { launch, wire: kernel::inherited(WIRE_FD), signals, running: Vec::new() };
    while runner.turn()? {}
    Ok(())
}

struct Running {
    id: u64,
    pid: Pid,
    deadline_ns: u64,
}

struct Runner<'a> {
    launch: &'a Launch,
    wire: OwnedFd,
    signals: SignalFd,
    running: Vec<Running>,
}

impl Runner<'_> {
    /// False when the init is gone.
    fn turn(&mut self) -> nix::Result<bool> {
        let fds = [self.signals.as_fd().as_raw_fd(), self.wire.as_raw_fd()];
        let mut entries = fds.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
        let now = clock::now();
        let next = self.running.iter().map(|check| clock::until(now, check.deadline_ns)).min();
        kernel::poll_for(&mut entries, next).map_err(|_| Errno::EIO)?;
        let [signals, wire] = entries.map(|entry| entry.revents != 0);
        if wire {
            match link::receive(&self.wire, false) {
                Ok(Some(message)) => {
                    if let Some(ToInit::Check { id, argv, timeout_ms }) = message.parse() {
                        self.start(id, &argv, timeout_ms);
                    }
                }
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Ok(None) | Err(_) => return Ok(false),
            }
        }
        // First what has ended in time, however late it is seen.
        if signals {
            while self.signals.read_signal()?.is_some() {}
            self.reap()?;
        }
        self.end_late();
        Ok(true)
    }

    fn tell(&self, id: u64, how: Option<ExitHow>) {
        // It can't be sent when the init is gone, and this process in a moment.
        let _init_gone = link::send_json(self.wire.as_fd(), &FromInit::Checked { id, how });
    }

    fn start(&mut self, id: u64, argv: &[String], timeout_ms: u64) {
        let command = Command { launch: self.launch, argv, output: None, wire: None };
        let started =
            pipe2(OFlag::O_CLOEXEC).ok().and_then(|(_, failing)| command.fork(failing.as_fd()).ok());
        match started {
            Some(pid) => {
                let now_ns = clock::now().boottime_ns;
                let deadline_ns = now_ns.saturating_add(timeout_ms.saturating_mul(1_000_000));
                self.running.push(Running { id, pid, deadline_ns });
            }
            None => self.tell(id, None),
        }
    }

    fn end_late(&mut self) {
        let now_ns = clock::now().boottime_ns;
        while let Some(index) = self.running.iter().position(|check| check.deadline_ns <= now_ns) {
            let late = self.running.swap_remove(index);
            // Its whole session: a check is often a shell with children.
            let _ended = kill(Pid::from_raw(-late.pid.as_raw()), Signal::SIGKILL);
            let _ended = kill(late.pid, Signal::SIGKILL);
            self.tell(late.id, None);
        }
    }

    fn reap(&mut self) -> nix::Result<()> {
        while let Some((pid, how)) = ended_child()? {
            if let Some(index) = self.running.iter().position(|check| check.pid == pid) {
                let check = self.running.swap_remove(index);
                self.tell(check.id, Some(how));
            }
        }
        Ok(())
    }
}
