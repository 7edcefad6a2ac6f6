//! Answers to retried writes: each client's last one.

use imbl::OrdMap;

use crate::id::{RequestId, Revision};
use crate::refusal::{Refusal, RefusalText};
use crate::state::apply::Reply;

/// How many clients are remembered; the one that wrote longest ago is forgotten first.
pub const MAX_CLIENTS: usize = 10_000;

/// The last write of each client.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientTable {
    last: OrdMap<u64, ClientRecord>,
    by_age: OrdMap<Revision, u64>,
}

/// A client's last write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientRecord {
    /// Its number.
    pub seq: u64,
    /// Where it was applied.
    pub at: Revision,
    /// What was answered.
    pub reply: Result<Reply, RefusalText>,
}

impl ClientTable {
    /// The answer to a write that was applied before, or a refusal of one that a later one superseded.
    #[must_use]
    pub fn answered(&self, request: RequestId) -> Option<Result<Reply, Refusal>> {
        let record = self.last.get(&request.client).filter(|_| request.client != 0)?;
        match request.seq.cmp(&record.seq) {
            std::cmp::Ordering::Greater => None,
            std::cmp::Ordering::Equal => Some(record.reply.clone().map_err(Refusal::Told)),
            std::cmp::Ordering::Less => Some(Err(Refusal::SupersededRequest)),
        }
    }

    /// Remembers an answer.
    pub fn remember(&mut self, request: RequestId, at: Revision, reply: &Result<Reply, Refusal>) {
        if request.client == 0 {
            return;
        }
        let reply = reply.clone().map_err(|refusal| refusal.to_text());
        if let Some(old) = self.last.insert(request.client, ClientRecord { seq: request.seq, at, reply }) {
            self.by_age.remove(&old.at);
        }
        self.by_age.insert(at, request.client);
        if self.by_age.len() > MAX_CLIENTS
            && let (Some((_, client)), younger) = self.by_age.without_min_with_key()
        {
            self.by_age = younger;
            self.last.remove(&client);
        }
    }

    /// Whether this very write was applied before.
    #[must_use]
    pub fn knows(&self, request: RequestId) -> bool {
        self.last.get(&request.client).is_some_and(|record| record.seq == request.seq)
    }

    /// All records, for snapshots.
    pub fn records(&self) -> impl Iterator<Item = (u64, &ClientRecord)> {
        self.last.iter().map(|(client, record)| (*client, record))
    }

    /// Puts a record back, from a snapshot.
    pub fn restore(&mut self, client: u64, record: ClientRecord) {
        self.by_age.insert(record.at, client);
        self.last.insert(client, record);
    }
}
