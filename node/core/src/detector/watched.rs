//! What the leader knows of one open session: the voters' last reports, carried forward, and their promises.

use std::collections::BTreeMap;
use std::time::Duration;

use super::OVERDUE_DIVISOR;
use crate::id::{BootId, NodeId, Reopens};
use crate::lease::membership::{Membership, majority_of};
use crate::lease::voter::OpenSession;
use crate::time::{HostInstant, closing_age_ms};

/// What a voter last said of the session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reported {
    pub(super) age: Duration,
    pub(super) promised: Option<Reopens>,
    pub(super) agent_absent: Duration,
    /// When the leader received it.
    pub(super) at: HostInstant,
}

/// One open session.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    pub(super) open: OpenSession,
    pub(super) reports: BTreeMap<NodeId, Reported>,
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
            reports: BTreeMap::new(),
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
        self.reports.get(&voter).map(|report| report.age + now.longest_since(report.at))
    }

    /// The age of the lease: the least age within which a majority (joint: of both halves) has acked. `None`
    /// until a majority has reported.
    pub(super) fn lease_age(&self, membership: &Membership, now: HostInstant) -> Option<Duration> {
        let mut oldest = None;
        for voters in &membership.configs {
            let mut ages: Vec<Duration> =
                voters.iter().filter_map(|voter| self.age_at(*voter, now)).collect();
            ages.sort_unstable();
            let half = *ages.get(majority_of(voters.len()) - 1)?;
            oldest = oldest.max(Some(half));
        }
        oldest
    }

    /// How long until a majority (joint: of both halves) has reached W if nobody acks meanwhile.
    pub(super) fn majority_expires_in(&self, membership: &Membership, now: HostInstant) -> Option<Duration> {
        let mut longest = None;
        for voters in &membership.configs {
            let mut waits: Vec<Duration> = voters
                .iter()
                .filter_map(|voter| self.age_at(*voter, now))
                .map(|age| self.closing_age().saturating_sub(age))
                .collect();
            waits.sort_unstable();
            let half = *waits.get(majority_of(voters.len()) - 1)?;
            longest = longest.max(Some(half));
        }
        longest
    }

    /// Whether a minority gave the session up by mistake (R9): some voter has promised, and a majority that has
    /// not keeps acking.
    pub(super) fn wants_reopening(&self, membership: &Membership, now: HostInstant) -> bool {
        let promised = |voter: NodeId| {
            let said = self.reports.get(&voter).and_then(|report| report.promised);
            said == Some(self.open.reopens) || self.promises.contains_key(&voter)
        };
        let fresh = |voter: NodeId| self.age_at(voter, now).is_some_and(|age| age < self.overdue_age());
        membership.voters().into_iter().any(promised)
            && membership.is_majority(|voter| fresh(voter) && !promised(voter))
    }

    /// Which voters of those at W should be asked for a promise now.
    pub(super) fn voters_to_ask(&self, membership: &Membership, now: HostInstant) -> Vec<NodeId> {
        let expired = |voter: &NodeId| self.age_at(*voter, now).is_some_and(|age| age >= self.closing_age());
        let due = |voter: &NodeId| self.ask_again_at.get(voter).is_none_or(|at| reached(now, *at));
        let open = |voter: &NodeId| !self.promises.contains_key(voter);
        membership.voters().into_iter().filter(|voter| expired(voter) && open(voter) && due(voter)).collect()
    }

    /// The shortest absence of the agent that a voter with a fresh age reported.
    pub(super) fn agent_absent(&self, now: HostInstant) -> Duration {
        let fresh = |report: &&Reported| report.age + now.longest_since(report.at) < self.overdue_age();
        self.reports.values().filter(fresh).map(|report| report.agent_absent).min().unwrap_or_default()
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
