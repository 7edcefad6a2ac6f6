//! What the leader knows of one open session: the voters' last reports, carried forward, and their promises.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::OVERDUE_DIVISOR;
use crate::id::{BootId, NodeId, Reopens};
use crate::lease::membership::{MAX_VOTERS, Membership, majority_of};
use crate::lease::voter::{AgentHeard, OpenSession};
use crate::time::{HostInstant, closing_age_ms};

/// What a voter last said of the session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reported {
    pub(super) age: Duration,
    pub(super) promised: Option<Reopens>,
    /// With the number of the heartbeat that it was heard with.
    pub(super) agent: (u64, AgentHeard),
    /// When the leader received it.
    pub(super) at: HostInstant,
}

impl Reported {
    fn age_at(&self, now: HostInstant) -> Duration {
        self.age + now.longest_since(self.at)
    }
}

/// One open session.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    pub(super) open: OpenSession,
    /// One a voter: a list, because they are few and looked up after every input.
    pub(super) reports: Vec<(NodeId, Reported)>,
    /// Promises under the present membership and count of re-openings.
    pub(super) promises: BTreeMap<NodeId, BootId>,
    /// From when a voter may be asked again for its promise.
    pub(super) ask_again_at: BTreeMap<NodeId, HostInstant>,
    /// When a close or a re-opening was last asked for.
    pub(super) proposed_at: Option<HostInstant>,
}

impl Watched {
    pub(super) fn new(open: OpenSession) -> Self {
        Self {
            open,
            reports: Vec::new(),
            promises: BTreeMap::new(),
            ask_again_at: BTreeMap::new(),
            proposed_at: None,
        }
    }

    /// What was promised so far is void: another membership, or the session was re-opened.
    pub(super) fn void_promises(&mut self) {
        self.promises.clear();
        self.ask_again_at.clear();
        self.proposed_at = None;
    }

    /// W.
    pub(super) fn closing_age(&self) -> Duration {
        Duration::from_millis(closing_age_ms(self.open.ttl_ms))
    }

    pub(super) fn ttl(&self) -> Duration {
        Duration::from_millis(u64::from(self.open.ttl_ms))
    }

    /// From which age of the lease on the session is overdue.
    pub(super) fn overdue_age(&self) -> Duration {
        self.ttl() / OVERDUE_DIVISOR
    }

    /// A voter's age of the session at `now`: what it reported plus the time since. If it has acked meanwhile the
    /// true age is less; asked for a promise it then says so.
    pub(super) fn age_at(&self, voter: NodeId, now: HostInstant) -> Option<Duration> {
        self.report_of(voter).map(|report| report.age_at(now))
    }

    /// Notes what a voter has said; its former word is replaced.
    pub(super) fn report(&mut self, voter: NodeId, report: Reported) {
        match self.reports.iter_mut().find(|(known, _)| *known == voter) {
            Some((_, former)) => *former = report,
            None => self.reports.push((voter, report)),
        }
    }

    fn report_of(&self, voter: NodeId) -> Option<&Reported> {
        self.reports.iter().find(|(known, _)| *known == voter).map(|(_, report)| report)
    }

    /// Whether there is certainly nothing to do about the session: nobody has promised or reached W. Asked after every
    /// input, and mostly true.
    pub(super) fn is_quiet(&self, now: HostInstant) -> bool {
        let closing_age = self.closing_age();
        let quiet = |report: &Reported| report.promised.is_none() && report.age_at(now) < closing_age;
        self.promises.is_empty() && self.reports.iter().all(|(_, report)| quiet(report))
    }

    /// Whether a majority (joint: of both halves) has reached W, and has been heard from within that time. To a leader that is
    /// cut off everybody looks expired. The few voters on its side, itself first, would give up what a majority holds
    /// on to, and be missing there when a voter of that majority dies, until each session is re-opened (R9).
    pub(super) fn majority_expired(
        &self,
        membership: &Membership,
        now: HostInstant,
        heard_within: Duration,
    ) -> bool {
        let expired = |report: &Reported| report.age_at(now) >= self.closing_age();
        let heard = |report: &Reported| now.longest_since(report.at) <= heard_within;
        membership
            .is_majority(|voter| self.report_of(voter).is_some_and(|report| expired(report) && heard(report)))
    }

    /// Whether a majority (joint: of both halves) has acked within `age`.
    pub(super) fn majority_within(&self, membership: &Membership, now: HostInstant, age: Duration) -> bool {
        membership.is_majority(|voter| self.age_at(voter, now).is_some_and(|known| known < age))
    }

    /// The age of the lease: the least age within which a majority (joint: of both halves) has acked. `None`
    /// until a majority has reported.
    pub(super) fn lease_age(&self, membership: &Membership, now: HostInstant) -> Option<Duration> {
        let mut oldest = None;
        for voters in &membership.configs {
            let half = self.ages_of(voters, now).least(majority_of(voters.len()))?;
            oldest = oldest.max(Some(half));
        }
        oldest
    }

