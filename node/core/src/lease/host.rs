//! The host's half of a lease, held by the guard: R1, R3, R4 and 'Lapse' of LEASES.md.
//!
//! ```text
//!            majority of acks            deadline − K, Closed,           nothing_left()        Closed
//!  Waiting ───────────────────▶ Active ──────────────────────▶ Killing ─────────────▶ Fencing ─────────▶ Ended
//!     │                          ▲  │    end()                    ▲   └──── nothing_left() after Closed ───▶ │
//!     │                          └──┘ renewals                    │
//!     └── no majority within 2·TTL of the grant, Closed, end() ───┘
//! ```
//!
//! Nothing leads back: killing is irrevocable, and a session that lapsed is never renewed. One thread owns the
//! value; sending, noting an ack and asking for the phase allocate nothing. Only a new list of voters does.
//!
//! The order in the guard's loop: read the clocks, call [`HostLease::heartbeat`] (it notes the send time), *then*
//! send to [`HostLease::targets`]. For each datagram that comes back, read the clocks again and call
//! [`HostLease::on_answer`]; when it says `renewed`, arm the shim's kernel timer at
//! [`HostLease::timer_boottime_ns`], as an absolute time.

mod adoption;
mod clock_rates;
mod saved;
mod sends;
#[cfg(test)]
mod tests;
mod votes;

use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::adoption::Offers;
use self::clock_rates::ClockRates;
pub use self::saved::{HostLeaseState, SavedInstant, SavedPhase};
use self::sends::SendTimes;
use self::votes::{Vote, Votes};
use super::message::{Ack, Answer, Fenced, Heartbeat, Tenure, VoterList};
use super::rules::{Rules, Sound};
use crate::id::NodeId;
use crate::time::HostInstant;

/// A session that no majority has acked within this many TTLs of its grant is given up: it may never get a lease.
const WAITING_TTLS: u32 = 2;

/// What the guard is given when its session is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The session and whose it is.
    pub tenure: Tenure,
    /// TTL, fixed for the session when it was opened.
    pub ttl_ms: u32,
    /// Period of the heartbeats, h.
    pub heartbeat_ms: u32,
    /// Kill budget, K.
    pub kill_budget_ms: u32,
    /// The voters, as the state machine had them when it gave the grant.
    pub list: VoterList,
}

/// How far the life of a lease has got. The drawing above has the ways between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Heartbeats are sent, no majority has acked yet: nothing exclusive may run.
    Waiting,
    /// Exclusive tasks may run until the deadline.
    Active,
    /// Every exclusive task must be killed now; for good.
    Killing,
    /// Nothing exclusive is left; the voters are told so until one answers that the session is closed.
    Fencing,
    /// The voters know that the session is over. The value has no further use.
    Ended,
}

/// What an answer of a voter changed. The caller acts on each flag that is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostEffect {
    /// The deadline moved: re-arm the kernel timer.
    pub renewed: bool,
    /// A newer list of voters is held.
    pub list_adopted: bool,
    /// [`HostLease::targets`] changed.
    pub targets_changed: bool,
    /// The session is closed: kill at once.
    pub kill: bool,
    /// The controller wishes an orderly stop: stop the tasks, then call [`HostLease::end`].
    pub release: bool,
}

/// An address of a voter to which heartbeats go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The voter.
    pub voter: NodeId,
    /// One of its addresses.
    pub address: SocketAddr,
}

/// The host's half of one session's lease.
#[derive(Clone, Debug)]
pub struct HostLease<R: Rules = Sound> {
    grant: Grant,
    granted_at: HostInstant,
    /// Latched; [`HostLease::phase`] moves it on by the clocks.
    phase: Phase,
    closed_seen: bool,
    deadline: Option<HostInstant>,
    base_seq: u64,
    sends: SendTimes,
    votes: Votes,
    offers: Offers,
    targets: Vec<Target>,
    rates: ClockRates,
    fenced_at: Option<HostInstant>,
    rules: PhantomData<R>,
}

impl<R: Rules> HostLease<R> {
    /// Begins to hold a session that was just granted. There is no lease before a majority has acked.
    #[must_use]
    pub fn new(now: HostInstant, grant: Grant) -> Self {
        let mut lease = Self {
            granted_at: now,
            phase: Phase::Waiting,
            closed_seen: false,
            deadline: None,
            base_seq: 0,
            sends: SendTimes::new(grant.ttl_ms, grant.heartbeat_ms),
            votes: Votes::new(),
            offers: Offers::default(),
            targets: Vec::new(),
            rates: ClockRates::new(now),
            fenced_at: None,
            rules: PhantomData,
            grant,
        };
        lease.list_targets();
        lease
    }

    /// Whose session this is.
    #[must_use]
    pub fn tenure(&self) -> Tenure {
        self.grant.tenure
    }

