//! A plan: immutable, complete, and naming the revision it was computed from.

use crate::id::{Generation, NodeId, Revision, SessionId, SlotId};

/// What is to happen to slots, in order. It leaves the executor no choice; each action is judged again at apply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The state's topology revision from which it was computed ([`crate::state::State::topology`]). A plan from
    /// another topology is refused as a whole, except inside `CloseSession` and `Fenced`, which change it.
    pub base: Revision,
    /// The actions.
    pub actions: Vec<Action>,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// The slot it is about.
    pub slot: SlotId,
    /// What happens.
    pub kind: ActionKind,
    /// Why, in words; kept with the placement for `explain`.
    pub reason: String,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActionKind {
    /// Places the slot. For an exclusive slot the session must be open and no placement may be left (R10); for
    /// others a newer placement supersedes the older ones, which run on until they are revoked.
    Assign(Target),
    /// Asks the guard to end a placement. With a target, its `Stopped` places the slot there at once.
    Revoke {
        /// Which placement.
        generation: Generation,
        /// Where it goes next.
        target: Option<Target>,
    },
    /// Forgets a placement of a non-exclusive slot on a node without a session: it was replaced, or its node left.
    Abandon {
        /// Which placement.
        generation: Generation,
    },
    /// Takes back a replacement that is not needed any more: an adrift instance came back (R13).
    Keep {
        /// The placement that stays.
        generation: Generation,
    },
}

/// Where a slot goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The node.
    pub node: NodeId,
    /// Its open session. Needed for exclusive slots; others may run without one (R13).
    pub session: Option<SessionId>,
}
