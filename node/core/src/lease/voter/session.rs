//! What a voter keeps of one open session: its age and its promise (R2d, R5, R6, R9).

use std::time::Duration;

use super::promise::AgentHeard;
use crate::id::{NodeId, Reopens};
use crate::time::HostInstant;

/// How many heartbeats back one that comes late is still answered: longer than any profile's TTL, beyond which an ack
/// is worth nothing. What is older has been recorded by somebody.
const REPLAY_WINDOW: u64 = 64;

/// One session that is open in the voter's applied state.
#[derive(Clone, Debug)]
pub(super) struct Tracked {
    pub(super) node: NodeId,
    pub(super) ttl_ms: u32,
    /// As applied.
    pub(super) reopens: Reopens,
    /// When the session was last acked, or counts as acked.
    pub(super) last_ack: HostInstant,
    /// The highest heartbeat number seen in this boot of the voter.
    pub(super) highest_seq: u64,
    /// The count of re-openings that the promise named; `None`: not promised. From the promise on the session
    /// is never acked, until a `Reopen` to a higher count.
    pub(super) promised: Option<Reopens>,
    /// What its newest heartbeat said of the agent.
    pub(super) agent: AgentSeen,
    /// The controller wishes an orderly stop.
    pub(super) release: bool,
}

/// What a session's newest heartbeat said of the host's agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum AgentSeen {
    /// There was none since this voter started.
    #[default]
    Nothing,
    Present,
    /// When the first and the last of those came that say so without a break.
    Absent {
        since: HostInstant,
        heard: HostInstant,
    },
}

impl AgentSeen {
    pub(super) fn hear(&mut self, now: HostInstant, present: bool) {
        *self = match self {
            _ if present => Self::Present,
            Self::Absent { since, .. } => Self::Absent { since: *since, heard: now },
            Self::Nothing | Self::Present => Self::Absent { since: now, heard: now },
        };
    }

    pub(super) fn told(self) -> AgentHeard {
        match self {
            Self::Nothing => AgentHeard::Nothing,
            Self::Present => AgentHeard::Present,
            Self::Absent { since, heard } => AgentHeard::Absent(heard.shortest_since(since)),
        }
    }
}

impl Tracked {
    /// The age on the voter's slowest clock (R3, R5).
    pub(super) fn age(&self, now: HostInstant) -> Duration {
        now.shortest_since(self.last_ack)
    }

    /// Whether a heartbeat of that number is too old to be answered.
    pub(super) fn is_behind(&self, seq: u64) -> bool {
        self.highest_seq.saturating_sub(seq) >= REPLAY_WINDOW
    }

    /// Makes the session `gap` younger, on each clock by that clock's part of it (R6, stalls).
    pub(super) fn shift(&mut self, stalled_since: HostInstant, now: HostInstant) {
        let absent = match &mut self.agent {
            AgentSeen::Absent { since, heard } => [Some(since), Some(heard)],
            AgentSeen::Nothing | AgentSeen::Present => [None, None],
        };
        for at in [Some(&mut self.last_ack)].into_iter().chain(absent).flatten() {
            let boot_gap = now.boottime_ns.saturating_sub(stalled_since.boottime_ns);
            let raw_gap = now.raw_ns.saturating_sub(stalled_since.raw_ns);
            at.boottime_ns = at.boottime_ns.saturating_add(boot_gap).min(now.boottime_ns);
            at.raw_ns = at.raw_ns.saturating_add(raw_gap).min(now.raw_ns);
        }
    }
}
