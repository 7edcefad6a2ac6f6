//! A change of voters, old → joint → new, under one session: who grants leases, who may close, and which list the host
//! goes by. Voters restart on the way; one may send a wrong list.
//!
//! The log holds two membership entries; a VoterUp or a CloseSession is known by how many of them precede it. Heartbeat
//! and ack are one step, as in [`super::lease::Network::Immediate`].

mod actions;
mod moves;

pub use self::actions::Action;

use super::Weakened;

/// The memberships in the order of their ids, which are their numbers here.
const OLD: u8 = 0;
const JOINT: u8 = 1;
const NEW: u8 = 2;
/// What a liar says: a later membership in which it votes alone.
const LIE: u8 = 3;

/// When the host adopts a newer list (R3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adoption {
    /// A majority of the list held sent this very list: as `node/core` has it.
    SameList,
    /// A majority of the list held named its id or a later one: as LEASES.md allows.
    SameOrLater,
}

/// One configuration of the model; voters are numbered from 0 to `N` − 1.
#[derive(Clone, Debug)]
pub struct Membership<const N: usize> {
    /// The voters before the change, one bit each.
    pub old: u8,
    /// The voters after it.
    pub new: u8,
    /// TTL and W in ticks: all clocks agree.
    pub ttl: u8,
    /// How many restarts of voters there may be.
    pub restarts: u8,
    /// Uncommitted entries may be truncated.
    pub truncations: bool,
    /// Who sends wrong lists.
    pub liar: Option<usize>,
    /// When a list is adopted.
    pub adoption: Adoption,
    /// The rule that is missing.
    pub weakened: Option<Weakened>,
}

impl<const N: usize> Membership<N> {
    /// Nobody restarts, nobody lies.
    #[must_use]
    pub fn sound(old: u8, new: u8, ttl: u8) -> Self {
        let (restarts, truncations, liar, adoption) = (0, false, None, Adoption::SameList);
        Self { old, new, ttl, restarts, truncations, liar, adoption, weakened: None }
    }

    /// The same without that rule.
    #[must_use]
    pub fn without(self, rule: Weakened) -> Self {
        Self { weakened: Some(rule), ..self }
    }

    fn lacks(&self, rule: Weakened) -> bool {
        self.weakened == Some(rule)
    }

    /// Whether `has` holds for a majority of the membership; in the joint one of both halves.
    fn is_majority(&self, membership: u8, has: impl Fn(usize) -> bool) -> bool {
        let most = |voters: u8| {
            let count = (0..N).filter(|voter| voters & (1 << voter) != 0 && has(*voter)).count();
            count > usize::try_from(voters.count_ones() / 2).unwrap_or(N)
        };
        match membership {
            OLD => most(self.old),
            JOINT => most(self.old) && most(self.new),
            NEW => most(self.new),
            _ => self.liar.is_some_and(&has),
        }
    }

    fn votes(&self, membership: u8, voter: usize) -> bool {
        let voters = match membership {
            OLD => self.old,
            JOINT => self.old | self.new,
            _ => self.new,
        };
        voters & (1 << voter) != 0
    }

    /// What makes two voters alike.
    fn class(&self, voter: usize) -> (bool, bool, bool) {
        (self.votes(OLD, voter), self.votes(NEW, voter), self.liar == Some(voter))
    }
}

/// How far the start of a voter has got (R8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Start {
    /// Its VoterUp is applied.
    #[default]
    Up,
    /// It has started.
    Started,
    /// Its VoterUp is in the log, after so many membership entries, and maybe after the close.
    Committed { after: u8, closed: bool },
}

/// One voter, and what host and log know of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Voter {
    start: Start,
    /// How many membership entries its log holds, and how many of them it has applied.
    appended: u8,
    applied: u8,
    /// Ticks since it last acked, or was reset (R6); at most W.
    age: u8,
    /// It has promised never to ack again (R5).
    promised: bool,
    /// Its start came after the close in the log.
    knows_closed: bool,
    /// The log would take these promises of it: one bit a membership.
    promises: u8,
    /// What it promised before its VoterUp, if that is allowed.
    early: u8,
    /// The newest membership that an ack of it named, and how long ago that heartbeat was sent.
    named: u8,
    acked: u8,
}

/// Everything at one moment. Voters of the same class are alike: they are kept sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State<const N: usize> {
    voters: [Voter; N],
    /// The guard has its grant.
    granted: bool,
    /// The membership whose list the host holds: at first that of its grant.
    held: u8,
    /// The age of the lease's base (R3).
    base: u8,
    /// Something exclusive runs on the host.
    running: bool,
    /// How many membership entries precede the CloseSession, if the log holds one.
    closed: Option<u8>,
    /// How many membership entries the leader's log holds, and how many are committed.
    log: u8,
    committed: u8,
    restarts: u8,
}
