//! The leader's failure detector: whose session has expired, and whom to ask to give it up (R5, R7, R9).
//!
//! It decides nothing about safety. It only chooses when to ask for what; the voters judge each promise by their
//! own clocks, and every replica judges the close at apply. A detector with wrong ages asks too often or too late.
//!
//! ```text
//!   ages of a majority, carried forward, reach W ─▶ AskPromise ─▶ promises of a majority ─▶ Close
//!   some voter has promised, a majority keeps acking ─────────────────────────────────────▶ Reopen
//! ```
//!
//! One lives as long as one leadership and starts empty: promises are asked for again, and given at once. The
//! caller feeds it what it applies, runs [`Detector::poll`] after each input and at the latest after
//! [`Detector::next_wakeup`], and carries out the [`Request`]s.

#[cfg(test)]
mod tests;
mod watched;

use std::collections::BTreeMap;
use std::time::Duration;

use self::watched::{Reported, Watched, plus, reached};
use crate::id::{BootId, NodeId, Reopens, SessionId};
use crate::lease::close::CloseSession;
use crate::lease::membership::Membership;
use crate::lease::voter::{AgeReports, AgentHeard, CloseRequest, OpenSession, Promise, Refusal};
use crate::time::{HostInstant, Timing};

/// A session is overdue when its lease is older than this part of its TTL.
pub const OVERDUE_DIVISOR: u32 = 3;
/// The voters are asked for ages at most this many times in a TTL.
const POLLS_IN_TTL: u32 = 8;
/// As long as every lease is known to be younger than this part of its TTL, nobody is asked: an idle cluster costs
/// half as much, and all leases stay well below the age at which they are overdue.
const FRESH_DIVISOR: u32 = 4;
/// A voter from which so many polls brought no report may be out of reach.
const POLLS_UNHEARD: u32 = 4;
/// A close or re-opening that has not been applied after this is asked for again.
const PROPOSE_AGAIN: Duration = Duration::from_millis(500);

/// What the leader should do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Ask these voters for the ages of all sessions.
    AskAges {
        /// Whom.
        voters: Vec<NodeId>,
    },
    /// Ask these voters for their promises.
    AskPromise {
        /// Whom.
        voters: Vec<NodeId>,
        /// What.
        request: CloseRequest,
    },
    /// Propose this close, together with a plan for what the node held.
    Close(CloseSession),
    /// Propose to re-open this session.
    Reopen {
        /// The session.
        session: SessionId,
        /// The count that it raises to.
        to: Reopens,
    },
}

/// How a session does, for people and for the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionHealth {
    /// Whose session.
    pub node: NodeId,
    /// How long ago a majority acked; `None` until a majority has reported to this leader.
    pub lease_age: Option<Duration>,
    /// TTL less the age of the lease; zero when that is not known.
    pub headroom: Duration,
    /// The host is suspect: its lease is older than a third of its TTL.
    pub overdue: bool,
    /// What is heard of the host's agent while its guard keeps the lease.
    pub agent: AgentHeard,
}

/// The leader's failure detector.
#[derive(Clone, Debug)]
pub struct Detector {
    timing: Timing,
    membership: Membership,
    boots: BTreeMap<NodeId, BootId>,
    sessions: BTreeMap<SessionId, Watched>,
    polled_at: Option<HostInstant>,
}

impl Detector {
    /// A detector for one leadership, with the membership that the leader has applied.
    #[must_use]
    pub fn new(timing: Timing, membership: Membership) -> Self {
        Self { timing, membership, boots: BTreeMap::new(), sessions: BTreeMap::new(), polled_at: None }
    }

    // ---- what the leader applies ----------------------------------------------------------------------------

    /// A membership entry was applied: promises under the old one are void (R7).
    pub fn membership_applied(&mut self, membership: Membership) {
        if membership.id != self.membership.id {
            self.sessions.values_mut().for_each(Watched::void_promises);
        }
        self.membership = membership;
    }

    /// The cluster's timing changed; the sessions keep the TTL that they were opened with.
    pub fn timing_applied(&mut self, timing: Timing) {
        self.timing = timing;
    }

    /// A `VoterUp` took effect.
    pub fn voter_up_applied(&mut self, voter: NodeId, boot: BootId) {
        self.boots.insert(voter, boot);
    }

