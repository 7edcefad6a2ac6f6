//! Sessions and placements of two hosts, with one exclusive service (R4, R10, R11).
//!
//! The lease is taken for granted, as the other models prove it: a session is closed by promises only when the lease of
//! its guard is over, and then at any moment. Messages to guards are never lost for good: they arrive at any later time,
//! any number of times.

mod actions;
mod moves;

pub use self::actions::Action;

use super::Weakened;

/// How many placements one run may have at most.
const MOST_PLACEMENTS: usize = 4;

/// One configuration of the model.
#[derive(Clone, Debug)]
pub struct Sessions {
    /// How many sessions may be opened.
    pub sessions: u8,
    /// How many placements may be made, at most [`MOST_PLACEMENTS`].
    pub placements: u8,
    /// The rule that is missing.
    pub weakened: Option<Weakened>,
}

impl Sessions {
    /// So many sessions and placements.
    #[must_use]
    pub fn sound(sessions: u8, placements: u8) -> Self {
        Self { sessions, placements, weakened: None }
    }

    /// The same without that rule.
    #[must_use]
    pub fn without(self, rule: Weakened) -> Self {
        Self { weakened: Some(rule), ..self }
    }

    fn lacks(&self, rule: Weakened) -> bool {
        self.weakened == Some(rule)
    }
}

/// What a guard is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Guard {
    /// It asks for a session.
    #[default]
    Asking,
    /// It holds a session, with a valid lease.
    Leased(u8),
    /// Its lease is over and everything killed; it says Fenced until the session is closed.
    Fencing(u8),
    /// It is dead.
    Dead,
}

impl Guard {
    /// The session that it holds or fences.
    fn session(self) -> Option<u8> {
        match self {
            Self::Leased(session) | Self::Fencing(session) => Some(session),
            Self::Asking | Self::Dead => None,
        }
    }
}

/// One host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Host {
    guard: Guard,
    /// The generation that runs under the guard; 0: none.
    runs: u8,
    /// Something runs without a guard.
    orphan: bool,
    /// The highest generation that the guard will never start (R10); forgotten when it dies.
    revoked: u8,
    /// The last session of a guard here, from the token in the run directory.
    token: u8,
    /// The host's open session in the replicated state; 0: none.
    open: u8,
}

impl Host {
    fn alive(&self) -> bool {
        self.runs > 0 || self.orphan
    }
}

/// A placement that was made; its generation is its number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Placement {
    host: u8,
    session: u8,
}

/// Everything at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    hosts: [Host; 2],
    /// All placements so far: any of them may still be on its way to its guard.
    made: [Placement; MOST_PLACEMENTS],
    placements: u8,
    /// The generation that holds the slot; 0: it is vacant.
    holder: u8,
    /// It is to be stopped, and goes to that host next.
    revoking: Option<Option<u8>>,
    sessions: u8,
    /// Which generations were reported as stopped, one bit each.
    stopped: u8,
    /// Which sessions were said to be fenced, one bit each.
    fenced: u8,
}

impl State {
    /// The placement of a generation.
    fn placement(&self, generation: u8) -> Placement {
        self.made[usize::from(generation) - 1]
    }
}
