//! The history behind `events`, `audit` and `service history`: derived data, written by a thread of its own.
//!
//! It may be lost. Nothing waits for it and nothing fails with it: when the writer can't keep up, events are
//! dropped and counted; when the store is missing, empty, unreadable or panics, it is set aside and begun anew.
//!
//! **Architecture invariant:** sled appears only here. Its thread is the one on which a panic is survived.

mod audit;
mod store;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use muster_core::audit::AuditRecord as Line;
use muster_proto::v1::AuditRecord;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::Instant;

use self::store::Store;
use crate::clock;

/// The name of the thread that owns the store.
const THREAD_NAME: &str = "muster-history";
/// How sled names its own threads.
const SLED_THREAD_NAMES: [&str; 2] = ["sled-io-", "log flusher"];
/// How many events are kept; the oldest go first.
pub const KEPT_EVENTS: u64 = 100_000;
/// How many events wait for the writer: some seconds' worth in a bad hour, at about 1 KiB each.
const QUEUE_EVENTS: usize = 4_096;
/// How many lines of the audit trail wait for the writer, at about 300 bytes each.
const WAITING_LINES: usize = 8_192;
/// With so many waiting, the writer does not let them wait longer.
const MANY_LINES: usize = 1_024;
/// How long lines wait for more, so that a write costs no wake-up of another thread.
const LINES_WAIT: Duration = Duration::from_millis(250);

/// One event. `(revision, sequence)` identifies it: replaying the log writes the same events again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The log index of the command that caused it.
    pub revision: u64,
    /// Its number among the events of that command.
    pub sequence: u32,
    /// When it happened, in milliseconds since 1970 UTC, as the command says.
    pub time_ms: u64,
    /// What kind of event it is.
    pub kind: String,
    /// The node that it is about.
    pub node: Option<String>,
    /// The service that it is about.
    pub service: Option<String>,
    /// What else there is to say.
    pub detail: serde_json::Value,
}

/// What to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Only events after this revision.
    pub after_revision: Option<u64>,
    /// Only events at or after this time, in milliseconds since 1970 UTC.
    pub since_ms: Option<u64>,
    /// Only events of this service.
    pub service: Option<String>,
    /// Only the newest so many; all when 0.
    pub limit: usize,
}

/// Whether a panic on this thread is the history's own affair: a panic on any other thread ends the agent.
#[must_use]
pub fn survives_panics(thread_name: &str) -> bool {
    thread_name == THREAD_NAME || SLED_THREAD_NAMES.iter().any(|name| thread_name.starts_with(name))
}

/// What to read of the audit trail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// Only records behind this revision and number.
    pub after: (u64, u32),
    /// Only records at or after this time, in milliseconds since 1970 UTC.
    pub since_ms: Option<u64>,
    /// At most so many.
    pub limit: usize,
    /// The newest ones instead of the oldest.
    pub latest: bool,
}

impl AuditQuery {
    /// Whether a record is asked for.
    #[must_use]
    pub fn wants(&self, record: &AuditRecord) -> bool {
        (record.revision, record.sequence) > self.after
            && self.since_ms.is_none_or(|since_ms| record.time_ms >= since_ms)
    }
}

enum Request {
    Append(Event),
    /// There are lines of the audit trail, the first one or many.
    LinesWait,
    QueryAudit(AuditQuery, oneshot::Sender<(Vec<AuditRecord>, u64)>),
    Query(Query, oneshot::Sender<Vec<Event>>),
    Stop,
}

/// The history. Cheap to clone; the store is closed when the last clone is dropped.
#[derive(Clone)]
pub struct History {
    inner: Arc<Inner>,
}

/// Lines of the audit trail that wait for the writer.
type Waiting = Arc<Mutex<Vec<Arc<Line>>>>;

struct Inner {
    requests: SyncSender<Request>,
    waiting: Waiting,
    dropped: Arc<AtomicU64>,
    writer: Option<JoinHandle<()>>,
}

impl History {
    /// Opens the history in that directory, or begins a new one. Returns at once; the store is opened on its
    /// own thread.
    #[must_use]
    pub fn open(directory: &Path) -> Self {
        Self::open_keeping(directory, KEPT_EVENTS)
    }

    /// [`Self::open`] with the number of events to keep.
    #[must_use]
    pub fn open_keeping(directory: &Path, kept_events: u64) -> Self {
        let (requests, queue) = sync_channel(QUEUE_EVENTS);
        let dropped = Arc::new(AtomicU64::new(0));
        let waiting = Waiting::default();
        let writer = Writer {
            directory: directory.to_owned(),
            kept_events,
            waiting: Arc::clone(&waiting),
            lines_due: None,
            dropped: Arc::clone(&dropped),
            store: None,
        };
        let thread = std::thread::Builder::new().name(THREAD_NAME.into());
        let writer = match thread.spawn(move || writer.run(&queue)) {
            Ok(writer) => Some(writer),
            Err(error) => {
                tracing::error!(%error, "the history has no thread: events are not kept");
                None
            }
        };
        Self { inner: Arc::new(Inner { requests, waiting, dropped, writer }) }
    }

