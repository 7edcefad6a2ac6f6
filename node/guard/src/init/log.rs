//! The way of a task's output to its log, through a process beside the init that may wait for the disk.
//!
//! The init moves output from the task's pipe into a second pipe without ever waiting, and drops and counts
//! what does not fit: a slow disk never blocks the task.
//!
//! It has to be a process, and not a thread of the init. A namespace is killed when the *last* thread of its first process
//! ends, and one that waits for a disk that stalls does not end, whatever signal it gets: the task would outlive its
//! lease for as long as the disk stalls.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::kernel::{self, Fork};
use crate::log_file::RotatedFile;
use crate::protocol::LogSpec;

/// How much output waits for the disk, in bytes.
const WAITING_BYTES: i32 = 256 * 1024;
const CHUNK_BYTES: usize = 8192;
/// More than a pipe holds unless its size was raised.
const CHUNKS_A_TURN: usize = 64;
/// How long the end of a task waits for its last output to be written, in milliseconds.
const LAST_OUTPUT_MS: i32 = 1000;

/// Both pipes, as the init's loop uses them.
pub(crate) struct LogRelay {
    from_task: OwnedFd,
    to_disk: Option<OwnedFd>,
    /// Says in the end how many bytes the disk did not take, or hangs up.
    written: OwnedFd,
    /// Dropped here since the last output that went through.
    dropped_now: u64,
    dropped: u64,
}

impl LogRelay {
    /// Starts the process. `from_task` is the reading end of the task's output.
    pub(crate) fn start(spec: &LogSpec, from_task: OwnedFd) -> io::Result<Self> {
        let (reading, to_disk) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        // A smaller pipe is better than none: the limit for unprivileged users may be used up.
        let _smaller = nix::fcntl::fcntl(&to_disk, nix::fcntl::FcntlArg::F_SETPIPE_SZ(WAITING_BYTES));
        kernel::set_nonblocking(to_disk.as_fd())?;
        kernel::set_nonblocking(from_task.as_fd())?;
        let (written, writing) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        if let Fork::Child = kernel::fork(0)? {
            let _hung_up = write_log(spec, reading, writing);
            kernel::exit_now(0);
        }
        Ok(Self { from_task, to_disk: Some(to_disk), written, dropped_now: 0, dropped: 0 })
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
        self.dropped += lost;
    }

    /// Lets the process write what it has, for a limited time; the result is the number of bytes dropped.
    pub(crate) fn finish(mut self) -> u64 {
        self.relay();
        self.to_disk = None;
        let mut told = [0; 8];
        // On a disk that stalls the last output is lost with the init: ending in time matters more.
        let in_time = kernel::wait_readable(self.written.as_fd(), LAST_OUTPUT_MS).unwrap_or(false);
        if in_time && nix::unistd::read(&self.written, &mut told) == Ok(told.len()) {
            self.dropped += u64::from_be_bytes(told);
        }
        self.dropped
    }
}

/// The life of the process. Everything that may wait for the disk is here, the opening of the file too.
fn write_log(spec: &LogSpec, reading: OwnedFd, writing: OwnedFd) -> nix::Result<()> {
    kernel::die_with_parent(None)?;
    kernel::place_fd(reading.as_fd(), 0)?;
    kernel::place_fd(writing.as_fd(), 1)?;
    std::mem::forget((reading, writing));
    // Above all the other end of what it reads, and what tells the guard that the init lives.
    kernel::close_from(2, false);
    nix::sys::prctl::set_name(c"muster-log")?;
    let dropped = AtomicU64::new(0);
    if let Ok(mut file) = RotatedFile::new(spec) {
        file.write_all_from(&kernel::inherited(0), &dropped);
    }
    let told = dropped.load(Ordering::Relaxed).to_be_bytes();
    nix::unistd::write(kernel::inherited(1), &told).map(drop)
}
