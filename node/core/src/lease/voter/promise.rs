//! The words of the close round between leader and voter (R5), and a voter's report of ages.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{BootId, MembershipId, NodeId, Reopens, SessionId};

/// The leader asks a voter to promise that it never acks this session again: Close{E, C, gen}.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CloseRequest {
    /// The session E.
    pub session: SessionId,
    /// The membership C that the leader has applied.
    pub membership: MembershipId,
    /// How often E was re-opened, as the leader has applied it.
    pub reopens: Reopens,
}

/// A voter's promise, valid for its present boot only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Promise {
    /// The session E.
    pub session: SessionId,
    /// The voter's own applied membership.
    pub membership: MembershipId,
    /// The voter's own applied count of re-openings.
    pub reopens: Reopens,
    /// Who promises.
    pub voter: NodeId,
    /// In which boot.
    pub boot: BootId,
}

/// Why a voter neither promises nor, but for the last three, acks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Refusal {
    /// R2(a).
    #[error("not a voter in the applied membership")]
    NotVoter,
    /// R2(b).
    #[error("the log holds a membership entry that is not applied yet")]
    MembershipPending,
    /// R2(c).
    #[error("this start of the voter is not committed yet")]
    NotUp,
    /// R2(d).
    #[error("the session is not open in the applied state")]
    NotOpen,
    /// R5.
    #[error("the applied membership is {own}")]
    OtherMembership {
        /// The voter's own.
        own: MembershipId,
    },
    /// R5.
    #[error("the session was re-opened {own} times in the applied state")]
    OtherReopens {
        /// The voter's own.
        own: Reopens,
    },
    /// R5: the age is below W.
    #[error("the session was acked too lately: ask again in {} ms", wait.as_millis())]
    TooYoung {
        /// How long until the age is W if nothing is acked meanwhile, on the voter's slowest clock.
        wait: Duration,
    },
}

/// What a voter tells the leader of one session. It is no promise (R5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgeReport {
    /// The session.
    pub session: SessionId,
    /// Its age on the voter's slowest clock.
    pub age: Duration,
    /// The count of re-openings that the voter's promise names; `None`: it has not promised.
    pub promised: Option<Reopens>,
    /// What the heartbeats say of the host's agent.
    pub agent: AgentHeard,
    /// The highest heartbeat number that this was heard with: of two voters' words the newer one counts.
    pub seq: u64,
}

/// What a voter has heard of a host's agent with the heartbeats of its guard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentHeard {
    /// Nothing yet: the voter has just started, or the session was just opened.
    #[default]
    Nothing,
    /// It is there.
    Present,
    /// It had been gone for so long when the newest heartbeat came.
    Absent(Duration),
}

/// What a voter tells the leader of all sessions at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgeReports {
    /// Who reports.
    pub voter: NodeId,
    /// In which boot.
    pub boot: BootId,
    /// One entry for each session open in the voter's applied state, ascending.
    pub sessions: Vec<AgeReport>,
}
