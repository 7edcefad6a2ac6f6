//! The way of a task's output to its log, in a process beside the init: it may wait for the disk, the init may not.
//!
//! One of its threads moves output from the task's pipe into a second pipe without ever waiting, and drops and
//! counts what does not fit; the other one writes to the disk. So a slow disk never blocks the task; only a task that
//! stops this process with a signal does that to itself.
//!
//! It has to be a process, and not a thread of the init. A namespace is killed when the *last* thread of its first process
//! ends, and one that waits for a disk that stalls does not end, whatever signal it gets: the task would outlive its
//! lease for as long as the disk stalls. It also spares the init, at the guard's priority, the task's work.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::Pid;

use crate::clock;
use crate::kernel::{self, Fork};
use crate::launch::Launch;
use crate::log_file::RotatedFile;
use crate::memory;
use crate::protocol::{ExitHow, LogSpec};

/// How much output waits for the disk, in bytes.
const WAITING_BYTES: i32 = 256 * 1024;
const CHUNK_BYTES: usize = 8192;
/// More than a pipe holds unless its size was raised.
const LAST_CHUNKS: usize = 64;
/// A process that ended is replaced after this time, in nanoseconds: whatever ends one may end the next at once, and the
/// init forks at its guard's priority.
const AGAIN_AFTER_NS: u64 = 100_000_000;
/// Ample for two small buffers.
const STACK_BYTES: usize = 128 * 1024;

/// The output of a task, and the process that takes it to the log.
pub(crate) struct Output {
    spec: LogSpec,
    nice: i32,
    from_task: OwnedFd,
    process: Option<LogProcess>,
    /// When a process is started in the place of one that ended.
    again_at_ns: Option<u64>,
    /// The task has ended: the process says its last words.
    ending: bool,
    dropped_bytes: u64,
}

struct LogProcess {
    /// `None` once it has ended by itself.
    pid: Option<Pid>,
    /// Shut down to ask for the end. The process then says how many bytes it dropped, and, if the disk lets it get
    /// that far, how many the disk did not take.
    wire: UnixStream,
}

impl Output {
    /// Starts the process. `from_task` is the reading end of the task's output.
    pub(crate) fn begin(spec: &LogSpec, launch: &Launch, from_task: OwnedFd) -> nix::Result<Self> {
        kernel::set_nonblocking(from_task.as_fd())?;
        let nice = launch.ordinary.nice;
        let mut output = Self {
            spec: spec.clone(),
            nice,
            from_task,
            process: None,
            again_at_ns: None,
            ending: false,
            dropped_bytes: 0,
        };
        output.start(false);
        Ok(output)
    }

    /// When [`Self::tend`] has something to do.
    pub(crate) const fn due_ns(&self) -> Option<u64> {
        self.again_at_ns
    }

    /// Starts another process if it is time, or hears the last words of the one that ends.
    pub(crate) fn tend(&mut self, last_words: bool) {
        if last_words {
            self.hear();
        }
        if self.again_at_ns.is_some_and(|at_ns| at_ns <= clock::now().boottime_ns) {
            self.start(true);
        }
    }

    /// The task has ended: lets the process write what it has.
    pub(crate) fn end(&mut self) {
        self.ending = true;
        self.again_at_ns = None;
        if let Some(process) = &self.process {
            // It may have ended by itself.
            let _ended = process.wire.shutdown(Shutdown::Write);
        }
    }

    /// What the process tells last, once it was asked to end; -1 before that, and when all is told.
    pub(crate) fn last_words_fd(&self) -> i32 {
        self.process.as_ref().filter(|_| self.ending).map_or(-1, |process| process.wire.as_raw_fd())
    }

    /// How many bytes are known to be lost.
    pub(crate) const fn dropped_bytes(&self) -> u64 {
        self.dropped_bytes
    }

    fn hear(&mut self) {
        let Some(process) = &self.process else { return };
        let mut told = [0; 8];
        if nix::unistd::read(&process.wire, &mut told) == Ok(told.len()) {
            self.dropped_bytes += u64::from_be_bytes(told);
        } else {
            self.process = None;
        }
    }

    /// Notes that a child ended, which may be the process: somebody killed it, the task perhaps with all else that it
    /// can see, or the host lacked what it needs. The output still needs a reader.
    pub(crate) fn note_ended(&mut self, pid: Pid, how: ExitHow) {
        let Some(process) = self.process.as_mut().filter(|process| process.pid == Some(pid)) else { return };
        process.pid = None;
        // By itself it ends when all of the task's writers have; what it dropped is asked for in the end.
        if how != ExitHow::Code(0) && !self.ending {
            self.process = None;
            self.start_later();
        }
    }

    fn start(&mut self, again: bool) {
        self.again_at_ns = None;
        self.process = LogProcess::start(&self.spec, self.nice, self.from_task.as_fd(), again).ok();
        if self.process.is_none() {
            self.drop_what_waits();
            self.start_later();
        }
    }

