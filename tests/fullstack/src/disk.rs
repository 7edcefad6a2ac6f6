//! The disk of a simulated host, under its Raft log: what was not synced when the power fails is gone, but for as much of
//! it as the disk happened to write, the last record perhaps torn.

mod image;

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use muster::storage::Position;
use muster::storage::log::{Completion, EntryLog, LogState, StoredVote};
use muster_tests::sim::rng::Rng;
use tokio::sync::Notify;

use self::image::{Image, Record};

/// How a disk behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manners {
    /// Shortest time of a sync.
    pub sync_min: Duration,
    /// Longest time.
    pub sync_max: Duration,
    /// Every write fails.
    pub fails: bool,
}

impl Manners {
    /// A fast and honest disk.
    pub const GOOD: Self =
        Self { sync_min: Duration::from_millis(1), sync_max: Duration::from_millis(3), fails: false };

    /// One that fails.
    pub const BROKEN: Self = Self { fails: true, ..Self::GOOD };

    /// One that stalls.
    pub const SLOW: Self =
        Self { sync_min: Duration::from_millis(100), sync_max: Duration::from_secs(5), fails: false };
}

struct Platter {
    rng: Rng,
    manners: Manners,
    lies: bool,
    forgets_votes: bool,
    /// What survives a loss of power.
    synced: Image,
    /// What a reader sees.
    seen: Image,
    /// What was written since the last sync, in order.
    unsynced: VecDeque<Record>,
    torn_bytes: u64,
    /// How many times it was opened: what an earlier process still waits for concerns nobody.
    opened: u64,
}

/// The disk of one host; cheap to clone.
#[derive(Clone)]
pub struct Disk(Arc<Mutex<Platter>>);

impl Disk {
    /// An empty disk.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Platter {
            rng: Rng::new(seed),
            manners: Manners::GOOD,
            lies: false,
            forgets_votes: false,
            synced: Image::default(),
            seen: Image::default(),
            unsynced: VecDeque::new(),
            torn_bytes: 0,
            opened: 0,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it behaves from now on.
    pub fn set_manners(&self, manners: Manners) {
        self.lock().manners = manners;
    }

    /// A mutant: from now on it says that a write is synced before it is.
    pub fn begin_to_lie(&self) {
        self.lock().lies = true;
    }

    /// A mutant: from now on it forgets at each start which vote was given.
    pub fn begin_to_forget(&self) {
        self.lock().forgets_votes = true;
    }

    /// The power fails. Of what was not synced, a part of any length from the beginning has reached the disk.
    pub fn power_off(&self) {
        let mut platter = self.lock();
        let count = u64::try_from(platter.unsynced.len()).unwrap_or(u64::MAX);
        let written = platter.rng.below(count + 1);
        let torn = written < count && platter.rng.percent(50);
        platter.torn_bytes = if torn { platter.rng.between(1, 40) } else { 0 };
        let records: Vec<Record> = platter.unsynced.drain(..).collect();
        for record in records.into_iter().take(usize::try_from(written).unwrap_or(usize::MAX)) {
            platter.synced.write(record);
        }
        platter.seen = platter.synced.clone();
    }

    /// Opens the log, on the runtime of its process; as the real one it syncs what it finds.
    #[must_use]
    pub fn open(&self) -> Arc<dyn EntryLog> {
        let mut platter = self.lock();
        platter.unsynced.clear();
        if platter.forgets_votes {
            platter.seen.forget_vote();
        }
        platter.synced = platter.seen.clone();
        platter.opened += 1;
        let torn_tail_bytes = std::mem::take(&mut platter.torn_bytes);
        let log = SimLog {
            disk: self.clone(),
            torn_tail_bytes,
            syncs: Arc::new(Syncs { asked: Mutex::default(), some: Notify::new(), opened: platter.opened }),
        };
        tokio::spawn(keep_syncing(self.clone(), Arc::clone(&log.syncs)));
        Arc::new(log)
    }
}

/// Whoever waits for a sync.
struct Syncs {
    asked: Mutex<VecDeque<Completion>>,
    some: Notify,
    opened: u64,
}