    /// The list of voters held.
    #[must_use]
    pub fn list(&self) -> &VoterList {
        &self.grant.list
    }

    /// Where each heartbeat and each `Fenced` goes: every address of every voter heard of (R1), each once.
    #[must_use]
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// How far the lease has got at `now`. Once it has said [`Phase::Killing`] it never goes back (R4).
    pub fn phase(&mut self, now: HostInstant) -> Phase {
        let over = match (self.phase, self.kill_at()) {
            (Phase::Waiting, _) => now.longest_since(self.granted_at) >= self.ttl() * WAITING_TTLS,
            (Phase::Active, Some(kill_at)) => reached(now, kill_at),
            (Phase::Active | Phase::Killing | Phase::Fencing | Phase::Ended, _) => false,
        };
        if over {
            self.phase = Phase::Killing;
        }
        self.phase
    }

    /// Whether an exclusive task may be started at `now` (R10: only with a valid lease).
    pub fn may_start(&mut self, now: HostInstant) -> bool {
        self.phase(now) == Phase::Active
    }

    /// The next heartbeat, to be sent to every target *after* this call, which notes its send time (R1).
    /// `None` once killing has begun: after a lapse no heartbeat is sent.
    pub fn heartbeat(&mut self, now: HostInstant, agent_present: bool) -> Option<Heartbeat> {
        self.rates.observe(now);
        match self.phase(now) {
            Phase::Waiting | Phase::Active => Some(Heartbeat {
                tenure: self.grant.tenure,
                seq: self.sends.record(now),
                list: self.grant.list.version(),
                agent_present,
            }),
            Phase::Killing | Phase::Fencing | Phase::Ended => None,
        }
    }

    /// How long until the next heartbeat or `Fenced` is due; zero when it is. `None` when neither is sent any more.
    pub fn send_due_in(&mut self, now: HostInstant) -> Option<Duration> {
        let last = match self.phase(now) {
            Phase::Waiting | Phase::Active => self.sends.last().map(|(_, sent)| sent),
            Phase::Fencing => self.fenced_at,
            Phase::Killing | Phase::Ended => return None,
        };
        Some(last.map_or(Duration::ZERO, |last| self.period().saturating_sub(now.longest_since(last))))
    }

    /// Takes what a voter sent back. The caller has checked its MAC under the session's key.
    pub fn on_answer(&mut self, now: HostInstant, answer: &Answer) -> HostEffect {
        let phase = self.phase(now);
        match answer {
            Answer::Closed(closed) if closed.tenure == self.grant.tenure => self.on_closed(phase),
            Answer::Ack(ack) if ack.tenure == self.grant.tenure && phase <= Phase::Active => {
                self.on_ack(now, ack)
            }
            Answer::Closed(_) | Answer::Ack(_) => HostEffect::default(),
        }
    }

    /// The agent has read in the applied state that the session is closed: as good as a voter's `Closed`. Without
    /// it a guard would fence for ever when no voter remembers the key of a session that was closed long ago.
    pub fn told_closed(&mut self, now: HostInstant) -> HostEffect {
        let phase = self.phase(now);
        self.on_closed(phase)
    }

    /// The deadline on both clocks; whichever clock reaches its value first ends the lease. `None` before the
    /// first majority of acks.
    #[must_use]
    pub fn deadline(&self) -> Option<HostInstant> {
        self.deadline
    }

    /// For people who ask why a lease was lost: how long ago the newest heartbeat was sent that each voter acked.
    /// `None`: longer ago than is remembered (two TTLs), or never.
    #[must_use]
    pub fn acked_ago(&self, now: HostInstant) -> Vec<(NodeId, Option<Duration>)> {
        let ago = |voter: NodeId| {
            let vote = self.votes.iter().find(|vote| vote.voter == voter)?;
            self.sends.get(vote.seq).map(|sent| now.longest_since(sent))
        };
        self.grant.list.membership.voters().into_iter().map(|voter| (voter, ago(voter))).collect()
    }

    /// When killing starts: K before the deadline (R4).
    #[must_use]
    pub fn kill_at(&self) -> Option<HostInstant> {
        self.deadline.map(|deadline| self.kill_at_of(deadline))
    }

    /// How long the lease still lasts by the clock that reaches the deadline first. Zero unless it is active.
    pub fn remaining(&mut self, now: HostInstant) -> Duration {
        match (self.phase(now), self.deadline) {
            (Phase::Active, Some(deadline)) => deadline.shortest_since(now),
            (Phase::Waiting | Phase::Active | Phase::Killing | Phase::Fencing | Phase::Ended, _) => {
                Duration::ZERO
            }
        }
    }