    /// A session was opened, or is open when the leadership begins.
    pub fn session_opened(&mut self, open: OpenSession) {
        self.sessions.entry(open.session).or_insert_with(|| Watched::new(open));
    }

    /// A session was re-opened: promises of a lower count are void (R9).
    pub fn session_reopened(&mut self, session: SessionId, reopens: Reopens) {
        if let Some(watched) = self.sessions.get_mut(&session).filter(|known| known.open.reopens != reopens) {
            watched.open.reopens = reopens;
            watched.void_promises();
        }
    }

    /// A session was closed.
    pub fn session_closed(&mut self, session: SessionId) {
        self.sessions.remove(&session);
    }

    /// The sessions that it watches.
    pub fn sessions(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.sessions.keys().copied()
    }

    // ---- what the voters say --------------------------------------------------------------------------------

    /// A voter has reported its ages.
    pub fn on_ages(&mut self, now: HostInstant, reports: &AgeReports) {
        for report in &reports.sessions {
            if let Some(watched) = self.sessions.get_mut(&report.session) {
                let reported = Reported {
                    age: report.age,
                    promised: report.promised,
                    agent: (report.seq, report.agent),
                    at: now,
                };
                watched.report(reports.voter, reported);
            }
        }
    }

    /// A voter has promised. What was promised under another membership or count is dropped.
    pub fn on_promise(&mut self, promise: Promise) {
        let Some(watched) = self.sessions.get_mut(&promise.session) else { return };
        if promise.membership == self.membership.id && promise.reopens == watched.open.reopens {
            watched.promises.insert(promise.voter, promise.boot);
        }
    }

    /// A voter has refused to promise.
    pub fn on_refusal(&mut self, now: HostInstant, voter: NodeId, session: SessionId, refusal: Refusal) {
        let Some(watched) = self.sessions.get_mut(&session) else { return };
        if let Refusal::TooYoung { wait } = refusal {
            let age = watched.closing_age().saturating_sub(wait);
            let report = Reported { age, promised: None, agent: (0, AgentHeard::Nothing), at: now };
            watched.report(voter, report);
            watched.ask_again_at.insert(voter, plus(now, wait));
        }
    }

    // ---- what to do -----------------------------------------------------------------------------------------

    /// What to do now. Repeats what stays unanswered, at a measured pace.
    pub fn poll(&mut self, now: HostInstant) -> Vec<Request> {
        let mut requests = Vec::new();
        if self.poll_is_due(now) {
            self.polled_at = Some(now);
            requests.push(Request::AskAges { voters: self.membership.voters().into_iter().collect() });
        }
        let pace = Pace { ask_again: self.ask_again(), heard_within: self.poll_every() * POLLS_UNHEARD };
        for watched in self.sessions.values_mut() {
            requests.extend(decide(watched, &self.membership, &self.boots, now, pace));
        }
        requests
    }

    /// How long until [`Detector::poll`] may have something to do without further input.
    #[must_use]
    pub fn next_wakeup(&self, now: HostInstant) -> Duration {
        let expiries = self.sessions.values().filter_map(|watched| {
            let expires_in = watched.majority_expires_in(&self.membership, now)?;
            // Once it has expired, the next thing to do is to ask again.
            Some(if expires_in.is_zero() { self.ask_again() } else { expires_in })
        });
        let waits = self.sessions.values().flat_map(|watched| {
            watched.ask_again_at.values().filter(|at| !reached(now, **at)).map(|at| at.shortest_since(now))
        });
        expiries.chain(waits).fold(self.poll_due_in(now), Duration::min)
    }

    // ---- for people and the controller --------------------------------------------------------------------

    /// How a session does at `now`; `None` unless it is open.
    #[must_use]
    pub fn health(&self, now: HostInstant, session: SessionId) -> Option<SessionHealth> {
        let watched = self.sessions.get(&session)?;
        let lease_age = watched.lease_age(&self.membership, now);
        Some(SessionHealth {
            node: watched.open.node,
            lease_age,
            headroom: lease_age.map_or(Duration::ZERO, |age| watched.ttl().saturating_sub(age)),
            overdue: lease_age.is_some_and(|age| age >= watched.overdue_age()),
            agent: watched.agent(now),
        })
    }

