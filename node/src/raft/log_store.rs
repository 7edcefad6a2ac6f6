//! openraft's view of the log: entries are encoded here, and the voter gate is told before it is too late.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard};

use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use tokio::sync::oneshot;

use super::types::{Entry, LogId, TypeConfig, Vote, log_id, position};
use super::wire;
use crate::storage::log::{Completion, EntryLog, StoredVote};

/// The most content that one append to a follower carries, so that messages stay far below their limit.
const REPLICATION_BATCH_BYTES: usize = 1 << 20;

/// The part of the voter's lease duty that depends on the log (LEASES.md R2b): a voter may not acknowledge
/// a heartbeat while its log holds a membership entry that it has not applied.
///
/// The gate is closed while the highest index told here is above the index of the applied membership, which
/// the replica tells by its own ways. The log tells an index without knowing whether it has been applied.
pub trait VoterGate: Send + Sync + 'static {
    /// A membership entry is about to be written at `index`: called *before* it goes to the disk.
    fn appended_membership(&self, index: u64);
    /// The log was opened, or entries were removed from its end: the highest membership entry that it
    /// still holds is this one. The removal is on the disk already.
    fn truncated(&self, last_unapplied_membership: Option<u64>);
}

/// openraft's log storage over an [`EntryLog`].
#[derive(Clone)]
pub(crate) struct LogStore {
    log: Arc<dyn EntryLog>,
    gate: Arc<dyn VoterGate>,
    /// The indices of the membership entries that the log holds.
    memberships: Arc<Mutex<BTreeSet<u64>>>,
}

impl LogStore {
    /// Takes an opened log, finds its membership entries and tells the gate.
    pub(crate) fn new(log: Arc<dyn EntryLog>, gate: Arc<dyn VoterGate>) -> io::Result<Self> {
        let mut memberships = BTreeSet::new();
        for (at, content) in log.read(0..u64::MAX, usize::MAX)? {
            if wire::is_membership_on_disk(content).map_err(unreadable(at.index))? {
                memberships.insert(at.index);
            }
        }
        gate.truncated(memberships.last().copied());
        Ok(Self { log, gate, memberships: Arc::new(Mutex::new(memberships)) })
    }

    fn memberships(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.memberships.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Reads the log for replication and for apply.
#[derive(Clone)]
pub(crate) struct LogReader(Arc<dyn EntryLog>);

impl LogReader {
    fn read(&self, range: Range<u64>, max_bytes: usize) -> io::Result<Vec<Entry>> {
        let entries = self.0.read(range, max_bytes)?.into_iter();
        entries
            .map(|(at, content)| wire::entry_from_disk(at, content).map_err(unreadable(at.index)))
            .collect()
    }
}

fn unreadable(index: u64) -> impl FnOnce(wire::WireError) -> io::Error {
    move |error| io::Error::new(io::ErrorKind::InvalidData, format!("log entry {index}: {error}"))
}

fn half_open(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

/// A completion and the future of its outcome.
fn awaited() -> (Completion, impl Future<Output = io::Result<()>>) {
    let (sender, receiver) = oneshot::channel();
    let done = Completion::new(move |outcome| {
        // The waiting call may have been dropped with its task at shutdown.
        drop(sender.send(outcome));
    });
    let ended = || io::Error::other("the log's writer ended");
    (done, async move { receiver.await.unwrap_or_else(|_| Err(ended())) })
}

fn vote_of(stored: StoredVote) -> Vote {
    if stored.committed {
        Vote::new_committed(stored.term, stored.node)
    } else {
        Vote::new(stored.term, stored.node)
    }
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<R>(&mut self, range: R) -> io::Result<Vec<Entry>>
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        self.read(half_open(&range), usize::MAX)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start..end, REPLICATION_BATCH_BYTES)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.0.state()?.vote.map(vote_of))
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let state = self.log.state()?;
        Ok(LogState { last_purged_log_id: state.purged.map(log_id), last_log_id: state.last.map(log_id) })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        LogReader(Arc::clone(&self.log))
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let (done, written) = awaited();
        let leader = vote.leader_id();
        let stored = StoredVote { term: leader.term, node: leader.voted_for, committed: vote.is_committed() };
        self.log.save_vote(stored, done)?;
        written.await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        match committed {
            Some(committed) => self.log.save_committed(position(&committed)),
            None => Ok(()),
        }
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.log.state()?.committed.map(log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut entries = entries.into_iter().map(|entry| {
            if entry.get_membership().is_some() {
                // Before the entry can reach the disk: from then on it may be counted for its commit.
                self.gate.appended_membership(entry.log_id.index());
                self.memberships().insert(entry.log_id.index());
            }
            wire::entry_to_disk(entry)
        });
        self.log.append(&mut entries, Completion::new(|outcome| callback.io_completed(outcome)))
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        let (done, written) = awaited();
        self.log.truncate_after(last_log_id.as_ref().map(position), done)?;
        // Durable first: were the gate opened and the host then lost its power, the entry would be back,
        // and could be counted, although heartbeats were acknowledged after it had been appended.
        written.await?;
        let last_membership = {
            let mut memberships = self.memberships();
            memberships.split_off(&last_log_id.map_or(0, |id| id.index() + 1));
            memberships.last().copied()
        };
        self.gate.truncated(last_membership);
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        {
            let mut memberships = self.memberships();
            *memberships = memberships.split_off(&(upto.index() + 1));
        }
        self.log.purge(position(&upto))
    }
}
