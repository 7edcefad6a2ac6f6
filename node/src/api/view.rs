//! What `status` shows, built from a state and what this node sees besides: pure, so that it can be tested, and
//! one pass over nodes, services and slots, so that it stays fast.

mod node;
mod raft;
mod service;
#[cfg(test)]
mod tests;
mod token;

use std::collections::{BTreeMap, BTreeSet};

use muster_core::detector::SessionHealth;
use muster_core::id::{NodeId, SessionId};
use muster_core::spec::{Labels, Resources};
use muster_core::state::State;
use muster_core::time::Stamp;
use muster_proto::v1;

pub(super) use self::raft::raft_view;
pub(super) use self::service::service_view;
pub(super) use self::token::token_view;
use super::route::margin;

/// What is not in the replicated state.
#[derive(Clone, Debug, Default)]
pub(super) struct Sight {
    /// Who answers.
    pub answered_by: String,
    /// Raft's term.
    pub term: u64,
    /// The leader.
    pub leader: Option<NodeId>,
    /// Voters that are up: on the leader those that answered it within the last second, on a node without a
    /// leader those that answered a probe, elsewhere those with a session.
    pub voters_alive: BTreeSet<NodeId>,
    /// What the leader's detector sees; empty elsewhere.
    pub healths: BTreeMap<SessionId, SessionHealth>,
    /// The scheduler's time.
    pub now: Stamp,
    /// Answered from the local copy.
    pub stale: bool,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// What is counted once for all nodes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Load {
    instances: u32,
    used: Resources,
}

/// A state prepared for showing.
pub(super) struct View<'a> {
    state: &'a State,
    sight: &'a Sight,
    load: BTreeMap<NodeId, Load>,
    labels: BTreeMap<NodeId, Labels>,
}

impl<'a> View<'a> {
    /// Counts what is needed more than once.
    pub fn new(state: &'a State, sight: &'a Sight) -> Self {
        let mut load: BTreeMap<NodeId, Load> = BTreeMap::new();
        for (id, slot) in &state.slots {
            let resources = state.services.get(&id.service).map(|s| s.spec.resources).unwrap_or_default();
            for placement in &slot.placements {
                let here = load.entry(placement.node).or_default();
                here.instances += 1;
                here.used.cpu_millis = here.used.cpu_millis.saturating_add(resources.cpu_millis);
                here.used.memory_mib = here.used.memory_mib.saturating_add(resources.memory_mib);
            }
        }
        let labels = state.nodes.values().map(|node| (node.id, node.all_labels())).collect();
        Self { state, sight, load, labels }
    }

    /// The whole of `status`.
    pub fn cluster(&self) -> v1::ClusterStatus {
        let (state, sight) = (self.state, self.sight);
        let cluster = state.cluster.as_ref();
        let voters = state.membership.voters();
        let alive = |voter: NodeId| sight.voters_alive.contains(&voter);
        v1::ClusterStatus {
            id: cluster.map(|c| c.id.to_string()).unwrap_or_default(),
            name: cluster.map(|c| c.name.clone()).unwrap_or_default(),
            revision: state.revision.0,
            term: sight.term,
            leader: sight.leader.map(|id| state.name_of(id)).unwrap_or_default(),
            voters: count(voters.len()),
            voters_alive: count(voters.iter().filter(|v| alive(**v)).count()),
            margin: margin(state, alive),
            timing: cluster.map(|c| muster_wire::timing_to_proto(&c.timing)),
            nodes: state.nodes.values().map(|node| self.node(node)).collect(),
            services: self.services(),
            answered_by: sight.answered_by.clone(),
            stale: sight.stale,
            warnings: sight.warnings.clone(),
        }
    }
}

/// A count for a message; none of them comes near the limit.
fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
