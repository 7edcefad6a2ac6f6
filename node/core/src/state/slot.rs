//! Slots and their placements.

use crate::id::{Generation, NodeId, SessionId};
use crate::scheduler::plan::Target;
use crate::time::Stamp;

/// One slot of a service. It holds at most one placement if the service is exclusive; otherwise the newest one
/// counts and older ones are superseded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// Its placements, oldest first.
    pub placements: Vec<Placement>,
    /// Failures by node, newest last, at most [`KEPT_FAILURES`].
    pub failures: Vec<Failure>,
    /// Where an operator wishes it next; used up by the next placement, so that no constraint stays behind.
    pub wish: Option<NodeId>,
    /// Since when it has no placement although it should have one.
    pub vacant_since: Option<Stamp>,
}

/// How many failures a slot remembers.
pub const KEPT_FAILURES: usize = 16;

/// An instance's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Where.
    pub node: NodeId,
    /// Under which session; none for an instance that runs without one (R13).
    pub session: Option<SessionId>,
    /// The fencing token.
    pub generation: Generation,
    /// What should happen to it.
    pub phase: Phase,
    /// What its agent said last.
    pub observed: Observed,
    /// Why it is here.
    pub reason: String,
    /// When it was placed.
    pub since: Stamp,
}

/// What should happen to a placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Run.
    Active,
    /// Stop, then tell. With a target, the slot goes there in the same apply.
    Revoking {
        /// Where next.
        target: Option<Target>,
        /// Since when.
        since: Stamp,
    },
    /// Its node's session was closed; a non-exclusive instance may still run there (R13).
    Adrift {
        /// Since when.
        since: Stamp,
    },
}

/// What an agent said about an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Its state.
    pub state: InstanceState,
    /// Since when.
    pub since: Stamp,
    /// Restarts on this node under this placement.
    pub restarts: u32,
    /// In words.
    pub message: Option<String>,
}

/// The state of an instance, as users see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InstanceState {
    /// Assigned; its agent has not begun.
    Placed,
    /// Its tasks are being started.
    Starting,
    /// All tasks run, and are healthy where that is checked.
    Running,
    /// It runs, but a health check fails.
    Unhealthy,
    /// It is being stopped.
    Stopping,
    /// It was stopped.
    Stopped,
    /// A task ended or could not be started.
    Failed,
    /// Its node is lost; it may still run if it is not exclusive.
    Lost,
}

impl InstanceState {
    /// The stable name in output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Placed => "placed",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Unhealthy => "unhealthy",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Lost => "lost",
        }
    }
}

/// One failure of an instance on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Where.
    pub node: NodeId,
    /// When.
    pub at: Stamp,
    /// In words.
    pub message: String,
}

impl Slot {
    /// The placement that counts: the newest that is not adrift, or else the newest.
    #[must_use]
    pub fn current(&self) -> Option<&Placement> {
        self.placements.last()
    }

    /// The placement of that generation.
    #[must_use]
    pub fn placement(&self, generation: Generation) -> Option<&Placement> {
        self.placements.iter().find(|p| p.generation == generation)
    }

    /// Whether nothing needs to be remembered about it.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.placements.is_empty()
            && self.failures.is_empty()
            && self.wish.is_none()
            && self.vacant_since.is_none()
    }
}

impl Placement {
    /// Whether it runs and is healthy.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.observed.state == InstanceState::Running && matches!(self.phase, Phase::Active)
    }

    /// Whether it is on its way out.
    #[must_use]
    pub fn is_revoking(&self) -> bool {
        matches!(self.phase, Phase::Revoking { .. })
    }

    /// Whether its node's session was closed under it.
    #[must_use]
    pub fn is_adrift(&self) -> bool {
        matches!(self.phase, Phase::Adrift { .. })
    }
}
