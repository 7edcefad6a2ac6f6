//! What stands in a log.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use muster::storage::Position;
use muster::storage::log::{LogState, StoredVote};

/// One write.
#[derive(Clone, Debug)]
pub(super) enum Record {
    Entry(Position, Bytes),
    Vote(StoredVote),
    Committed(Position),
    Truncate(Option<Position>),
    Purge(Position),
}

/// All writes together.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    entries: BTreeMap<u64, (Position, Bytes)>,
    purged: Option<Position>,
    committed: Option<Position>,
    vote: Option<StoredVote>,
}

impl Image {
    pub(super) fn write(&mut self, record: Record) {
        match record {
            Record::Entry(at, content) => {
                let expected = self.state().last.map_or(0, |last| last.index + 1);
                assert_eq!(at.index, expected, "the log must not have a hole");
                self.entries.insert(at.index, (at, content));
            }
            Record::Vote(vote) => {
                let older = self.vote.is_some_and(|known| vote.term < known.term);
                assert!(!older, "a vote must not go back from {:?} to {vote:?}", self.vote);
                self.vote = Some(vote);
            }
            Record::Committed(at) => self.committed = Some(at),
            Record::Truncate(keep) => {
                self.entries.split_off(&keep.map_or(0, |keep| keep.index + 1));
            }
            Record::Purge(upto) => {
                self.entries = self.entries.split_off(&(upto.index + 1));
                self.purged = self.purged.max(Some(upto));
            }
        }
    }

    /// What no disk may do.
    pub(super) fn forget_vote(&mut self) {
        self.vote = None;
    }

    pub(super) fn state(&self) -> LogState {
        let last = self.entries.values().next_back().map(|(at, _)| *at);
        LogState {
            purged: self.purged,
            last: last.or(self.purged),
            committed: self.committed,
            vote: self.vote,
        }
    }

    pub(super) fn read(&self, range: Range<u64>, max_bytes: usize) -> Vec<(Position, Bytes)> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        if range.is_empty() {
            return entries;
        }
        for (at, content) in self.entries.range(range).map(|(_, entry)| entry) {
            bytes += content.len();
            if bytes > max_bytes && !entries.is_empty() {
                break;
            }
            entries.push((*at, content.clone()));
        }
        entries
    }
}
