//! The replicated application, as Raft sees it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::types::{Membership, Peer, Reply, StoredMembership, position};
use crate::storage::Position;
use crate::storage::snapshot::{RecordReader, RecordWriter, SnapshotError};

/// A command that this agent can't apply, most likely because a later version wrote it. The agent stops:
/// were it skipped, this node's state would differ from the others' from then on.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub struct FatalApply {
    /// What is wrong, and what to do.
    pub detail: String,
}

/// The membership that is in force at some point of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MembershipView {
    /// Where it was set; nothing while the node belongs to no cluster.
    pub at: Option<Position>,
    /// The voters: one set, or two while a change is under way (both halves must agree then).
    pub configs: Vec<BTreeSet<u64>>,
    /// All members, learners included.
    pub peers: BTreeMap<u64, Peer>,
}

impl MembershipView {
    pub(super) fn of(stored: &StoredMembership) -> Self {
        Self::new(stored.log_id().as_ref().map(position), stored.membership())
    }

    pub(super) fn new(at: Option<Position>, membership: &Membership) -> Self {
        Self {
            at,
            configs: membership.get_joint_config().clone(),
            peers: membership.nodes().map(|(id, peer)| (*id, peer.clone())).collect(),
        }
    }
}

/// The replicated application. All calls come one after the other, in the order of the log.
pub trait Replica: Send + Sync + 'static {
    /// Applies a command. A bad command is a reply; an error ends the agent.
    ///
    /// # Errors
    /// [`FatalApply`] when the command can't be understood.
    fn apply(&mut self, at: Position, payload: Bytes) -> Result<Option<Reply>, FatalApply>;

    /// A membership has been committed and is in force from here on.
    fn apply_membership(&mut self, membership: &MembershipView);

    /// A new leader has begun its term.
    fn apply_blank(&mut self, at: Position);

    /// A batch has been applied: called before the proposers of its commands get their replies, so that they
    /// see their own writes in what is published here.
    fn publish(&mut self);

    /// A view of the state that later calls don't change. Called between applies, so it must be cheap.
    fn freeze(&self) -> Box<dyn Frozen>;

    /// Replaces the whole state by that of a snapshot taken at `at`, and publishes it. Called on a thread
    /// that may block. On an error the old state may be kept or not: the agent ends.
    ///
    /// # Errors
    /// [`SnapshotError::Record`] when a record can't be understood, or the reader's own error.
    fn install(
        &mut self,
        at: Position,
        membership: &MembershipView,
        records: &mut RecordReader,
    ) -> Result<(), SnapshotError>;
}

/// A frozen state that writes itself down.
pub trait Frozen: Send + Sync {
    /// Writes the records of a snapshot. Called on a thread that may block.
    ///
    /// # Errors
    /// The writer's error, or [`SnapshotError::Record`].
    fn write(self: Box<Self>, records: &mut RecordWriter) -> Result<(), SnapshotError>;
}
