//! What the replicated state wants of a slot on this node.

use std::sync::Arc;

use muster_core::id::{Generation, Revision, SessionId, SlotId};
use muster_core::spec::{OnQuorumLoss, ServiceSpec};
use muster_core::state::State;
use muster_core::state::slot::{InstanceState, Observed, Placement};
use muster_guard::protocol::Binding;

use crate::agent::view::GuardView;

/// A slot in the replicated state, as far as it concerns this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::agent) struct Wanted {
    /// The state that says so. It can't say anything about placements that are newer than itself.
    pub judged_at: Revision,
    /// The placement on this node; `None`: nothing is wanted here.
    pub placed: Option<Placed>,
    /// The service, while it is declared.
    pub declared: Option<Arc<ServiceSpec>>,
}

/// A placement on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::agent) struct Placed {
    pub generation: Generation,
    /// Under which session it was placed; none while it is adrift.
    pub session: Option<SessionId>,
    /// It is to end, and the cluster waits to be told.
    pub is_revoked: bool,
    /// As declared now.
    pub spec: Arc<ServiceSpec>,
    /// What the state says about the instance. While it is adrift that is not this agent's to change.
    pub recorded: Option<Observed>,
}

impl Wanted {
    /// What `state` says about the slot; `placement` is the one on this node.
    pub fn new(state: &State, slot: &SlotId, placement: Option<&Placement>) -> Self {
        let declared = state.services.get(&slot.service).map(|service| Arc::clone(&service.spec));
        let placed = placement.zip(declared.clone()).map(|(placement, spec)| Placed {
            generation: placement.generation,
            session: placement.session,
            is_revoked: placement.is_revoking(),
            spec,
            recorded: placement.session.map(|_| placement.observed.clone()),
        });
        Self { judged_at: state.revision, placed, declared }
    }
}

impl Placed {
    /// What the cluster was told last: the restarts, and whether all of it runs.
    pub fn before(&self) -> (u32, bool) {
        self.recorded.as_ref().map_or((0, false), |r| (r.restarts, r.state == InstanceState::Running))
    }

    pub fn is_exclusive(&self) -> bool {
        self.spec.mode.is_exclusive()
    }

    pub fn binding(&self) -> Binding {
        if self.is_exclusive() { Binding::Exclusive } else { Binding::Free }
    }

    /// Whether an instance that is not exclusive ends with the lease all the same (R13).
    pub fn stops_on_quorum_loss(&self) -> bool {
        !self.is_exclusive() && self.spec.on_quorum_loss == OnQuorumLoss::Stop
    }

    /// Whether the end of the lease is its end.
    pub fn hangs_on_lease(&self) -> bool {
        self.is_exclusive() || self.stops_on_quorum_loss()
    }

    /// Whether the lease under which it was placed is valid.
    pub fn has_lease(&self, view: &GuardView) -> bool {
        self.session.is_some() && view.valid_session() == self.session
    }

    /// Whether a task of it may be started now. `has_run`: this guard ran something of it before.
    pub fn may_start(&self, view: &GuardView, has_run: bool) -> bool {
        if self.hangs_on_lease() {
            return self.has_lease(view);
        }
        // It begins under its own session only: a host that was restarted may hold an old copy of the state.
        // What this guard has run already goes on without one (R13).
        has_run || (self.session.is_some() && view.session == self.session)
    }
}
