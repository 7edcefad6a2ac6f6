//! The host's half as plain data, for the guard's re-exec: the new binary goes on with the same lease.

use serde::{Deserialize, Serialize};

use super::Grant;
use crate::id::{MembershipId, NodeId};
use crate::time::HostInstant;

/// A clock reading as plain data. Both clocks go on over an exec, so it stays comparable on the same kernel boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedInstant {
    /// `CLOCK_BOOTTIME`, nanoseconds.
    pub boottime_ns: u64,
    /// `CLOCK_MONOTONIC_RAW`, nanoseconds.
    pub raw_ns: u64,
}

impl From<HostInstant> for SavedInstant {
    fn from(at: HostInstant) -> Self {
        Self { boottime_ns: at.boottime_ns, raw_ns: at.raw_ns }
    }
}

impl From<SavedInstant> for HostInstant {
    fn from(at: SavedInstant) -> Self {
        Self { boottime_ns: at.boottime_ns, raw_ns: at.raw_ns }
    }
}

/// How far the life of a lease has got; see [`super::Phase`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SavedPhase {
    /// No deadline yet, or one that had not come.
    Alive,
    /// Killing had begun.
    Killing,
    /// Nothing exclusive was left.
    Fencing,
    /// The voters know that the session is over.
    Ended,
}

/// Everything that [`super::HostLease`] knows. Lists that were offered but not adopted are left out: the voters
/// send them again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostLeaseState {
    /// The grant, with the list of voters held now.
    pub grant: Grant,
    /// When the grant was received.
    pub granted_at: SavedInstant,
    /// How far the lease has got.
    pub phase: SavedPhase,
    /// Whether a voter answered that the session is closed.
    pub closed_seen: bool,
    /// The deadline; `None` before the first majority of acks.
    pub deadline: Option<SavedInstant>,
    /// The heartbeat on which the deadline rests; 0 without one.
    pub base_seq: u64,
    /// The recent heartbeats and when they were sent, ascending.
    pub sends: Vec<(u64, SavedInstant)>,
    /// The voters' newest acks: who, under which membership, of which heartbeat.
    pub votes: Vec<(NodeId, MembershipId, u64)>,
    /// When the last `Fenced` was sent.
    pub fenced_at: Option<SavedInstant>,
}
