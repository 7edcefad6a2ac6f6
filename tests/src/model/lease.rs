//! One session: a host that holds a lease of it, the voters that grant it, and the log that may close it.
//!
//! The host's clock drives `acked`, each voter's clock its `age`. A heartbeat and its ack either travel as datagrams
//! that may be late, lost, doubled and overtaken, or, where the number of states forbids that, arrive at once or never:
//! an ack that arrives at once gives the host the longest lease that any later arrival could give it.

mod actions;
mod moves;

pub use self::actions::Action;

use super::Weakened;

/// How heartbeats and acks travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// As datagrams: late, lost, doubled, overtaken.
    Datagrams,
    /// At once or never.
    Immediate,
}

/// One configuration of the model, with `N` voters.
#[derive(Clone, Debug)]
pub struct Lease<const N: usize> {
    /// TTL in ticks.
    pub ttl: u8,
    /// W in ticks.
    pub closing_age: u8,
    /// Each clock may be wrong by one tick in so many; none: all clocks agree.
    pub wrong_every: Option<u8>,
    /// How datagrams travel.
    pub network: Network,
    /// How many Reopens the log may hold.
    pub reopens: u8,
    /// The guard may stall at any moment; the kernel's timer alone ends the service (R4).
    pub guard_stalls: bool,
    /// The rule that is missing.
    pub weakened: Option<Weakened>,
}

impl<const N: usize> Lease<N> {
    /// All clocks agree, nothing is re-opened, the guard kills in time.
    #[must_use]
    pub fn sound(ttl: u8, network: Network) -> Self {
        let (wrong_every, reopens, guard_stalls) = (None, 0, false);
        Self { ttl, closing_age: ttl, wrong_every, network, reopens, guard_stalls, weakened: None }
    }

    /// The same without that rule.
    #[must_use]
    pub fn without(self, rule: Weakened) -> Self {
        Self { weakened: Some(rule), ..self }
    }

    fn lacks(&self, rule: Weakened) -> bool {
        self.weakened == Some(rule)
    }

    /// From which age of the lease's base on the service is certainly dead.
    fn dead_from(&self) -> u8 {
        self.ttl + u8::from(self.lacks(Weakened::KillsAtTheDeadline))
    }
}

/// A heartbeat on its way to a voter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Heartbeat {
    /// How long ago it was sent, on the host's clock.
    sent_ago: u8,
    /// This boot of the voter has received a copy of it.
    seen: bool,
}

/// One voter, and what host and log know of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Voter {
    /// It has restarted, and its VoterUp is not applied (R8).
    starting: bool,
    /// Ticks of its own clock since it last acked, or was reset (R6); at most W.
    age: u8,
    /// The gen that it has applied (R9).
    reopens: u8,
    /// Its memory: the gen under which it promised never to ack again (R5).
    promised: Option<u8>,
    /// It has applied the close.
    knows_closed: bool,
    /// The log would take these promises of it: one bit a gen.
    promises: u8,
    /// What it promised before its VoterUp, if that is allowed.
    early: u8,
    /// The promises of its boot before.
    former_promises: u8,
    /// Ticks of the host's clock since the newest heartbeat was sent that it is known to have acked.
    acked: u8,
    /// The newest heartbeat on its way to it.
    heartbeat: Option<Heartbeat>,
    /// The ack on its way to the host: how long ago its heartbeat was sent.
    ack: Option<u8>,
}

/// Everything at one moment. Voters are alike, so their order means nothing: it is kept sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State<const N: usize> {
    voters: [Voter; N],
    /// Something exclusive runs on the host.
    running: bool,
    /// The log holds a valid CloseSession: another host may run the service.
    closed: bool,
    /// How many Reopens the log holds.
    reopens: u8,
    /// Ticks modulo `wrong_every`.
    tick: u8,
    /// The machine is paused with its clocks; and whether it was before.
    paused: bool,
    was_paused: bool,
    /// In how many ticks the kernel's timer kills; and the value that the guard is about to arm.
    timer: u8,
    arming: Option<u8>,
}

impl<const N: usize> State<N> {
    /// The age of the latest send that a majority has acked: a lease lasts until it is TTL (R3).
    fn base(&self, acks_needed: usize) -> u8 {
        let mut ages = self.voters.map(|voter| voter.acked);
        ages.sort_unstable();
        ages[acks_needed - 1]
    }

    fn sorted(mut self) -> Self {
        self.voters.sort_unstable();
        self
    }
}
