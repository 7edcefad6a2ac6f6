//! The audit trail in the replicated state: the newest records, and how many there ever were.

use std::sync::Arc;

use imbl::Vector;

use super::{AuditOutcome, AuditRecord, RecordedCalls, clipped};
use super::{MAX_CALLS, MAX_NAME_BYTES, MAX_TEXT_BYTES};
use crate::id::Revision;
use crate::time::Stamp;

/// How many changes the state keeps: about half a megabyte in memory and in a snapshot. The history keeps more.
pub const KEPT_CHANGES: usize = 1024;
/// How many refusals the state keeps, beside the changes.
pub const KEPT_REFUSALS: usize = 512;

/// The newest records. They survive the loss of every history.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AuditTrail {
    changes: Ring,
    refusals: Ring,
}

/// Records in the order of their places.
#[derive(Clone, Debug, Default, PartialEq)]
struct Ring {
    records: Vector<Arc<AuditRecord>>,
    /// Those that were pushed out included.
    total: u64,
}

impl Ring {
    fn push(&mut self, record: Arc<AuditRecord>, most: usize) {
        self.total = self.total.saturating_add(1);
        self.records.push_back(record);
        if self.records.len() > most {
            self.records.pop_front();
        }
    }
}

impl AuditTrail {
    /// How many changes and how many refusals there ever were.
    #[must_use]
    pub fn totals(&self) -> (u64, u64) {
        (self.changes.total, self.refusals.total)
    }

    /// All records that are kept: changes, then refusals, each in the order of the log.
    pub fn records(&self) -> impl Iterator<Item = &Arc<AuditRecord>> {
        self.changes.records.iter().chain(&self.refusals.records)
    }

    /// The records of one entry, if it is one of the last.
    #[must_use]
    pub fn of(&self, revision: Revision) -> Vec<Arc<AuditRecord>> {
        let last = |ring: &Ring| -> Vec<Arc<AuditRecord>> {
            ring.records.iter().rev().take_while(|record| record.revision == revision).cloned().collect()
        };
        let mut records = last(&self.changes);
        records.extend(last(&self.refusals));
        records.sort_by_key(|record| record.sequence);
        records
    }

    /// Appends a record.
    pub(crate) fn push(&mut self, record: AuditRecord) {
        let record = AuditRecord {
            actor: record.actor.clipped(),
            verb: clipped(record.verb, MAX_NAME_BYTES),
            target: clipped(record.target, MAX_TEXT_BYTES),
            code: clipped(record.code, MAX_NAME_BYTES),
            message: clipped(record.message, MAX_TEXT_BYTES),
            ..record
        };
        let (ring, most) = self.ring_of(&record);
        ring.push(Arc::new(record), most);
    }

    /// Appends what an agent tells of its calls. `via` is that agent's name, `at` the entry, `now` its time.
    pub(crate) fn push_calls(&mut self, at: Revision, now: Stamp, via: &str, told: &RecordedCalls) {
        for (sequence, call) in (0u32..).zip(told.calls.iter().take(MAX_CALLS)) {
            let (outcome, code, message) = match &call.refused {
                Some((code, message)) => (AuditOutcome::Refused, code.clone(), message.clone()),
                None => (AuditOutcome::Applied, String::new(), String::new()),
            };
            let mut actor = call.actor.clone();
            via.clone_into(&mut actor.via);
            self.push(AuditRecord {
                revision: at,
                sequence,
                // A clock that is ahead must not put a call behind what comes after it.
                time: call.time.min(now),
                before: call.before.min(at),
                actor,
                verb: call.verb.clone(),
                target: call.target.clone(),
                outcome,
                code,
                message,
                count: call.count.max(1),
            });
        }
    }

    /// Puts a record of a snapshot back; false when it is not behind the last one.
    pub fn restore(&mut self, record: AuditRecord) -> bool {
        let (ring, _) = self.ring_of(&record);
        let place = |record: &AuditRecord| (record.revision, record.sequence);
        let is_new = ring.records.last().is_none_or(|last| place(last) < place(&record));
        ring.records.push_back(Arc::new(record));
        is_new
    }

    /// Sets what a snapshot says of how many there were.
    pub fn restore_totals(&mut self, changes: u64, refusals: u64) {
        (self.changes.total, self.refusals.total) = (changes, refusals);
    }

    fn ring_of(&mut self, record: &AuditRecord) -> (&mut Ring, usize) {
        match record.outcome {
            AuditOutcome::Applied | AuditOutcome::Unchanged => (&mut self.changes, KEPT_CHANGES),
            AuditOutcome::Refused => (&mut self.refusals, KEPT_REFUSALS),
        }
    }
}
