//! The first process of a task: PID 1 of its namespace, always Muster's own code (LEASES.md R4).
//!
//! It keeps the guard's user and priority, dies with the shim, starts the command, reaps, forwards signals, and
//! runs health checks inside the namespaces. When the command ends, everything that it left behind is killed; when
//! the init itself is killed, the kernel kills the rest of the namespace, and needs the init's turn on a CPU for it.

pub(crate) mod child;
pub(crate) mod identity;
mod log;
pub(crate) mod namespace;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Gid, Pid, Uid, pipe2};

use crate::clock;
use crate::kernel;
use crate::launch::{Isolation, Launch};
use crate::link::{self, FromInit, ToInit};
use crate::memory;
use crate::protocol::ExitHow;
use crate::stray;
use child::{Command, Failure};
use log::Output;

const WIRE_FD: i32 = 3;
const LIFE_FD: i32 = 4;
/// Health checks of one task that may run at once; a further one is reported as timed out.
const CHECKS_MAX: usize = 8;

/// The init's whole life. `file` holds the [`Launch`], `who` is the guard's user and group, `life` hangs up when
/// the shim dies.
pub(crate) fn run(file: BorrowedFd<'_>, wire: BorrowedFd<'_>, who: (Uid, Gid), life: BorrowedFd<'_>) -> ! {
    let code = match Init::begin(file, wire, who, life) {
        Ok(mut init) => init.live(),
        // Without its wires there is nobody to tell; the guard sees them hang up.
        Err(_) => 1,
    };
    kernel::exit_now(code);
}

struct Check {
    id: u64,
    pid: Pid,
    deadline_ns: u64,
}

struct Init {
    launch: Launch,
    wire: OwnedFd,
    life: OwnedFd,
    signals: SignalFd,
    main: Option<Pid>,
    output: Option<Output>,
    checks: Vec<Check>,
}

impl Init {
    fn begin(
        file: BorrowedFd<'_>,
        wire: BorrowedFd<'_>,
        (uid, gid): (Uid, Gid),
        life: BorrowedFd<'_>,
    ) -> std::io::Result<Self> {
        // First of all: in a new PID namespace the parent can't be asked for, but the shim's end of `life`
        // has hung up if it died before this took effect.
        kernel::die_with_parent(None)?;
        let launch = Launch::from_file(file.try_clone_to_owned()?)?;
        kernel::place_fd(wire, WIRE_FD)?;
        kernel::place_fd(life, LIFE_FD)?;
        kernel::close_from(LIFE_FD + 1, false);
        let (wire, life) = (kernel::inherited(WIRE_FD), kernel::inherited(LIFE_FD));
        if kernel::wait_readable(life.as_fd(), 0)? {
            kernel::exit_now(0);
        }
        nix::sys::prctl::set_name(c"muster-init")?;
        kernel::default_signal_actions();
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        SigSet::all().thread_set_mask()?;
        kernel::keep_priority_from_children()?;
        match launch.isolation {
            Isolation::Namespaces => {}
            Isolation::UserNamespace => namespace::map_identity(uid, gid)?,
            Isolation::Nothing => nix::sys::prctl::set_child_subreaper(true)?,
        }
        Ok(Self { launch, wire, life, signals, main: None, output: None, checks: Vec::new() })
    }

    fn live(&mut self) -> i32 {
        let notes = namespace::own_proc(self.launch.isolation).into_iter().collect();
        self.tell(&FromInit::Hello { notes });
        if self.wait_for_go().is_none() {
            return 0;
        }
        if let Err(failure) = self.start_main() {
            self.tell(&FromInit::Failed { step: failure.step, errno: failure.errno as i32 });
            return 0;
        }
        self.tell(&FromInit::Started);
        memory::give_back_program();
        let how = loop {
            match self.turn() {
                Ok(None) => {}
                Ok(Some(how)) => break how,
                Err(_) => return 1,
            }
        };
        // First the log: what is killed then is all that is left in the namespace, who writes it too.
        let log_dropped_bytes = self.output.take().map_or(0, Output::finish);
        self.kill_the_rest();
        self.tell(&FromInit::Exited { how, log_dropped_bytes });
        0
    }

    /// A message that can't be sent means that the guard is gone, and this process in a moment.
    fn tell(&self, message: &FromInit) {
        let _guard_gone = link::send_json(self.wire.as_fd(), message);
    }

    fn wait_for_go(&self) -> Option<()> {
        loop {
            match link::receive(&self.wire, true) {
                Ok(Some(message)) => match message.parse()? {
                    ToInit::Go => return Some(()),
                    ToInit::Kill => return None,
                    ToInit::Signal { .. } | ToInit::Check { .. } => {}
                },
                Ok(None) => return None,
                Err(Errno::EINTR) => {}
                Err(_) => return None,
            }
        }
    }

