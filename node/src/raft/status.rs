//! What can be said about Raft on this node, in plain types.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::{Instant, RaftMetrics, ServerState};

use super::types::{Peer, TypeConfig, position};
use crate::storage::Position;

/// What this node is in the Raft group right now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Follows without a vote.
    Learner,
    /// Follows.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
    /// Has stopped.
    Stopped,
}

impl Role {
    pub(super) fn of(state: ServerState) -> Self {
        match state {
            ServerState::Learner => Self::Learner,
            ServerState::Follower => Self::Follower,
            ServerState::Candidate => Self::Candidate,
            ServerState::Leader => Self::Leader,
            ServerState::Shutdown => Self::Stopped,
        }
    }
}

/// Who leads, as this node knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// The term.
    pub term: u64,
    /// The leader, when one is known.
    pub leader: Option<u64>,
    /// What this node is.
    pub role: Role,
}

/// A snapshot of Raft's state on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftStatus {
    /// This node.
    pub id: u64,
    /// The term.
    pub term: u64,
    /// What this node is.
    pub role: Role,
    /// The leader, when one is known and has been heard of lately; on the leader itself, while a quorum answers.
    pub leader: Option<u64>,
    /// The last entry of this node's log.
    pub last_log_index: Option<u64>,
    /// The last entry that this node knows to be committed.
    pub committed: Option<Position>,
    /// The last entry that this node has applied.
    pub applied: Option<Position>,
    /// The newest snapshot.
    pub snapshot: Option<Position>,
    /// The last entry that was purged from the log.
    pub purged: Option<Position>,
    /// The membership entry that is in force; it may not be committed yet.
    pub membership_at: Option<Position>,
    /// Whether that entry is known to be committed.
    pub membership_committed: bool,
    /// The voters: one set, or the two halves of a change under way.
    pub voters: Vec<BTreeSet<u64>>,
    /// The members without a vote.
    pub learners: BTreeSet<u64>,
    /// All members with their addresses.
    pub peers: BTreeMap<u64, Peer>,
    /// On the leader: how long ago a quorum last answered.
    pub since_quorum_ack: Option<Duration>,
    /// On the leader: the last entry known to be on each follower's disk.
    pub matched: BTreeMap<u64, Option<u64>>,
    /// On the leader: how long ago each follower last answered; none when it never has.
    pub since_ack: BTreeMap<u64, Option<Duration>>,
    /// Bytes that were cut off the log's end at start, because a crash had left them half-written.
    pub torn_tail_bytes: u64,
    /// The size of the log on the disk.
    pub log_bytes: u64,
    /// Why Raft has stopped, if it has.
    pub stopped: Option<String>,
}

impl RaftStatus {
    /// Whether this node is a quorum by itself.
    pub(super) fn is_only_voter(&self) -> bool {
        self.voters == [BTreeSet::from([self.id])]
    }

    pub(super) fn of(metrics: &RaftMetrics<TypeConfig>, torn_tail_bytes: u64, log_bytes: u64) -> Self {
        let membership = metrics.membership_config.membership();
        let replication = metrics.replication.iter().flatten();
        let heartbeats = metrics.heartbeat.iter().flatten();
        Self {
            id: metrics.id,
            term: metrics.current_term,
            role: Role::of(metrics.state),
            leader: metrics.current_leader,
            last_log_index: metrics.last_log_index,
            committed: metrics.local_committed.as_ref().map(position),
            applied: metrics.last_applied.as_ref().map(position),
            snapshot: metrics.snapshot.as_ref().map(position),
            purged: metrics.purged.as_ref().map(position),
            membership_at: metrics.membership_config.log_id().as_ref().map(position),
            membership_committed: metrics.membership_config == metrics.committed_membership_config,
            voters: membership.get_joint_config().clone(),
            learners: membership.learner_ids().collect(),
            peers: membership.nodes().map(|(id, peer)| (*id, peer.clone())).collect(),
            since_quorum_ack: metrics.last_quorum_acked.map(|at| at.elapsed()),
            matched: replication.map(|(id, at)| (*id, at.as_ref().map(|at| at.index()))).collect(),
            since_ack: heartbeats.map(|(id, at)| (*id, at.map(|at| at.elapsed()))).collect(),
            torn_tail_bytes,
            log_bytes,
            stopped: metrics.running_state.as_ref().err().map(ToString::to_string),
        }
    }
}