    /// How long until a majority (joint: of both halves) has reached W if nobody acks meanwhile.
    pub(super) fn majority_expires_in(&self, membership: &Membership, now: HostInstant) -> Option<Duration> {
        let mut longest = None;
        for voters in &membership.configs {
            let half = self.ages_of(voters, now).largest(majority_of(voters.len()))?;
            longest = longest.max(Some(self.closing_age().saturating_sub(half)));
        }
        longest
    }

    /// The ages that these voters have reported, carried forward to `now`.
    fn ages_of(&self, voters: &BTreeSet<NodeId>, now: HostInstant) -> Ages {
        let mut ages = Ages::default();
        voters.iter().filter_map(|voter| self.age_at(*voter, now)).for_each(|age| ages.insert(age));
        ages
    }

    /// Whether a minority gave the session up by mistake (R9): some voter has promised, and a majority that has
    /// not keeps acking.
    pub(super) fn wants_reopening(&self, membership: &Membership, now: HostInstant) -> bool {
        let promised = |voter: NodeId| {
            let said = self.report_of(voter).and_then(|report| report.promised);
            said == Some(self.open.reopens) || self.promises.contains_key(&voter)
        };
        let fresh = |voter: NodeId| self.age_at(voter, now).is_some_and(|age| age < self.overdue_age());
        membership.configs.iter().flatten().any(|voter| promised(*voter))
            && membership.is_majority(|voter| fresh(voter) && !promised(voter))
    }

    /// Which voters of those at W should be asked for a promise now.
    pub(super) fn voters_to_ask(&self, membership: &Membership, now: HostInstant) -> Vec<NodeId> {
        let expired = |voter: &NodeId| self.age_at(*voter, now).is_some_and(|age| age >= self.closing_age());
        let due = |voter: &NodeId| self.ask_again_at.get(voter).is_none_or(|at| reached(now, *at));
        let open = |voter: &NodeId| !self.promises.contains_key(voter);
        membership.voters().into_iter().filter(|voter| expired(voter) && open(voter) && due(voter)).collect()
    }

    /// What the voters with a fresh age have heard of the agent: that it is there, or the shortest absence. A fresh age is
    /// no fresh word (R6 makes sessions younger without a heartbeat): 'there' counts unless a newer heartbeat says otherwise.
    pub(super) fn agent(&self, now: HostInstant) -> AgentHeard {
        let fresh = self.reports.iter().filter(|(_, report)| report.age_at(now) < self.overdue_age());
        let (mut present, mut absent) = (None, None::<(u64, Duration)>);
        for (seq, heard) in fresh.map(|(_, report)| report.agent) {
            match heard {
                AgentHeard::Nothing => {}
                AgentHeard::Present => present = present.max(Some(seq)),
                AgentHeard::Absent(time) => {
                    let (newest, shortest) = absent.unwrap_or((seq, time));
                    absent = Some((newest.max(seq), shortest.min(time)));
                }
            }
        }
        match absent {
            Some((seq, time)) if present < Some(seq) => AgentHeard::Absent(time),
            _ if present.is_some() => AgentHeard::Present,
            _ => AgentHeard::Nothing,
        }
    }
}

/// The ages of the voters of one set, ascending. The detector looks after every input, so this allocates nothing.
#[derive(Default)]
struct Ages {
    ages: [Duration; MAX_VOTERS],
    len: usize,
}

impl Ages {
    fn insert(&mut self, age: Duration) {
        if self.len == MAX_VOTERS {
            return;
        }
        let mut at = self.len;
        while at > 0 && self.ages[at - 1] > age {
            self.ages[at] = self.ages[at - 1];
            at -= 1;
        }
        self.ages[at] = age;
        self.len += 1;
    }

    /// The age that `count` of them don't exceed.
    fn least(&self, count: usize) -> Option<Duration> {
        self.ages[..self.len].get(count.checked_sub(1)?).copied()
    }

    /// The age that `count` of them have reached.
    fn largest(&self, count: usize) -> Option<Duration> {
        self.ages[..self.len].get(self.len.checked_sub(count)?).copied()
    }
}

/// Whether the moment `at` has come, by either clock.
pub(super) fn reached(now: HostInstant, at: HostInstant) -> bool {
    now.boottime_ns >= at.boottime_ns || now.raw_ns >= at.raw_ns
}

/// The moment `after` from `now`, on both clocks.
pub(super) fn plus(now: HostInstant, after: Duration) -> HostInstant {
    let after_ns = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
    HostInstant {
        boottime_ns: now.boottime_ns.saturating_add(after_ns),
        raw_ns: now.raw_ns.saturating_add(after_ns),
    }
}