    fn start_main(&mut self) -> Result<(), Failure> {
        let failed = |step: &'static str| move |errno| Failure { step: step.to_owned(), errno };
        let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(failed("make a pipe"));
        let output = if self.launch.spec.log.is_some() { Some(pipe()?) } else { None };
        let (failure, failing) = pipe()?;
        let command = Command {
            launch: &self.launch,
            argv: &self.launch.spec.argv,
            output: output.as_ref().map(|(_, writing)| writing.as_fd()),
            wire: Some(self.wire.as_fd()),
        };
        let pid = command.fork(failing.as_fd())?;
        drop(failing);
        let mut message = [0; 128];
        let count = nix::unistd::read(&failure, &mut message).map_err(failed("wait for the exec"))?;
        if let Some((errno, step)) = message[..count].split_first_chunk::<4>() {
            let step = String::from_utf8_lossy(step).into_owned();
            return Err(Failure { step, errno: Errno::from_raw(i32::from_be_bytes(*errno)) });
        }
        self.main = Some(pid);
        if let (Some(spec), Some((reading, _))) = (&self.launch.spec.log, output) {
            self.output =
                Some(Output::begin(spec, &self.launch, reading).map_err(failed("read the output"))?);
        }
        Ok(())
    }

    /// Waits for the next thing to happen and does it; the result is how the main process ended.
    fn turn(&mut self) -> nix::Result<Option<ExitHow>> {
        let fds = [self.signals.as_fd().as_raw_fd(), self.wire.as_raw_fd(), self.life.as_raw_fd()];
        let mut entries = fds.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
        let now = clock::now();
        let dues_ns = self.checks.iter().map(|check| check.deadline_ns);
        let dues_ns = dues_ns.chain(self.output.as_ref().and_then(Output::due_ns));
        let next = dues_ns.map(|due_ns| clock::until(now, due_ns)).min();
        kernel::poll_for(&mut entries, next).map_err(|_| Errno::EIO)?;
        let [signals, wire, life] = entries.map(|entry| entry.revents != 0);
        if life {
            kernel::exit_now(0);
        }
        if wire {
            self.obey()?;
        }
        self.end_late_checks();
        if let Some(output) = &mut self.output {
            output.tend();
        }
        if signals {
            while self.signals.read_signal()?.is_some() {}
            return self.reap();
        }
        Ok(None)
    }

    fn obey(&mut self) -> nix::Result<()> {
        let Some(message) = link::receive(&self.wire, false)? else { kernel::exit_now(0) };
        match message.parse() {
            Some(ToInit::Signal { signal }) => {
                let signal = Signal::try_from(signal)?;
                // It may have ended just now; its end is reported by itself.
                let _ended = self.main.map(|main| kill(main, signal));
            }
            Some(ToInit::Kill) => {
                let _ended = self.main.map(|main| kill(main, Signal::SIGKILL));
            }
            Some(ToInit::Check { id, argv, timeout_ms }) => self.start_check(id, &argv, timeout_ms),
            Some(ToInit::Go) | None => {}
        }
        Ok(())
    }

    fn start_check(&mut self, id: u64, argv: &[String], timeout_ms: u64) {
        let started = (self.checks.len() < CHECKS_MAX)
            .then(|| pipe2(OFlag::O_CLOEXEC).ok())
            .flatten()
            .and_then(|(_, failing)| {
                let command = Command { launch: &self.launch, argv, output: None, wire: None };
                command.fork(failing.as_fd()).ok()
            });
        match started {
            Some(pid) => {
                let deadline_ns =
                    clock::now().boottime_ns.saturating_add(timeout_ms.saturating_mul(1_000_000));
                self.checks.push(Check { id, pid, deadline_ns });
            }
            None => self.tell(&FromInit::Checked { id, how: None }),
        }
    }

    fn end_late_checks(&mut self) {
        let now = clock::now().boottime_ns;
        while let Some(index) = self.checks.iter().position(|check| check.deadline_ns <= now) {
            let late = self.checks.swap_remove(index);
            // Its whole session: a check is often a shell with children.
            let _ended = kill(Pid::from_raw(-late.pid.as_raw()), Signal::SIGKILL);
            let _ended = kill(late.pid, Signal::SIGKILL);
            self.tell(&FromInit::Checked { id: late.id, how: None });
        }
    }

    fn reap(&mut self) -> nix::Result<Option<ExitHow>> {
        let mut main_ended = None;
        loop {
            let (pid, how) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, ExitHow::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, ExitHow::Signal(signal as i32)),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(main_ended),
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno),
            };
            if self.main == Some(pid) {
                self.main = None;
                main_ended = Some(how);
            } else if let Some(index) = self.checks.iter().position(|check| check.pid == pid) {
                let check = self.checks.swap_remove(index);
                self.tell(&FromInit::Checked { id: check.id, how: Some(how) });
            } else if let Some(output) = &mut self.output {
                output.note_ended(pid, how);
            }
        }
    }

    /// Kills and reaps everything that the main process left behind.
    fn kill_the_rest(&mut self) {
        if self.launch.isolation == Isolation::Nothing {
            stray::kill_descendants(&[]);
        } else {
            // As PID 1 this means: everything else in the namespace.
            let _nobody = kill(Pid::from_raw(-1), Signal::SIGKILL);
        }
        while !matches!(waitpid(None, None), Err(Errno::ECHILD)) {}
        for check in self.checks.drain(..).collect::<Vec<_>>() {
            self.tell(&FromInit::Checked { id: check.id, how: None });
        }
    }
}
