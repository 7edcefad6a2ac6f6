//! The network between all processes: loss, delay, duplication, reordering, and cuts of single directions.

use std::sync::Arc;

use muster_core::id::{NodeId, SessionId};
use muster_core::lease::voter::{AgeReports, CloseRequest, Promise, Refusal};
use muster_core::lease::{Answer, Fenced, Heartbeat};

use super::clocks::{MS, Time};
use super::ledger::{Entry, Ledger};
use super::replica::LogEntry;
use super::rng::Rng;

/// What travels.
#[allow(missing_docs, reason = "the variants say it; their fields are named for what they are")]
#[derive(Clone, Debug)]
pub enum Message {
    /// R1.
    Beat(Heartbeat, u64),
    /// R2.
    Answer(Answer),
    /// R4, under this key.
    Fenced(Fenced, u64),
    /// Raft: entries for a follower.
    Append { term: u64, prev: (u64, u64), entries: Vec<LogEntry>, commit: u64 },
    /// Raft: what a follower holds now, or a hint.
    Appended { term: u64, matched: Result<u64, u64> },
    /// Raft: a state instead of entries.
    Snapshot { term: u64, state: Arc<Ledger>, last_term: u64 },
    /// The leader's question.
    AskAges,
    /// A voter's ages.
    Ages(AgeReports),
    /// R5.
    AskPromise(CloseRequest),
    /// R5.
    Promised(Promise),
    /// R5.
    Refused(SessionId, Refusal),
    /// Something to write.
    Propose(Arc<Entry>),
}

/// Room for all who take part: replicas are numbered from 1, hosts from 101.
const PLACES: usize = 16;

/// The state of the network.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// Until when each direction is cut.
    cuts: [[Time; PLACES]; PLACES],
    /// Datagrams lost, in percent.
    pub loss_percent: u64,
    /// Datagrams that arrive twice, in percent.
    pub twice_percent: u64,
    /// Until when many messages are held up, and by how much at most.
    pub slow: (Time, Time),
}

impl Network {
    /// Cuts one direction until then.
    pub fn cut(&mut self, from: NodeId, to: NodeId, until: Time) {
        let known = &mut self.cuts[place(from)][place(to)];
        *known = until.max(*known);
    }

    /// Whether messages get from one to the other.
    #[must_use]
    pub fn connects(&self, from: NodeId, to: NodeId, at: Time) -> bool {
        from == to || self.cuts[place(from)][place(to)] <= at
    }

    /// Ends every trouble.
    pub fn heal(&mut self) {
        *self = Self::default();
    }

    /// When copies of a message sent now arrive; none when it is lost. Only datagrams are lost on a link that is
    /// not cut, and arrive twice.
    pub fn arrivals(
        &self,
        from: NodeId,
        to: NodeId,
        datagram: bool,
        at: Time,
        rng: &mut Rng,
    ) -> [Option<Time>; 2] {
        if from == to {
            return [Some(at + MS / 20), None];
        }
        if !self.connects(from, to, at) || (datagram && rng.percent(self.loss_percent)) {
            return [None, None];
        }
        let second = (datagram && rng.percent(self.twice_percent)).then(|| at + self.delay(at, rng));
        [Some(at + self.delay(at, rng)), second]
    }

    fn delay(&self, at: Time, rng: &mut Rng) -> Time {
        if self.slow.0 > at && rng.percent(40) {
            return rng.between(MS, self.slow.1);
        }
        rng.between(MS / 10, MS)
    }
}

/// Replicas from the front, hosts from the back.
fn place(id: NodeId) -> usize {
    let number = usize::try_from(id.0).unwrap_or(0);
    if number < PLACES { number } else { PLACES - number % 100 }
}
