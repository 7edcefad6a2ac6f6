//! The way of a task's output to its log, through a thread of the init that may wait for the disk.
//!
//! The init moves output from the task's pipe into a second pipe without ever waiting, and drops and counts
//! what does not fit: a slow disk never blocks the task. The thread allocates nothing once it runs, because
//! the init forks health checks beside it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::kernel;
use crate::log_file::RotatedFile;
use crate::protocol::LogSpec;

/// How much output waits for the disk, in bytes.
const WAITING_BYTES: i32 = 256 * 1024;
const CHUNK_BYTES: usize = 8192;
/// More than a pipe holds unless its size was raised.
const CHUNKS_A_TURN: usize = 64;
const THREAD_STACK_BYTES: usize = 64 * 1024;
/// How long the end of a task waits for its last output to be written, in milliseconds.
const LAST_OUTPUT_MS: i32 = 1000;

/// Both pipes, as the init's loop uses them.
pub(crate) struct LogRelay {
    from_task: OwnedFd,
    to_disk: Option<OwnedFd>,
    /// Hangs up when the thread is through.
    written: OwnedFd,
    /// Dropped here since the last output that went through.
    dropped_now: u64,
    dropped: Arc<AtomicU64>,
}

impl LogRelay {
    /// Starts the thread. `from_task` is the reading end of the task's output.
    pub(crate) fn start(spec: &LogSpec, from_task: OwnedFd) -> io::Result<Self> {
        let (reading, to_disk) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        // A smaller pipe is better than none: the limit for unprivileged users may be used up.
        let _smaller = nix::fcntl::fcntl(&to_disk, nix::fcntl::FcntlArg::F_SETPIPE_SZ(WAITING_BYTES));
        kernel::set_nonblocking(to_disk.as_fd())?;
        kernel::set_nonblocking(from_task.as_fd())?;
        let (written, writing) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        let dropped = Arc::new(AtomicU64::new(0));
        let mut file = RotatedFile::new(spec)?;
        let counter = Arc::clone(&dropped);
        std::thread::Builder::new().stack_size(THREAD_STACK_BYTES).spawn(move || {
            file.write_all_from(&reading, &counter);
            drop(writing);
        })?;
        Ok(Self { from_task, to_disk: Some(to_disk), written, dropped_now: 0, dropped })
    }

    /// What the loop polls.
    pub(crate) fn source(&self) -> &OwnedFd {
        &self.from_task
    }

    /// Moves what is there, up to a limit; false when the task's side is closed.
    pub(crate) fn relay(&mut self) -> bool {
        let mut chunk = [0; CHUNK_BYTES];
        // A task that writes without end must not keep the init from its other wires.
        for _ in 0..CHUNKS_A_TURN {
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
        let Some(to_disk) = &self.to_disk else { return };
        if self.dropped_now > 0 {
            let mut note = [0; 64];
            let length = {
                let mut space = io::Cursor::new(&mut note[..]);
                let text = format_args!("\n[muster: {} bytes of output dropped]\n", self.dropped_now);
                if io::Write::write_fmt(&mut space, text).is_err() {
                    return;
                }
                usize::try_from(space.position()).unwrap_or(0)
            };
            // Below PIPE_BUF it is written whole or not at all.
            if nix::unistd::write(to_disk, &note[..length]).is_ok() {
                self.dropped_now = 0;
            }
        }
        let passed = nix::unistd::write(to_disk, output).unwrap_or(0);
        let lost = (output.len() - passed) as u64;
        self.dropped_now += lost;
        self.dropped.fetch_add(lost, Ordering::Relaxed);
    }

    /// Lets the thread write what it has, for a limited time; the result is the number of bytes dropped.
    pub(crate) fn finish(mut self) -> u64 {
        self.relay();
        self.to_disk = None;
        // On a disk that stalls the last output is lost with the init: ending in time matters more.
        let _in_time = kernel::wait_readable(self.written.as_fd(), LAST_OUTPUT_MS);
        self.dropped.load(Ordering::Relaxed)
    }
}
