//! The Raft log, this node's vote, and the committed index: raft-log with the precautions that make
//! "acknowledged" mean "on the disk".
//!
//! What the library leaves to its user, and where it is done here:
//! - it doesn't sync at open, so entries could be seen and counted that a power cut still takes away: [`open`];
//! - it accepts a log whose first file is missing, and panics on some damage: [`open`];
//! - a flipped bit in a length would look like a torn tail: [`codec`];
//! - after an I/O error it forgets the callbacks still queued: [`Completion`];
//! - it goes on after a failed write: here every later write fails too, so that the agent ends.

mod codec;
mod open;

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use bytes::Bytes;
use raft_log::api::raft_log_writer::RaftLogWriter;

pub use self::codec::StoredVote;
use self::codec::{EntryBytes, LogTypes};
use super::{FileError, Position};

type RaftLog = raft_log::RaftLog<LogTypes>;

/// Why the log could not be opened. None of these loses anything: the files are left as they are.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory can't be made or listed.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another process has the log open.
    #[error("the log in {} is in use by another process", directory.display())]
    InUse {
        /// Where the log is.
        directory: PathBuf,
    },
    /// The files don't hold what was once written to them.
    #[error(
        "the log in {} is damaged: {detail}. Nothing was changed. This node may have acknowledged entries that \
         it can no longer read, so it must not vote with this log: remove the node from the cluster, move its \
         data directory away and join it again as a new node, or restore the disk from an exact copy",
        directory.display()
    )]
    Damaged {
        /// Where the log is.
        directory: PathBuf,
        /// What is wrong, with file and offset where known.
        detail: String,
    },
    /// The system refused to read or write.
    #[error("the log in {} cannot be opened", directory.display())]
    Io {
        /// Where the log is.
        directory: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// What the log holds, besides the entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    /// The last entry that was purged; the first one held follows it.
    pub purged: Option<Position>,
    /// The last entry; the purged one when none is held.
    pub last: Option<Position>,
    /// The last committed entry that was noted. It may lag behind what was known before a crash.
    pub committed: Option<Position>,
    /// This node's vote.
    pub vote: Option<StoredVote>,
}

/// Called once with the outcome of a write, when it is on the disk or has failed. If the writer thread
/// dies with the call still queued, dropping it reports the failure, so nobody waits for ever.
pub struct Completion(Option<Box<dyn FnOnce(io::Result<()>) + Send>>);

impl Completion {
    /// Wraps the function to call.
    pub fn new(call: impl FnOnce(io::Result<()>) + Send + 'static) -> Self {
        Self(Some(Box::new(call)))
    }

    /// Calls it with the outcome.
    pub fn finish(mut self, outcome: io::Result<()>) {
        if let Some(call) = self.0.take() {
            call(outcome);
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if let Some(call) = self.0.take() {
            call(Err(io::Error::other("the log's writer ended after a write error")));
        }
    }
}

impl raft_log::Callback for Completion {
    fn send(self, outcome: io::Result<()>) {
        self.finish(outcome);
    }
}

/// A log as Raft uses it. [`Log`] keeps it on the disk of this host; a simulation keeps it on a disk that loses, when
/// its host crashes, what was not synced.
///
/// Methods take `&self`; the order of the calls is the order on the disk.
pub trait EntryLog: Send + Sync + 'static {
    /// How many bytes of a half-written record were cut off at the end when the log was opened; 0 after
    /// an orderly stop. For `status`: it tells of a crash or a power cut, not of a loss.
    fn torn_tail_bytes(&self) -> u64;

    /// What the log holds.
    ///
    /// # Errors
    /// When it is closed.
    fn state(&self) -> io::Result<LogState>;

    /// Appends entries; they can be read when this returns, and are on the disk when `done` is called.
    ///
    /// # Errors
    /// When the entries don't follow the last one, or after a failed write. `done` is then called too.
    fn append(
        &self,
        entries: &mut dyn Iterator<Item = (Position, Bytes)>,
        done: Completion,
    ) -> io::Result<()>;

    /// Notes the vote; it is on the disk when `done` is called, and no sooner may it be answered.
    ///
    /// # Errors
    /// When the vote is older than the one noted, or after a failed write.
    fn save_vote(&self, vote: StoredVote, done: Completion) -> io::Result<()>;

    /// Notes the committed position. It reaches the disk with the next synced write: losing it costs a
    /// restarted node nothing but the wait for the leader to tell it again.
    ///
    /// # Errors
    /// After a failed write.
    fn save_committed(&self, committed: Position) -> io::Result<()>;

    /// Removes all entries after `keep`; on the disk when `done` is called.
    ///
    /// # Errors
    /// When `keep` isn't held, or after a failed write.
    fn truncate_after(&self, keep: Option<Position>, done: Completion) -> io::Result<()>;

    /// Forgets all entries up to and including `upto`; disk space comes back file by file.
    ///
    /// # Errors
    /// After a failed write.
    fn purge(&self, upto: Position) -> io::Result<()>;

    /// The entries with these indices, as many of them as the log holds, up to `max_bytes` of content
    /// but at least one.
    ///
    /// # Errors
    /// When an entry can't be read back.
    fn read(&self, range: Range<u64>, max_bytes: usize) -> io::Result<Vec<(Position, Bytes)>>;

    /// The bytes that the log takes on the disk; 0 once it is closed.
    fn disk_bytes(&self) -> u64;

    /// Syncs and closes the log, and gives its lock back. Blocks. Later calls fail.
    fn close(&self);
}

