//! Brings what the agent observed into the replicated state. Nothing waits for a report: the newest of each
//! instance wins, and it is retried until the cluster took it or it means nothing any more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use muster_core::command::{Command, Observation, Stopped};
use muster_core::id::SlotId;
use tokio::sync::Notify;

use crate::submit::{Submit, SubmitError};

/// Reports under way at once: enough to tell a whole failover in a few rounds, few enough for the leader.
const IN_FLIGHT_MAX: usize = 16;
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Something to tell the cluster about an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// How it is.
    Observed(Observation),
    /// It ended here, and the guard remembers that for good.
    Stopped(Stopped),
}

impl Report {
    fn key(&self) -> Key {
        match self {
            Self::Observed(observation) => (Kind::Observed, observation.slot.clone()),
            Self::Stopped(stopped) => (Kind::Stopped, stopped.slot.clone()),
        }
    }

    fn command(&self) -> Command {
        match self {
            Self::Observed(observation) => Command::Observe(observation.clone()),
            Self::Stopped(stopped) => Command::Stopped(stopped.clone()),
        }
    }
}

/// What is told first stands first: the end of an instance lets the next one begin elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Stopped,
    Observed,
}

type Key = (Kind, SlotId);

#[derive(Default)]
struct Entry {
    /// The newest report, not sent yet. It replaces an older one of the same kind and slot: a placement that
    /// is newer than a stopped one exists only once the cluster has let go of that.
    queued: Option<Report>,
    under_way: bool,
}

#[derive(Default)]
struct Shared {
    entries: Mutex<BTreeMap<Key, Entry>>,
    wake: Notify,
}

impl Shared {
    fn entries(&self) -> MutexGuard<'_, BTreeMap<Key, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a report to send, of a slot that has none of its kind under way.
    fn take(&self) -> Option<Report> {
        let mut entries = self.entries();
        let entry = entries.values_mut().find(|e| e.queued.is_some() && !e.under_way)?;
        entry.under_way = true;
        entry.queued.take()
    }

    /// Ends a try; `again` is queued anew unless something newer was.
    fn finish(&self, key: &Key, again: Option<Report>) {
        let mut entries = self.entries();
        let Some(entry) = entries.get_mut(key) else { return };
        entry.under_way = false;
        entry.queued = entry.queued.take().or(again);
        if entry.queued.is_none() {
            entries.remove(key);
        }
    }
}

/// Takes reports; cheap to clone.
#[derive(Clone, Default)]
pub struct Reporter {
    shared: Arc<Shared>,
}

impl Reporter {
    /// Queues a report in place of an older one of the same slot.
    pub fn report(&self, report: Report) {
        let key = report.key();
        let mut entries = self.shared.entries();
        if key.0 == Kind::Stopped
            && let Some(observed) = entries.get_mut(&(Kind::Observed, key.1.clone()))
        {
            observed.queued = None;
        }
        entries.entry(key).or_default().queued = Some(report);
        drop(entries);
        self.shared.wake.notify_one();
    }

    /// Sends reports for ever.
    pub async fn run(self, submit: Arc<dyn Submit>) {
        let mut tries = FuturesUnordered::new();
        loop {
            while tries.len() < IN_FLIGHT_MAX
                && let Some(report) = self.shared.take()
            {
                tries.push(send(submit.as_ref(), report));
            }
            tokio::select! {
                () = self.shared.wake.notified() => {}
                Some((key, again)) = tries.next() => self.shared.finish(&key, again),
            }
        }
    }
}

/// One try. Returns the report when it is to be tried again.
async fn send(submit: &dyn Submit, report: Report) -> (Key, Option<Report>) {
    let key = report.key();
    match submit.submit(report.command()).await {
        Ok(_) => (key, None),
        Err(SubmitError::Refused(refusal)) => {
            // Mostly a placement that is gone meanwhile (MU1020): then there is nothing left to tell.
            tracing::debug!(slot = %key.1, "a report was refused: {refusal}");
            (key, None)
        }
        Err(SubmitError::Unavailable(why)) => {
            tracing::debug!(slot = %key.1, "a report has to wait: {why}");
            tokio::time::sleep(RETRY_PAUSE).await;
            (key, Some(report))
        }
    }
}
