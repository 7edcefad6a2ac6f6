//! One replica of the control plane: a log, a state and the voter's half of the leases. Raft's rules for logs,
//! terms and commits are real; elections are decided by an oracle that asks the voters in one instant.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_core::detector::Detector;
use muster_core::id::{BootId, ClusterId, Incarnation, MembershipId, NodeId};
use muster_core::lease::Membership;
use muster_core::lease::voter::VoterIdentity;
use muster_core::time::HostInstant;

use super::clocks::{Clocks, Time};
use super::ledger::{Effect, Entry, Ledger};
use super::protocol::{Protocol, VoterHalf};

/// A term and what was appended in it.
pub type LogEntry = (u64, Arc<Entry>);

/// The only cluster there is.
pub const CLUSTER: ClusterId = ClusterId(1);
/// Its only incarnation.
pub const INCARNATION: Incarnation = Incarnation(1);

/// What a leader keeps.
pub struct Leading {
    /// The next index to send to each follower.
    pub next: BTreeMap<NodeId, u64>,
    /// The last index known to be in each follower's log.
    pub matched: BTreeMap<NodeId, u64>,
    /// Whom to ask for what.
    pub detector: Detector,
    /// When entries or an empty append were last sent to all.
    pub sent_at: Time,
}

/// One replica.
pub struct Replica {
    /// Who.
    pub id: NodeId,
    /// Its process runs.
    pub up: bool,
    /// Its process is stopped until then.
    pub frozen_until: Time,
    /// It appends but applies nothing until then.
    pub apply_stalled_until: Time,
    /// It sends wrong lists of voters.
    pub liar: bool,
    /// Its clocks.
    pub clocks: Clocks,
    /// This start.
    pub boot: BootId,
    /// Counts starts, so that a former start's timers are ignored.
    pub epoch: u64,
    /// The highest term heard of; on disk.
    pub term: u64,
    /// The index and term of the last entry before `log`; on disk.
    pub base: (u64, u64),
    /// The entries after `base`; on disk.
    pub log: Vec<LogEntry>,
    /// The state at `base`; on disk.
    pub snapshot: Arc<Ledger>,
    /// Known to be committed.
    pub commit: u64,
    /// The newest membership in its log, applied or not: what Raft goes by.
    effective: Arc<Membership>,
    /// The applied state, shared with snapshots until it changes.
    pub ledger: Arc<Ledger>,
    /// The voter's half.
    pub voter: Box<dyn VoterHalf>,
    /// Set while it believes that it leads.
    pub leading: Option<Leading>,
}

impl Replica {
    /// A replica with the log of a new cluster, started at `now`.
    pub fn new(id: NodeId, boot: BootId, clocks: Clocks, initial: &Arc<Ledger>, protocol: &Protocol) -> Self {
        let identity = VoterIdentity { cluster: CLUSTER, incarnation: INCARNATION, node: id, boot };
        let voter = (protocol.voter)(clocks.read(0), identity, initial.for_voter(id, BTreeSet::new()));
        Self {
            id,
            up: true,
            frozen_until: 0,
            apply_stalled_until: 0,
            liar: false,
            clocks,
            boot,
            epoch: 0,
            term: 1,
            base: (initial.revision, 1),
            log: Vec::new(),
            snapshot: Arc::clone(initial),
            commit: initial.revision,
            effective: Arc::new(initial.list.membership.clone()),
            ledger: Arc::clone(initial),
            voter,
            leading: None,
        }
    }

    /// Starts again with what its disk holds: the log, and the state of its snapshot or a later one.
    pub fn restart(&mut self, at: Time, boot: BootId, from_snapshot: bool, protocol: &Protocol) {
        self.up = true;
        self.epoch += 1;
        self.boot = boot;
        self.leading = None;
        self.frozen_until = 0;
        if from_snapshot {
            self.ledger = Arc::clone(&self.snapshot);
            self.commit = self.base.0;
        }
        let pending = self.memberships_above(self.ledger.revision);
        let identity = VoterIdentity { cluster: CLUSTER, incarnation: INCARNATION, node: self.id, boot };
        self.voter = (protocol.voter)(self.now(at), identity, self.ledger.for_voter(self.id, pending));
    }

    /// What its clocks show.
    #[must_use]
    pub fn now(&self, at: Time) -> HostInstant {
        self.clocks.read(at)
    }

    /// The index of its last entry.
    #[must_use]
    pub fn last_index(&self) -> u64 {
        self.base.0 + count(self.log.len())
    }

