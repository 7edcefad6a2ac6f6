//! What the replicated state wants of an instance on this node.

use std::sync::Arc;

use muster_core::id::{Generation, SessionId};
use muster_core::spec::{OnQuorumLoss, ServiceSpec};
use muster_core::state::service::Service;
use muster_core::state::slot::{Observed, Placement};
use muster_guard::protocol::Binding;

/// A placement on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::agent) struct Wanted {
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
    pub fn new(placement: &Placement, service: &Service) -> Self {
        let has_session = placement.session.is_some();
        Self {
            generation: placement.generation,
            session: placement.session,
            is_revoked: placement.is_revoking(),
            spec: Arc::clone(&service.spec),
            recorded: has_session.then(|| placement.observed.clone()),
        }
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

    pub fn needs_lease(&self) -> bool {
        self.is_exclusive() || self.stops_on_quorum_loss()
    }
}
