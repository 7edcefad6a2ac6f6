//! The first process of a task: PID 1 of its namespace, always Muster's own code (LEASES.md R4).
//!
//! It keeps the guard's user and priority, starts the command, reaps, forwards signals, and has health checks run inside
//! the namespaces. When the command ends, or the deadline comes, it kills everything that is left. It dies with the shim,
//! and the kernel then kills the rest of the namespace. While the task runs it waits for nothing but its descriptors: no
//! disk, and no lock that a fork takes.

mod checks;
pub(crate) mod child;
pub(crate) mod identity;
mod log;
pub(crate) mod namespace;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use muster_core::time::HostInstant;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Gid, Pid, Uid, pipe2};

use crate::clock;
use crate::deadline::SharedDeadline;
use crate::kernel;
use crate::launch::{Isolation, Launch};
use crate::link::{self, FromInit, Received, ToInit};
use crate::memory;
use crate::protocol::ExitHow;
use crate::stray;
use checks::{Checks, Outcome};
use child::{Command, Failure};
use log::Output;

const WIRE_FD: i32 = 3;
const LIFE_FD: i32 = 4;
/// How long the end of a task waits for its last output to be written, in nanoseconds.
const LAST_OUTPUT_NS: u64 = 1_000_000_000;

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

struct Init {
    launch: Launch,
    wire: OwnedFd,
    life: OwnedFd,
    signals: SignalFd,
    /// `None` where the guard that started this init knows none.
    deadline: Option<SharedDeadline>,
    main: Option<Pid>,
    /// Until its exec: says why it failed, or hangs up.
    starting: Option<OwnedFd>,
    /// How the main process ended, while its last output is written.
    ended: Option<Ended>,
    output: Option<Output>,
    checks: Checks,
}

struct Ended {
    how: ExitHow,
    wait_until_ns: u64,
}