    /// Whether the session's lease is older than a third of its TTL: the host is suspect.
    #[must_use]
    pub fn overdue(&self, now: HostInstant, session: SessionId) -> bool {
        let Some(watched) = self.sessions.get(&session) else { return false };
        watched.lease_age(&self.membership, now).is_some_and(|age| age >= watched.overdue_age())
    }

    /// Whether the leader may propose a membership change (R7): every session is known to be in time. A change
    /// restarts all ages and would delay a failover that is under way.
    #[must_use]
    pub fn membership_change_allowed(&self, now: HostInstant) -> bool {
        self.sessions
            .values()
            .all(|watched| watched.majority_within(&self.membership, now, watched.overdue_age()))
    }

    fn poll_due_in(&self, now: HostInstant) -> Duration {
        let Some(polled) = self.polled_at else { return Duration::ZERO };
        self.poll_every().saturating_sub(now.longest_since(polled)).max(self.all_fresh_for(now))
    }

    /// Whether `poll_due_in` is zero; asked after every input, so the cheap half of the answer comes first.
    fn poll_is_due(&self, now: HostInstant) -> bool {
        let Some(polled) = self.polled_at else { return true };
        if now.longest_since(polled) < self.poll_every() {
            return false;
        }
        let fresh =
            |watched: &Watched| watched.majority_within(&self.membership, now, watched.ttl() / FRESH_DIVISOR);
        self.sessions.is_empty() || !self.sessions.values().all(fresh)
    }

    fn poll_every(&self) -> Duration {
        (self.timing.ttl() / POLLS_IN_TTL).max(self.ask_again())
    }

    /// For how long all leases stay fresh without a further report; nothing while one's age is unknown.
    fn all_fresh_for(&self, now: HostInstant) -> Duration {
        let fresh_for = self.sessions.values().map(|watched| {
            let age = watched.lease_age(&self.membership, now);
            age.map_or(Duration::ZERO, |age| (watched.ttl() / FRESH_DIVISOR).saturating_sub(age))
        });
        fresh_for.min().unwrap_or_default()
    }

    /// How long an unanswered request for a promise waits before it is repeated.
    fn ask_again(&self) -> Duration {
        Duration::from_millis(u64::from(self.timing.heartbeat_ms))
    }
}

/// How long the detector waits for answers.
#[derive(Clone, Copy)]
struct Pace {
    /// For one that was asked for, until it is asked for again.
    ask_again: Duration,
    /// For a report, until its voter may be out of reach.
    heard_within: Duration,
}

/// What to do about one session: close it, ask for promises, or take it back.
fn decide(
    watched: &mut Watched,
    membership: &Membership,
    boots: &BTreeMap<NodeId, BootId>,
    now: HostInstant,
    pace: Pace,
) -> Option<Request> {
    if watched.is_quiet(now) {
        return None;
    }
    // A promise of an earlier boot is worth nothing (R7); the voter is asked again.
    watched.promises.retain(|voter, boot| boots.get(voter) == Some(boot));
    let OpenSession { session, reopens, .. } = watched.open;
    let may_propose = watched.proposed_at.is_none_or(|at| now.longest_since(at) >= PROPOSE_AGAIN);
    if membership.is_majority(|voter| watched.promises.contains_key(&voter)) {
        watched.proposed_at = if may_propose { Some(now) } else { watched.proposed_at };
        let promises = watched.promises.iter().filter(|(voter, _)| membership.contains(**voter));
        let promises = promises.map(|(voter, boot)| (*voter, *boot)).collect();
        let close = CloseSession { session, membership: membership.id, reopens, promises };
        return may_propose.then_some(Request::Close(close));
    }
    if watched.wants_reopening(membership, now) {
        watched.proposed_at = if may_propose { Some(now) } else { watched.proposed_at };
        return may_propose.then(|| Request::Reopen { session, to: Reopens(reopens.0 + 1) });
    }
    if !watched.majority_expired(membership, now, pace.heard_within) {
        return None;
    }
    let voters = watched.voters_to_ask(membership, now);
    for voter in &voters {
        watched.ask_again_at.insert(*voter, plus(now, pace.ask_again));
    }
    let request = CloseRequest { session, membership: membership.id, reopens };
    (!voters.is_empty()).then_some(Request::AskPromise { voters, request })
}