/// The writer: one sync after the other, each for all that was written before it began.
async fn keep_syncing(disk: Disk, syncs: Arc<Syncs>) {
    loop {
        syncs.some.notified().await;
        let waiting = std::mem::take(&mut *syncs.asked.lock().unwrap_or_else(PoisonError::into_inner));
        if waiting.is_empty() {
            continue;
        }
        let (takes, written) = {
            let mut platter = disk.lock();
            let Manners { sync_min, sync_max, .. } = platter.manners;
            let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            let takes = platter.rng.between(micros(sync_min), micros(sync_max));
            (Duration::from_micros(takes), platter.unsynced.len())
        };
        tokio::time::sleep(takes).await;
        let failed = {
            let mut platter = disk.lock();
            if platter.opened != syncs.opened {
                return;
            }
            let failed = platter.manners.fails;
            for _ in 0..if failed { 0 } else { written } {
                let Some(record) = platter.unsynced.pop_front() else { break };
                platter.synced.write(record);
            }
            failed
        };
        for waiter in waiting {
            waiter.finish(if failed { Err(failure()) } else { Ok(()) });
        }
    }
}

fn failure() -> io::Error {
    io::Error::other("simulated input/output error")
}

/// One opening of the log.
struct SimLog {
    disk: Disk,
    torn_tail_bytes: u64,
    syncs: Arc<Syncs>,
}

impl SimLog {
    fn write(&self, records: impl IntoIterator<Item = Record>, done: Option<Completion>) -> io::Result<()> {
        let mut platter = self.disk.lock();
        if platter.opened != self.syncs.opened {
            return Err(io::Error::other("the log was opened by somebody else"));
        }
        if platter.manners.fails {
            return Err(failure());
        }
        for record in records {
            platter.seen.write(record.clone());
            platter.unsynced.push_back(record);
        }
        let lies = platter.lies;
        drop(platter);
        match done {
            Some(done) if lies => done.finish(Ok(())),
            Some(done) => {
                self.syncs.asked.lock().unwrap_or_else(PoisonError::into_inner).push_back(done);
                self.syncs.some.notify_one();
            }
            None => {}
        }
        Ok(())
    }
}

impl EntryLog for SimLog {
    fn torn_tail_bytes(&self) -> u64 {
        self.torn_tail_bytes
    }

    fn state(&self) -> io::Result<LogState> {
        Ok(self.disk.lock().seen.state())
    }

    fn append(
        &self,
        entries: &mut dyn Iterator<Item = (Position, Bytes)>,
        done: Completion,
    ) -> io::Result<()> {
        // Outside of the lock: the iterator tells the gate.
        let records: Vec<Record> = entries.map(|(at, content)| Record::Entry(at, content)).collect();
        self.write(records, Some(done))
    }

    fn save_vote(&self, vote: StoredVote, done: Completion) -> io::Result<()> {
        self.write([Record::Vote(vote)], Some(done))
    }

    fn save_committed(&self, committed: Position) -> io::Result<()> {
        let state = self.state()?;
        let backwards = state.committed.is_some_and(|noted| noted >= committed);
        let beyond = state.last.is_none_or(|last| last < committed);
        if backwards || beyond { Ok(()) } else { self.write([Record::Committed(committed)], None) }
    }

    fn truncate_after(&self, keep: Option<Position>, done: Completion) -> io::Result<()> {
        self.write([Record::Truncate(keep)], Some(done))
    }

    fn purge(&self, upto: Position) -> io::Result<()> {
        let done = Completion::new(|_| {});
        self.write([Record::Purge(upto)], Some(done))
    }

    fn read(&self, range: Range<u64>, max_bytes: usize) -> io::Result<Vec<(Position, Bytes)>> {
        Ok(self.disk.lock().seen.read(range, max_bytes))
    }

    fn disk_bytes(&self) -> u64 {
        0
    }

    fn close(&self) {
        let mut platter = self.disk.lock();
        if platter.opened == self.syncs.opened && !platter.manners.fails {
            let records: Vec<Record> = platter.unsynced.drain(..).collect();
            records.into_iter().for_each(|record| platter.synced.write(record));
        }
    }
}