    /// The value for the shim's timer, which is absolute on `CLOCK_BOOTTIME`, in nanoseconds (R4): what remains
    /// until killing starts, shortened by σ because that clock alone may be slewed meanwhile. `now` itself once
    /// killing has begun; `None` before the first lease. Arm it with `TIMER_ABSTIME`: a relative timer would
    /// count from whenever the guard got around to arming it.
    pub fn timer_boottime_ns(&mut self, now: HostInstant) -> Option<u64> {
        let kill_at = self.kill_at()?;
        if self.phase(now) != Phase::Active {
            return Some(now.boottime_ns.max(1));
        }
        let left_ns = kill_at.shortest_since(now).as_nanos();
        let divisor = 1_000_000 + u128::from(self.rates.sigma_ppm(now));
        let corrected_ns = u64::try_from(left_ns * 1_000_000 / divisor).unwrap_or(u64::MAX);
        Some(now.boottime_ns.saturating_add(corrected_ns).max(1))
    }

    /// Gives the session up: the tasks are killed and the session is fenced. The end of an orderly stop, too.
    pub fn end(&mut self, now: HostInstant) {
        if self.phase(now) <= Phase::Active {
            self.phase = Phase::Killing;
        }
    }

    /// The caller has verified that nothing exclusive of this session is left on the host. Ignored unless killing
    /// has begun: while the lease lives, something may be started at any moment.
    pub fn nothing_left(&mut self, now: HostInstant) {
        if self.phase(now) == Phase::Killing {
            self.phase = if self.closed_seen { Phase::Ended } else { Phase::Fencing };
        }
    }

    /// The `Fenced` to send to every target now; at most one every h, until a voter answers `Closed` (R4, 'Lapse').
    pub fn fenced(&mut self, now: HostInstant) -> Option<Fenced> {
        if self.phase(now) != Phase::Fencing || self.send_due_in(now) != Some(Duration::ZERO) {
            return None;
        }
        self.fenced_at = Some(now);
        Some(Fenced { tenure: self.grant.tenure })
    }

    /// Everything that is known, for the guard's re-exec.
    #[must_use]
    pub fn save(&self) -> HostLeaseState {
        HostLeaseState {
            grant: self.grant.clone(),
            granted_at: self.granted_at.into(),
            phase: match self.phase {
                Phase::Waiting | Phase::Active => SavedPhase::Alive,
                Phase::Killing => SavedPhase::Killing,
                Phase::Fencing => SavedPhase::Fencing,
                Phase::Ended => SavedPhase::Ended,
            },
            closed_seen: self.closed_seen,
            deadline: self.deadline.map(Into::into),
            base_seq: self.base_seq,
            sends: self.sends.iter().map(|(seq, sent)| (seq, sent.into())).collect(),
            votes: self.votes.iter().map(|vote| (vote.voter, vote.membership, vote.seq)).collect(),
            fenced_at: self.fenced_at.map(Into::into),
        }
    }

    /// Goes on where another binary of this guard stopped, on the same kernel boot.
    #[must_use]
    pub fn restore(now: HostInstant, state: HostLeaseState) -> Self {
        let deadline: Option<HostInstant> = state.deadline.map(Into::into);
        let mut lease = Self::new(now, state.grant);
        lease.granted_at = state.granted_at.into();
        lease.phase = match (state.phase, deadline) {
            (SavedPhase::Alive, None) => Phase::Waiting,
            (SavedPhase::Alive, Some(_)) => Phase::Active,
            (SavedPhase::Killing, _) => Phase::Killing,
            (SavedPhase::Fencing, _) => Phase::Fencing,
            (SavedPhase::Ended, _) => Phase::Ended,
        };
        lease.closed_seen = state.closed_seen;
        lease.deadline = deadline;
        lease.base_seq = state.base_seq;
        lease.sends.restore(state.sends.into_iter().map(|(seq, sent)| (seq, sent.into())));
        for (voter, membership, seq) in state.votes {
            lease.votes.record(Vote { voter, membership, seq });
        }
        lease.fenced_at = state.fenced_at.map(Into::into);
        lease
    }

    fn on_closed(&mut self, phase: Phase) -> HostEffect {
        self.closed_seen = true;
        match phase {
            Phase::Waiting | Phase::Active => {
                self.phase = Phase::Killing;
                return HostEffect { kill: true, ..HostEffect::default() };
            }
            Phase::Fencing => self.phase = Phase::Ended,
            Phase::Killing | Phase::Ended => {}
        }
        HostEffect::default()
    }

