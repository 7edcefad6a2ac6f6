//! The way of a task's output to its log, in a process beside the init: it may wait for the disk, the init may not.
//!
//! One of its threads moves output from the task's pipe into a second pipe without ever waiting, and drops and
//! counts what does not fit; the other one writes to the disk. So a slow disk never blocks the task.
//!
//! It has to be a process, and not a thread of the init. A namespace is killed when the *last* thread of its first process
//! ends, and one that waits for a disk that stalls does not end, whatever signal it gets: the task would outlive its
//! lease for as long as the disk stalls. It also spares the init, at the guard's priority, the task's work.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::Pid;

use crate::kernel::{self, Fork};
use crate::launch::Launch;
use crate::log_file::RotatedFile;
use crate::memory;
use crate::protocol::LogSpec;

/// How much output waits for the disk, in bytes.
const WAITING_BYTES: i32 = 256 * 1024;
const CHUNK_BYTES: usize = 8192;
/// More than a pipe holds unless its size was raised.
const LAST_CHUNKS: usize = 64;
/// How long the end of a task waits for each of the two messages, in milliseconds; the first one comes at once.
const LAST_OUTPUT_MS: i32 = 1000;
/// Ample for two small buffers.
const STACK_BYTES: usize = 128 * 1024;

/// The process as the init sees it.
pub(crate) struct LogProcess {
    pid: Pid,
    /// Kept for a successor, if somebody kills the process.
    from_task: OwnedFd,
    /// Shut down to ask for the end. The process then says how many bytes it dropped, and, if the disk lets it get
    /// that far, how many the disk did not take.
    wire: UnixStream,
}

impl LogProcess {
    /// Starts the process. `from_task` is the reading end of the task's output.
    pub(crate) fn start(spec: &LogSpec, launch: &Launch, from_task: OwnedFd) -> io::Result<Self> {
        kernel::set_nonblocking(from_task.as_fd())?;
        let (wire, theirs) = UnixStream::pair()?;
        match kernel::fork(0)? {
            Fork::Parent(pid) => Ok(Self { pid, from_task, wire }),
            Fork::Child => {
                // Refused without privileges if it is negative.
                let _refused = kernel::set_ordinary_priority(launch.ordinary.nice);
                let code = i32::from(live(spec, from_task, theirs).is_err());
                kernel::exit_now(code);
            }
        }
    }

    /// Its process id.
    pub(crate) const fn pid(&self) -> Pid {
        self.pid
    }

    /// Starts another one in the place of one that was killed.
    pub(crate) fn start_again(self, spec: &LogSpec, launch: &Launch) -> io::Result<Self> {
        Self::start(spec, launch, self.from_task)
    }

    /// Lets the process write what it has, for a limited time; the result is the number of bytes dropped.
    pub(crate) fn finish(self) -> u64 {
        // It may have ended by itself, when all of the task's writers had.
        let _ended = self.wire.shutdown(Shutdown::Write);
        let mut dropped = 0;
        loop {
            let mut told = [0; 8];
            // On a disk that stalls the last output is lost with the init: ending in time matters more.
            let in_time = kernel::wait_readable(self.wire.as_fd(), LAST_OUTPUT_MS).unwrap_or(false);
            if !in_time || nix::unistd::read(&self.wire, &mut told) != Ok(told.len()) {
                return dropped;
            }
            dropped += u64::from_be_bytes(told);
        }
    }
}

/// The life of the process. Everything that may wait for the disk is here, the opening of the file too.
fn live(spec: &LogSpec, from_task: OwnedFd, wire: UnixStream) -> io::Result<()> {
    kernel::die_with_parent(None)?;
    kernel::place_fd(from_task.as_fd(), 0)?;
    kernel::place_fd(wire.as_fd(), 1)?;
    std::mem::forget((from_task, wire));
    // Above all what tells the guard that the init lives.
    kernel::close_from(2, false);
    nix::sys::prctl::set_name(c"muster-log")?;
    let (from_task, wire) = (kernel::inherited(0), kernel::inherited(1));
    let (waiting, to_disk) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    // A smaller pipe is better than none: the limit for unprivileged users may be used up.
    let _smaller = nix::fcntl::fcntl(&to_disk, nix::fcntl::FcntlArg::F_SETPIPE_SZ(WAITING_BYTES));
    kernel::set_nonblocking(to_disk.as_fd())?;
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