/// Why the task is over.
enum End {
    /// The command could not be started.
    Failed(Failure),
    /// The main process ended.
    Exited(ExitHow),
    /// The guard wants it dead at once.
    Killed,
    /// The deadline came.
    Lapsed,
    /// The guard or the shim is gone.
    Abandoned,
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
        Ok(Self {
            launch,
            wire,
            life,
            signals,
            deadline: None,
            main: None,
            starting: None,
            ended: None,
            output: None,
            checks: Checks::default(),
        })
    }

    fn live(&mut self) -> i32 {
        let notes = namespace::own_proc(self.launch.isolation).into_iter().collect();
        self.tell(&FromInit::Hello { notes, takes_deadline: true });
        if self.wait_for_go().is_none() {
            return 0;
        }
        let end = self.start_main().map_or_else(End::Failed, |()| self.run_to_the_end());
        let how = match end {
            End::Failed(Failure { step, errno }) => {
                self.tell(&FromInit::Failed { step, errno: errno as i32 });
                return 0;
            }
            End::Abandoned => return 0,
            End::Exited(how) => how,
            End::Killed => ExitHow::Signal(Signal::SIGKILL as i32),
            End::Lapsed => {
                self.tell(&FromInit::Lapsed);
                ExitHow::Signal(Signal::SIGKILL as i32)
            }
        };
        let unfinished = self.checks.give_up();
        while !matches!(waitpid(None, None), Err(Errno::ECHILD)) {}
        self.tell_outcomes(unfinished);
        let log_dropped_bytes = self.output.as_ref().map_or(0, Output::dropped_bytes);
        self.tell(&FromInit::Exited { how, log_dropped_bytes });
        0
    }

    fn run_to_the_end(&mut self) -> End {
        let end = loop {
            match self.turn() {
                Ok(None) => {}
                Ok(Some(end)) => break end,
                Err(_) => break End::Abandoned,
            }
        };
        // Before anything is told: to tell takes time, and the rest is nobody's any more.
        self.signal_all(Some(Signal::SIGKILL));
        end
    }

    /// A message that can't be sent means that the guard is gone, and this process in a moment.
    fn tell(&self, message: &FromInit) {
        let _guard_gone = link::send_json(self.wire.as_fd(), message);
    }

    fn tell_outcomes(&self, outcomes: Vec<Outcome>) {
        for Outcome { id, how } in outcomes {
            self.tell(&FromInit::Checked { id, how });
        }
    }

    fn wait_for_go(&mut self) -> Option<()> {
        loop {
            match link::receive(&self.wire, true) {
                Ok(Some(message)) => match message.parse()? {
                    ToInit::Go => return Some(()),
                    ToInit::Kill | ToInit::KillNow => return None,
                    ToInit::Deadline => self.take_deadline(&message)?,
                    ToInit::Signal { .. } | ToInit::Check { .. } => {}
                },
                Ok(None) => return None,
                Err(Errno::EINTR) => {}
                Err(_) => return None,
            }
        }
    }

    /// Without a page the message says that the moment on the known one came nearer: it is looked at in every turn.
    /// `None` when there is no page then: without one nothing is started.
    fn take_deadline(&mut self, message: &Received) -> Option<()> {
        if let Some(file) = message.fds.first() {
            self.deadline = SharedDeadline::map(file).ok();
        }
        self.deadline.as_ref().map(drop)
    }

    /// Forks the command, and before it the processes for its log and its checks. From then on a fork only replaces one of
    /// these that was killed, or serves checks that were not announced.
    fn start_main(&mut self) -> Result<(), Failure> {
        let failed = |step: &'static str| move |errno| Failure { step: step.to_owned(), errno };
        let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(failed("make a pipe"));
        let mut writing = None;
        if let Some(spec) = &self.launch.spec.log {
            let (from_task, to_log) = pipe()?;
            writing = Some(to_log);
            let output = Output::begin(spec, &self.launch, from_task).map_err(failed("read the output"))?;
            self.output = Some(output);
        }
        if self.launch.spec.checks {
            self.checks.prepare(&self.launch);
        }
        let (failure, failing) = pipe()?;
        if self.lease_is_over() {
            // The forks above may have waited long.
            return Err(failed("start before the deadline")(Errno::ETIME));
        }
        let command = Command {
            launch: &self.launch,
            argv: &self.launch.spec.argv,
            output: writing.as_ref().map(AsFd::as_fd),
            wire: Some(self.wire.as_fd()),
        };
        self.main = Some(command.fork(failing.as_fd())?);
        self.starting = Some(failure);
        Ok(())
    }

    /// The command was executed, or says why not.
    fn note_exec(&mut self) -> Option<End> {
        let mut message = [0; 128];
        let failed = |step: &str, errno| Some(End::Failed(Failure { step: step.to_owned(), errno }));
        match nix::unistd::read(self.starting.take()?, &mut message) {
            Err(errno) => return failed("wait for the exec", errno),
            Ok(count) => {
                if let Some((errno, step)) = message[..count].split_first_chunk::<4>() {
                    let errno = Errno::from_raw(i32::from_be_bytes(*errno));
                    return failed(&String::from_utf8_lossy(step), errno);
                }
            }
        }
        self.tell(&FromInit::Started);
        memory::give_back_program();
        kernel::lock_memory();
        // What kills is in memory from now on, wherever its file lies.
        self.signal_all(None);
        None
    }

    /// Waits for the next thing to happen and does it; the result is why the task is over.
    fn turn(&mut self) -> nix::Result<Option<End>> {
        let signals = self.signals.as_fd().as_raw_fd();
        let starting = self.starting.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        let log = self.output.as_ref().map_or(-1, Output::last_words_fd);
        // The exec's pipe behind the signals: whoever has ended has closed it before.
        let fds =
            [signals, self.wire.as_raw_fd(), self.life.as_raw_fd(), starting, self.checks.wire_fd(), log];
        let mut entries = fds.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
        kernel::poll_for(&mut entries, self.next_look(clock::now())).map_err(|_| Errno::EIO)?;
        if self.lease_is_over() {
            return Ok(Some(End::Lapsed));
        }
        let [signals, wire, life, starting, checks, log] = entries.map(|entry| entry.revents != 0);
        if life {
            return Ok(Some(End::Abandoned));
        }
        if wire && let Some(end) = self.obey()? {
            return Ok(Some(end));
        }
        if starting && let Some(end) = self.note_exec() {
            return Ok(Some(end));
        }
        let outcomes = self.checks.tend(checks);
        self.tell_outcomes(outcomes);
        if let Some(output) = &mut self.output {
            output.tend(log);
        }
        if signals {
            while self.signals.read_signal()?.is_some() {}
            self.reap()?;
        }
        Ok(self.exited())
    }

    fn next_look(&self, now: HostInstant) -> Option<Duration> {
        let due_ns = [
            self.checks.due_ns(),
            self.deadline.as_ref().and_then(SharedDeadline::kill_at_ns),
            self.output.as_ref().and_then(Output::due_ns),
            self.ended.as_ref().map(|ended| ended.wait_until_ns),
        ];
        due_ns.into_iter().flatten().map(|due_ns| clock::until(now, due_ns)).min()
    }

    fn lease_is_over(&self) -> bool {
        let kill_at_ns = self.deadline.as_ref().and_then(SharedDeadline::kill_at_ns);
        kill_at_ns.is_some_and(|kill_at_ns| kill_at_ns <= clock::now().boottime_ns)
    }

    fn obey(&mut self) -> nix::Result<Option<End>> {
        let Some(message) = link::receive(&self.wire, false)? else { return Ok(Some(End::Abandoned)) };
        match message.parse() {
            // Before the exec it would end the command instead of telling it something.
            Some(ToInit::Signal { .. }) if self.starting.is_some() => {}
            Some(ToInit::Signal { signal }) => {
                if let (Some(main), Ok(signal)) = (self.main, Signal::try_from(signal)) {
                    // It may have ended just now; its end is reported by itself.
                    let _ended = kill(main, signal);
                }
            }
            Some(ToInit::Kill) => {
                let _ended = self.main.map(|main| kill(main, Signal::SIGKILL));
            }
            Some(ToInit::KillNow) => return Ok(Some(End::Killed)),
            Some(ToInit::Deadline) if self.take_deadline(&message).is_none() => return Ok(Some(End::Killed)),
            Some(ToInit::Check { id, argv, timeout_ms }) => {
                if !self.checks.begin(&self.launch, id, argv, timeout_ms) {
                    self.tell(&FromInit::Checked { id, how: None });
                }
            }
            Some(ToInit::Deadline | ToInit::Go) | None => {}
        }
        Ok(None)
    }

    fn reap(&mut self) -> nix::Result<()> {
        while let Some((pid, how)) = ended_child()? {
            if self.main == Some(pid) {
                self.main = None;
                let wait_until_ns = clock::now().boottime_ns.saturating_add(LAST_OUTPUT_NS);
                self.ended = Some(Ended { how, wait_until_ns });
                if let Some(output) = &mut self.output {
                    output.end();
                }
            } else if let Some(output) = &mut self.output {
                output.note_ended(pid, how);
            }
        }
        Ok(())
    }

    /// The main process has ended and its last output is written. On a disk that stalls that is lost: ending in time
    /// matters more.
    fn exited(&self) -> Option<End> {
        let Ended { how, wait_until_ns } = self.ended.as_ref()?;
        let waits = self.output.as_ref().is_some_and(|output| output.last_words_fd() >= 0);
        (!waits || *wait_until_ns <= clock::now().boottime_ns).then_some(End::Exited(*how))
    }

    /// Sends a signal to everything else in the namespace; without one it only tries the way. One function for both, so
    /// that the trial brings into memory what kills.
    #[inline(never)]
    fn signal_all(&self, signal: Option<Signal>) {
        if self.launch.isolation != Isolation::Nothing {
            // As PID 1 this means all others, and takes no lock that anybody holds for long.
            let _nobody = kill(Pid::from_raw(-1), signal);
        } else if signal.is_some() {
            stray::kill_descendants(&[]);
        }
    }
}

/// Reaps a child that has ended, if there is one.
fn ended_child() -> nix::Result<Option<(Pid, ExitHow)>> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => return Ok(Some((pid, ExitHow::Code(code)))),
            Ok(WaitStatus::Signaled(pid, signal, _)) => {
                return Ok(Some((pid, ExitHow::Signal(signal as i32))));
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(None),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}
