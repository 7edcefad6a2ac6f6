//! The audit trail in the history's store: a tree of its own, so that no flood of events pushes it out.

use muster_proto::v1::AuditRecord;
use prost::Message;

use super::AuditQuery;
use super::store::{StoreError, event_key, parse_key};

const TREE: &str = "audit";
/// How many lines are kept; the oldest go first. At some hundred bytes each, a few tens of megabytes at most.
const KEPT: u64 = 100_000;

/// The tree: (revision, sequence), big-endian -> the record's bytes.
pub(super) struct Audit {
    tree: sled::Tree,
    count: u64,
}

impl Audit {
    pub(super) fn open(database: &sled::Db) -> Result<Self, StoreError> {
        let tree = database.open_tree(TREE)?;
        // As for events: reads every key once, which finds damaged pages.
        let mut count = 0;
        for key in tree.iter().keys() {
            parse_key(&key?)?;
            count += 1;
        }
        Ok(Self { tree, count })
    }

    /// Keeps a line; one that is there already is written again.
    pub(super) fn append(&mut self, record: &AuditRecord) -> Result<(), StoreError> {
        let key = event_key(record.revision, record.sequence);
        if self.tree.insert(key, record.encode_to_vec())?.is_none() {
            self.count += 1;
        }
        while self.count > KEPT && self.tree.pop_min()?.is_some() {
            self.count -= 1;
        }
        Ok(())
    }

    /// The matching lines, oldest first, and how many there are in all.
    pub(super) fn query(&self, query: &AuditQuery) -> Result<(Vec<AuditRecord>, u64), StoreError> {
        let mut records = Vec::new();
        let mut lines = self.tree.range(event_key(query.after.0, query.after.1)..).values();
        while records.len() < query.limit {
            let Some(line) = (if query.latest { lines.next_back() } else { lines.next() }) else { break };
            let record = AuditRecord::decode(line?.as_ref())?;
            if query.wants(&record) {
                records.push(record);
            }
        }
        if query.latest {
            records.reverse();
        }
        Ok((records, self.count))
    }
}
