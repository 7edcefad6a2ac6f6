//! Whether the leader that openraft names still leads as far as anybody can know: openraft goes on naming the last
//! one that it knew, and a leader that has lost its quorum goes on leading.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use muster_core::time::Timing;
use tokio::time::Instant;

use super::status::{RaftStatus, Role};
use crate::clock;

/// A leader is believed in for so many of the longest election timeouts, and one heartbeat, after its last sign of
/// life: where there is a quorum another one has been elected by then.
const SILENT_ELECTIONS: u32 = 2;

/// When this node last answered its leader.
pub(crate) struct Contact {
    patience: Duration,
    heard_at: Mutex<Option<Instant>>,
}

impl Contact {
    pub(super) fn new(timing: &Timing) -> Self {
        let election = Duration::from_millis(timing.raft_election_max_ms.into());
        let heartbeat = Duration::from_millis(timing.raft_heartbeat_ms.into());
        Self { patience: election * SILENT_ELECTIONS + heartbeat, heard_at: Mutex::new(None) }
    }

    /// The leader sent something, and this node accepted that it leads.
    pub(super) fn heard(&self) {
        *self.heard_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(clock::monotonic());
    }

    /// Whether the leader that `status` names has shown lately that it leads: to this node, or, if this is the
    /// node, by the answers of a quorum.
    pub(super) fn confirms(&self, status: &RaftStatus) -> bool {
        let silence = match status.role {
            Role::Leader if status.is_only_voter() => return true,
            Role::Leader => status.since_quorum_ack,
            Role::Learner | Role::Follower | Role::Candidate | Role::Stopped => {
                let heard_at = *self.heard_at.lock().unwrap_or_else(PoisonError::into_inner);
                heard_at.map(|at| clock::monotonic().saturating_duration_since(at))
            }
        };
        silence.is_some_and(|silence| silence <= self.patience)
    }
}
