//! Open sessions.

use crate::command::SessionKey;
use crate::id::{BootId, NodeId, Reopens, SessionId};
use crate::spec::Enforcement;
use crate::time::{Stamp, Timing, closing_age_ms};

/// One uninterrupted tenure of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// E.
    pub id: SessionId,
    /// Whose.
    pub node: NodeId,
    /// The guard's start that holds it.
    pub guard_boot: BootId,
    /// Checks its datagrams. Reaches voters only.
    pub key: SessionKey,
    /// Heartbeat, TTL and kill budget, fixed when it was opened.
    pub timing: Timing,
    /// The best that its guard can give.
    pub enforcement: Enforcement,
    /// gen: promises of a lower one are void (R9).
    pub reopens: Reopens,
    /// When it was opened.
    pub opened: Stamp,
    /// Since when its host is known to have no agent: what runs goes on, but nothing new can start there.
    pub agent_gone: Option<Stamp>,
}

impl Session {
    /// W: the age at which a voter may promise to give it up, in milliseconds.
    #[must_use]
    pub fn closing_age_ms(&self) -> u64 {
        closing_age_ms(self.timing.lease_ttl_ms)
    }
}