    fn start_later(&mut self) {
        self.again_at_ns = Some(clock::now().boottime_ns.saturating_add(AGAIN_AFTER_NS));
    }

    /// A task never waits for its log, even where no process can be had.
    fn drop_what_waits(&mut self) {
        let mut chunk = [0; CHUNK_BYTES];
        for _ in 0..LAST_CHUNKS {
            let Ok(count @ 1..) = nix::unistd::read(&self.from_task, &mut chunk) else { return };
            self.dropped_bytes += count as u64;
        }
    }
}

impl LogProcess {
    fn start(spec: &LogSpec, nice: i32, from_task: BorrowedFd<'_>, again: bool) -> io::Result<Self> {
        let (wire, theirs) = UnixStream::pair()?;
        match kernel::fork(0)? {
            Fork::Parent(pid) => Ok(Self { pid: Some(pid), wire }),
            Fork::Child => {
                // Refused without privileges if it is negative.
                let _refused = kernel::set_ordinary_priority(nice);
                let code = i32::from(live(spec, from_task, theirs, again).is_err());
                kernel::exit_now(code);
            }
        }
    }
}

/// The life of the process. Everything that may wait for the disk is here, the opening of the file too.
fn live(spec: &LogSpec, from_task: BorrowedFd<'_>, wire: UnixStream, again: bool) -> io::Result<()> {
    kernel::die_with_parent(None)?;
    kernel::place_fd(from_task, 0)?;
    kernel::place_fd(wire.as_fd(), 1)?;
    std::mem::forget(wire);
    // Above all what tells the guard that the init lives.
    kernel::close_from(2, false);
    nix::sys::prctl::set_name(c"muster-log")?;
    let (from_task, wire) = (kernel::inherited(0), kernel::inherited(1));
    let (waiting, to_disk) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    // A smaller pipe is better than none: the limit for unprivileged users may be used up.
    let _smaller = nix::fcntl::fcntl(&to_disk, nix::fcntl::FcntlArg::F_SETPIPE_SZ(WAITING_BYTES));
    kernel::set_nonblocking(to_disk.as_fd())?;
    if again {
        nix::unistd::write(&to_disk, b"\n[muster: the log's process was ended; output may be missing]\n")?;
    }
    memory::give_back_program();
    let mut file = RotatedFile::new(spec)?;
    let unwritten = AtomicU64::new(0);
    let relay = Relay { from_task, wire: &wire, to_disk, dropped_now: 0, dropped: 0 };
    let tell = |bytes: u64| nix::unistd::write(&wire, &bytes.to_be_bytes());
    std::thread::scope(|scope| {
        let write = || file.write_all_from(&waiting, &unwritten);
        std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, write)?;
        let dropped = relay.run()?;
        tell(dropped).map_err(io::Error::from)
    })?;
    tell(unwritten.load(Ordering::Relaxed))?;
    Ok(())
}

/// Moves output from the task to the thread that writes.
struct Relay<'a> {
    from_task: OwnedFd,
    wire: &'a OwnedFd,
    to_disk: OwnedFd,
    /// Dropped since the last output that went through.
    dropped_now: u64,
    dropped: u64,
}

impl Relay<'_> {
    /// Until the task's side is closed or the init asks for the end; the result is the number of bytes dropped.
    fn run(mut self) -> io::Result<u64> {
        let fds = [self.from_task.as_raw_fd(), self.wire.as_raw_fd()];
        loop {
            let mut entries = fds.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
            kernel::poll_for(&mut entries, None)?;
            let ending = entries[1].revents != 0;
            // What is there, but no more in the end: something the task left behind may write without end.
            let chunks = if ending { LAST_CHUNKS } else { 1 };
            if !self.relay(chunks) || ending {
                return Ok(self.dropped);
            }
        }
    }

    /// False when the task's side is closed.
    fn relay(&mut self, chunks: usize) -> bool {
        let mut chunk = [0; CHUNK_BYTES];
        for _ in 0..chunks {
            match nix::unistd::read(&self.from_task, &mut chunk) {
                Ok(0) => return false,
                Ok(count) => self.pass_on(&chunk[..count]),
                Err(Errno::EINTR) => {}
                Err(_) => return true,
            }
        }
        true
    }

    fn pass_on(&mut self, output: &[u8]) {
        if self.dropped_now > 0 {
            let note = format!("\n[muster: {} bytes of output dropped]\n", self.dropped_now);
            // Below PIPE_BUF it is written whole or not at all.
            if nix::unistd::write(&self.to_disk, note.as_bytes()).is_ok() {
                self.dropped_now = 0;
            }
        }
        let passed = nix::unistd::write(&self.to_disk, output).unwrap_or(0);
        let lost = (output.len() - passed) as u64;
        self.dropped_now += lost;
        self.dropped += lost;
    }
}