    /// The term of an entry; `None` when it is not in the log.
    #[must_use]
    pub fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.base.0 { Some(self.base.1) } else { self.entry(index).map(|(term, _)| *term) }
    }

    /// The term and index of its last entry: what an election compares.
    #[must_use]
    pub fn newest(&self) -> (u64, u64) {
        (self.term_at(self.last_index()).unwrap_or(0), self.last_index())
    }

    /// The newest membership in its log, applied or not: what Raft goes by.
    #[must_use]
    pub fn effective(&self) -> &Arc<Membership> {
        &self.effective
    }

    fn newest_membership(&self) -> Membership {
        for (at, (_, entry)) in self.log.iter().enumerate().rev() {
            if let Entry::Membership(configs) = entry.as_ref() {
                let id = MembershipId(self.base.0 + count(at) + 1);
                return Membership { id, configs: configs.clone() };
            }
        }
        // Without one in the log the newest is in the snapshot, or was applied from entries that are in the log.
        self.snapshot.list.membership.clone()
    }

    /// Appends as the leader. A membership entry closes the gate before it goes to the log (R2b).
    pub fn append(&mut self, entry: Arc<Entry>) -> u64 {
        let index = self.last_index() + 1;
        if let Entry::Membership(configs) = entry.as_ref() {
            let id = MembershipId(index);
            self.voter.membership_appended(id);
            self.effective = Arc::new(Membership { id, configs: configs.clone() });
        }
        self.log.push((self.term, entry));
        index
    }

    /// Takes a leader's entries. The index up to which the log now agrees, or a hint where it may.
    pub fn take(&mut self, prev: (u64, u64), entries: &[LogEntry], commit: u64) -> Result<u64, u64> {
        if prev.0 > self.last_index() || (prev.0 >= self.base.0 && self.term_at(prev.0) != Some(prev.1)) {
            return Err(self.last_index().min(prev.0.saturating_sub(1)));
        }
        for (at, entry) in entries.iter().enumerate() {
            let index = prev.0 + count(at) + 1;
            if index <= self.base.0 || self.term_at(index) == Some(entry.0) {
                continue;
            }
            if index <= self.last_index() {
                self.truncate(index);
            }
            let term = std::mem::replace(&mut self.term, entry.0);
            self.append(Arc::clone(&entry.1));
            self.term = term;
        }
        let matched = prev.0 + count(entries.len());
        self.commit = self.commit.max(commit.min(matched));
        Ok(matched)
    }

    /// Replaces log and state by a leader's snapshot, unless its own state is as new.
    pub fn install(&mut self, at: Time, snapshot: &Arc<Ledger>, last_term: u64) {
        let index = snapshot.revision;
        if index <= self.ledger.revision {
            return;
        }
        let agrees = self.term_at(index) == Some(last_term);
        let dropped = usize::try_from(index - self.base.0).unwrap_or(usize::MAX).min(self.log.len());
        self.log.drain(..if agrees { dropped } else { self.log.len() });
        self.base = (index, last_term);
        self.snapshot = Arc::clone(snapshot);
        self.ledger = Arc::clone(snapshot);
        self.commit = self.commit.max(index);
        self.effective = Arc::new(self.newest_membership());
        let pending = self.memberships_above(index);
        let now = self.now(at);
        self.voter.snapshot_installed(now, self.ledger.for_voter(self.id, pending));
    }

    /// Applies the next committed entry, if there is one: its index and what it did.
    pub fn apply_next(&mut self, at: Time, protocol: &Protocol) -> Option<(u64, Option<Effect>)> {
        if self.apply_stalled_until > at || self.ledger.revision >= self.commit.min(self.last_index()) {
            return None;
        }
        let index = self.ledger.revision + 1;
        let entry = Arc::clone(&self.entry(index)?.1);
        let effect = Arc::make_mut(&mut self.ledger).apply(index, &entry, protocol);
        let now = self.now(at);
        match &effect {
            Some(Effect::Listed) => self.voter.list_applied(now, Arc::clone(&self.ledger.list)),
            Some(Effect::Up(voter, boot)) => self.voter.voter_up_applied(*voter, *boot),
            Some(Effect::Opened(open)) => self.voter.session_opened(now, *open),
            Some(Effect::Closed(session, _)) => self.voter.session_closed(*session),
            Some(Effect::Reopened(session, reopens)) => self.voter.session_reopened(now, *session, *reopens),
            None => {}
        }
        self.voter.applied_to(muster_core::id::Revision(index));
        Some((index, effect))
    }

    /// As the leader: the highest index that a majority holds, if it is of this term.
    #[must_use]
    pub fn committable(&self) -> Option<u64> {
        let leading = self.leading.as_ref()?;
        let membership = &self.effective;
        let holds = |index: u64| {
            membership.is_majority(|node| {
                if node == self.id {
                    index <= self.last_index()
                } else {
                    leading.matched.get(&node).is_some_and(|at| *at >= index)
                }
            })
        };
        let newer = (self.commit + 1..=self.last_index()).rev();
        newer.take_while(|index| self.term_at(*index) == Some(self.term)).find(|index| holds(*index))
    }

    /// An entry of the log.
    #[must_use]
    pub fn entry(&self, index: u64) -> Option<&LogEntry> {
        let at = index.checked_sub(self.base.0 + 1)?;
        self.log.get(usize::try_from(at).ok()?)
    }

    /// The entries from `from` on, at most `limit`.
    #[must_use]
    pub fn entries_from(&self, from: u64, limit: usize) -> Vec<LogEntry> {
        let skip = usize::try_from(from.saturating_sub(self.base.0 + 1)).unwrap_or(usize::MAX);
        self.log.iter().skip(skip).take(limit).cloned().collect()
    }

    /// The membership entries that the log holds above `index`.
    #[must_use]
    pub fn memberships_above(&self, index: u64) -> BTreeSet<MembershipId> {
        let entries = self.log.iter().enumerate();
        entries
            .filter(|(_, (_, entry))| matches!(entry.as_ref(), Entry::Membership(_)))
            .map(|(at, _)| MembershipId(self.base.0 + count(at) + 1))
            .filter(|id| id.0 > index)
            .collect()
    }

    fn truncate(&mut self, from: u64) {
        let keep = usize::try_from(from - self.base.0 - 1).unwrap_or(0);
        self.log.truncate(keep);
        if self.effective.id.0 >= from {
            self.effective = Arc::new(self.newest_membership());
        }
        self.voter.log_truncated(from);
    }
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