    fn on_ack(&mut self, now: HostInstant, ack: &Ack) -> HostEffect {
        let mut effect = HostEffect { release: ack.release, ..HostEffect::default() };
        if self.sends.get(ack.seq).is_none() {
            // Never sent by this session, or so long ago that it can't renew anything: no word of a voter.
            return HostEffect::default();
        }
        if let Some(list) = ack.list.as_ref().filter(|_| R::FOLLOWS_MEMBERSHIP) {
            self.on_list(ack, list, &mut effect);
        }
        if self.heard_of(ack.voter) {
            let membership = ack.list_version.membership;
            self.votes.record(Vote { voter: ack.voter, membership, seq: ack.seq });
        }
        effect.renewed = self.renew(now);
        effect
    }

    /// R3: notes what the voter vouches for, and adopts a newer list, id and content together, once a majority
    /// of the list held vouches for it.
    fn on_list(&mut self, ack: &Ack, list: &Arc<VoterList>, effect: &mut HostEffect) {
        let held = self.grant.list.version();
        if list.version() != ack.list_version || !self.heard_of(ack.voter) {
            return;
        }
        if !self.offers.record(held, ack.voter, list) {
            return;
        }
        if let Some(adopted) = self.offers.adoptable::<R>(&self.grant.list) {
            self.offers.forget_older(adopted.version());
            self.grant.list = Arc::unwrap_or_clone(adopted);
            effect.list_adopted = true;
        }
        effect.targets_changed = self.list_targets();
        let (list, offers) = (&self.grant.list, &self.offers);
        self.votes.retain(|voter| is_named(list, offers, voter));
    }

    /// R3: deadline = max(deadline, base + TTL), where base is the latest send time that a majority of the
    /// membership held has acked, or a later one. True when the deadline moved.
    fn renew(&mut self, now: HostInstant) -> bool {
        let membership = &self.grant.list.membership;
        let counts = |vote: &Vote| !R::FOLLOWS_MEMBERSHIP || vote.membership == membership.id;
        let acked = if R::LEASE_NEEDS_MAJORITY {
            self.votes.majority_seq(membership, counts)
        } else {
            self.votes.any_seq()
        };
        let Some(seq) = acked.filter(|seq| *seq > self.base_seq) else { return false };
        let Some(sent) = self.sends.get(seq) else { return false };
        let base = R::lease_base(sent, now);
        let ttl_ns = u64::from(self.grant.ttl_ms) * 1_000_000;
        let until = HostInstant {
            boottime_ns: base.boottime_ns.saturating_add(ttl_ns),
            raw_ns: base.raw_ns.saturating_add(ttl_ns),
        };
        if reached(now, self.kill_at_of(until)) {
            // The acks took nearly a TTL: what they would give is over already.
            return false;
        }
        self.base_seq = seq;
        self.deadline = Some(later(self.deadline, until));
        self.phase = Phase::Active;
        true
    }

    fn kill_at_of(&self, deadline: HostInstant) -> HostInstant {
        let budget_ns = u64::from(R::kill_budget_ms(self.grant.kill_budget_ms)) * 1_000_000;
        HostInstant {
            boottime_ns: deadline.boottime_ns.saturating_sub(budget_ns),
            raw_ns: deadline.raw_ns.saturating_sub(budget_ns),
        }
    }

    /// Lists the targets anew; true when they changed.
    fn list_targets(&mut self) -> bool {
        let offered = self.offers.iter().flat_map(|(_, list)| &list.voters);
        let mut targets: Vec<Target> = self
            .grant
            .list
            .voters
            .iter()
            .chain(offered)
            .flat_map(|entry| {
                entry.addresses.iter().map(|address| Target { voter: entry.node, address: *address })
            })
            .collect();
        targets.sort_unstable();
        targets.dedup();
        let changed = targets != self.targets;
        self.targets = targets;
        changed
    }

    fn heard_of(&self, voter: NodeId) -> bool {
        is_named(&self.grant.list, &self.offers, voter)
    }

    fn ttl(&self) -> Duration {
        Duration::from_millis(u64::from(self.grant.ttl_ms))
    }

    fn period(&self) -> Duration {
        Duration::from_millis(u64::from(self.grant.heartbeat_ms))
    }
}

/// Whether the list held or a list that was offered names this voter.
fn is_named(list: &VoterList, offers: &Offers, voter: NodeId) -> bool {
    list.membership.contains(voter) || offers.iter().any(|(_, list)| list.membership.contains(voter))
}

/// Whether one of the two clocks has reached its value: the host takes the larger elapsed time (R3).
fn reached(now: HostInstant, at: HostInstant) -> bool {
    now.boottime_ns >= at.boottime_ns || now.raw_ns >= at.raw_ns
}

/// The later of both deadlines, by each clock.
fn later(known: Option<HostInstant>, new: HostInstant) -> HostInstant {
    known.map_or(new, |known| HostInstant {
        boottime_ns: known.boottime_ns.max(new.boottime_ns),
        raw_ns: known.raw_ns.max(new.raw_ns),
    })
}