    /// A history that keeps nothing, as when its thread can't be started: events are counted as dropped.
    #[must_use]
    pub fn nowhere() -> Self {
        let (requests, _nobody) = sync_channel(1);
        let inner = Inner { requests, waiting: Waiting::default(), dropped: Arc::default(), writer: None };
        Self { inner: Arc::new(inner) }
    }

    /// Takes an event. Never waits: when the queue is full the event is dropped and counted.
    pub fn append(&self, event: Event) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.inner.requests.try_send(Request::Append(event))
        {
            self.inner.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The matching events, oldest first; empty when the history is not available.
    pub async fn query(&self, query: Query) -> Vec<Event> {
        let (reply, events) = oneshot::channel();
        if self.inner.requests.try_send(Request::Query(query, reply)).is_err() {
            return Vec::new();
        }
        events.await.unwrap_or_default()
    }

    /// Takes a line of the audit trail. Never waits: the newest lines are in the replicated state anyway.
    pub fn append_audit(&self, line: &Arc<Line>) {
        let waiting = {
            let mut lines = self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.len() == WAITING_LINES {
                self.inner.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            lines.push(Arc::clone(line));
            lines.len()
        };
        // A full queue keeps the writer awake, and it looks for lines after each request.
        if waiting == 1 || waiting == MANY_LINES {
            let _told = self.inner.requests.try_send(Request::LinesWait);
        }
    }

    /// The matching lines of the audit trail, oldest first, and how many are kept in all; nothing when the history is
    /// not available.
    pub async fn query_audit(&self, query: AuditQuery) -> (Vec<AuditRecord>, u64) {
        let (reply, records) = oneshot::channel();
        if self.inner.requests.try_send(Request::QueryAudit(query, reply)).is_err() {
            return Default::default();
        }
        records.await.unwrap_or_default()
    }

    /// How many events were dropped since the start.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.inner.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // With a full queue the writer sees the closed channel after it has worked the queue off.
        drop(self.requests.try_send(Request::Stop));
        if let Some(writer) = self.writer.take() {
            let (gone, _) = sync_channel(1);
            self.requests = gone;
            if writer.join().is_err() {
                tracing::warn!("the history's thread had panicked");
            }
        }
    }
}

struct Writer {
    directory: PathBuf,
    kept_events: u64,
    waiting: Waiting,
    /// Until when the waiting lines wait for more.
    lines_due: Option<Instant>,
    dropped: Arc<AtomicU64>,
    store: Option<Store>,
}

impl Writer {
    fn run(mut self, queue: &Receiver<Request>) {
        self.store = Store::open(&self.directory, self.kept_events);
        while let Some(request) = self.next(queue) {
            match request {
                Request::Append(event) => {
                    if self.with_store(|store| store.append(&event)) != Some(true) {
                        self.dropped.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Request::LinesWait => {}
                Request::QueryAudit(query, reply) => {
                    self.keep_lines();
                    let found = self.with_store(|store| store.audit.query(&query)).unwrap_or_default();
                    // Whoever asked may have gone.
                    drop(reply.send(found));
                }
                Request::Query(query, reply) => {
                    let events = self.with_store(|store| store.query(&query)).unwrap_or_default();
                    // Whoever asked may have gone.
                    drop(reply.send(events));
                }
                Request::Stop => break,
            }
        }
        self.keep_lines();
    }

    /// The next request; keeps lines that have waited long enough. None when nobody is left who could ask.
    fn next(&mut self, queue: &Receiver<Request>) -> Option<Request> {
        loop {
            let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).len();
            if waiting == 0 {
                return queue.recv().ok();
            }
            let due = *self.lines_due.get_or_insert_with(|| clock::monotonic() + LINES_WAIT);
            let left = due.saturating_duration_since(clock::monotonic());
            if waiting >= MANY_LINES || left.is_zero() {
                self.keep_lines();
                continue;
            }
            match queue.recv_timeout(left) {
                Ok(request) => return Some(request),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    fn keep_lines(&mut self) {
        self.lines_due = None;
        let lines = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        let count = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        let records = lines.iter().map(|line| muster_wire::audit_to_proto(line));
        if count > 0 && self.with_store(|store| store.audit.append(records)).is_none() {
            self.dropped.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Does something with the store; a store that fails is set aside, and the next call has a new one.
    fn with_store<T>(&mut self, work: impl FnOnce(&mut Store) -> Result<T, store::StoreError>) -> Option<T> {
        let mut store = self.store.take()?;
        match store::survive(|| work(&mut store)) {
            Ok(done) => {
                self.store = Some(store);
                Some(done)
            }
            Err(error) => {
                tracing::warn!(%error, "the history failed and is opened anew");
                store.abandon();
                if !error.is_no_space() {
                    store::set_aside(&self.directory);
                }
                self.store = Store::open(&self.directory, self.kept_events);
                None
            }
        }
    }
}