/// The log on this host's disk.
pub struct Log {
    /// Nothing once it is closed.
    inner: RwLock<Option<RaftLog>>,
    failed: Arc<AtomicBool>,
    torn_tail_bytes: u64,
}

impl Log {
    /// Opens or creates the log in that directory and brings everything in it onto the disk.
    /// Blocks; call it outside of the async runtime's threads.
    ///
    /// # Errors
    /// [`OpenError`]; damage is never repaired silently, except for a torn tail, which no one can have
    /// counted on.
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        let (inner, torn_tail_bytes) = open::open(directory)?;
        Ok(Self { inner: RwLock::new(Some(inner)), failed: Arc::default(), torn_tail_bytes })
    }

    /// Whether a write has failed; the log then takes no more, and the agent must end.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Adds to a completion that a failure is remembered.
    fn watched(&self, done: Completion) -> Completion {
        let failed = Arc::clone(&self.failed);
        Completion::new(move |outcome| {
            if outcome.is_err() {
                failed.store(true, Ordering::Release);
            }
            done.finish(outcome);
        })
    }

    fn checked<T>(&self, outcome: io::Result<T>) -> io::Result<T> {
        if outcome.is_err() {
            self.failed.store(true, Ordering::Release);
        }
        outcome
    }

    fn write_guard(&self) -> io::Result<RwLockWriteGuard<'_, Option<RaftLog>>> {
        if self.has_failed() {
            return Err(io::Error::other("the log takes no more writes after a write error"));
        }
        // A panic inside the library leaves the log in an unknown state.
        self.inner.write().map_err(|_| io::Error::other("a write to the log panicked"))
    }
}

impl EntryLog for Log {
    fn torn_tail_bytes(&self) -> u64 {
        self.torn_tail_bytes
    }

    fn state(&self) -> io::Result<LogState> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let state = inner.as_ref().ok_or_else(closed)?.log_state();
        Ok(LogState {
            purged: state.purged().copied(),
            last: state.last().copied(),
            committed: state.committed().copied(),
            vote: state.vote().copied(),
        })
    }

    fn append(
        &self,
        entries: &mut dyn Iterator<Item = (Position, Bytes)>,
        done: Completion,
    ) -> io::Result<()> {
        let mut guard = self.write_guard()?;
        let inner = guard.as_mut().ok_or_else(closed)?;
        let entries = entries.map(|(position, content)| (position, EntryBytes(content)));
        self.checked(inner.append(entries))?;
        let flushed = inner.flush(true, Some(self.watched(done)));
        self.checked(flushed)
    }

    fn save_vote(&self, vote: StoredVote, done: Completion) -> io::Result<()> {
        let mut guard = self.write_guard()?;
        let inner = guard.as_mut().ok_or_else(closed)?;
        self.checked(inner.save_vote(vote))?;
        let flushed = inner.flush(true, Some(self.watched(done)));
        self.checked(flushed)
    }

    fn save_committed(&self, committed: Position) -> io::Result<()> {
        let mut guard = self.write_guard()?;
        let inner = guard.as_mut().ok_or_else(closed)?;
        let state = inner.log_state();
        // The library treats both as errors, and openraft every error as fatal. Both are harmless: a
        // snapshot may be ahead of the log, and two notes may be reordered.
        let backwards = state.committed().is_some_and(|noted| *noted >= committed);
        let beyond = state.last().is_none_or(|last| *last < committed);
        if backwards || beyond {
            return Ok(());
        }
        let noted = inner.commit(committed);
        self.checked(noted).map(drop)
    }

    fn truncate_after(&self, keep: Option<Position>, done: Completion) -> io::Result<()> {
        let mut guard = self.write_guard()?;
        let inner = guard.as_mut().ok_or_else(closed)?;
        let nothing_after =
            inner.log_state().last().is_none_or(|last| keep.is_some_and(|keep| keep >= *last));
        if nothing_after {
            done.finish(Ok(()));
            return Ok(());
        }
        let truncated = inner.truncate(keep.map_or(0, |position| position.index + 1));
        self.checked(truncated)?;
        let flushed = inner.flush(true, Some(self.watched(done)));
        self.checked(flushed)
    }

    fn purge(&self, upto: Position) -> io::Result<()> {
        let mut guard = self.write_guard()?;
        let inner = guard.as_mut().ok_or_else(closed)?;
        let purged = inner.purge(upto);
        self.checked(purged)?;
        // Synced: only then may the library remove the files that the purge made useless.
        let flushed = inner.flush(true, None);
        self.checked(flushed)
    }

    fn read(&self, range: Range<u64>, max_bytes: usize) -> io::Result<Vec<(Position, Bytes)>> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let guard = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let inner = guard.as_ref().ok_or_else(closed)?;
        let mut entries = Vec::new();
        let mut bytes = 0;
        for entry in inner.read(range.start, range.end) {
            let (position, EntryBytes(content)) = entry?;
            bytes += content.len();
            if bytes > max_bytes && !entries.is_empty() {
                break;
            }
            entries.push((position, content));
        }
        Ok(entries)
    }

    fn disk_bytes(&self) -> u64 {
        let guard = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        guard.as_ref().map_or(0, raft_log::RaftLog::on_disk_size)
    }

    fn close(&self) {
        let inner = self.inner.write().unwrap_or_else(PoisonError::into_inner).take();
        // Waits for the writer's thread, which syncs what it still has.
        drop(inner);
    }
}

fn closed() -> io::Error {
    io::Error::other("the log is closed")
}
