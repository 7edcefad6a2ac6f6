//! The scheduler's desk: a working copy of the state on which each step is tried before it is planned. The judge
//! is `apply` itself, so that a plan holds nothing that `apply` would refuse, and looking at the desk again after
//! the last step finds nothing to do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::plan::{Action, ActionKind, Plan};
use crate::id::{Generation, NodeId, Revision, ServiceName, SessionId, SlotId};
use crate::spec::{Labels, Mode, Resources};
use crate::state::State;
use crate::state::node::{LostCause, Node};
use crate::state::service::Service;
use crate::state::slot::{Phase, Placement, Slot};
use crate::time::Stamp;

/// Losses that are younger than this count together for the brake; after that, time has spoken.
pub const BRAKE_HOLDS: Duration = Duration::from_secs(600);

/// A working copy with what the filters and scores look up often.
pub(super) struct Desk {
    pub(super) state: State,
    pub(super) now: Stamp,
    pub(super) hosts: BTreeMap<NodeId, Host>,
    /// `apart`, in both directions.
    apart: BTreeMap<ServiceName, BTreeSet<ServiceName>>,
    steps: Vec<Action>,
    /// The exclusive slots that the loss of a node freed just now, and the node's name.
    freed: Option<(String, BTreeSet<SlotId>)>,
}

/// A node's labels and what is on it.
#[derive(Clone, Debug, Default)]
pub(super) struct Host {
    pub(super) labels: Labels,
    /// All that is there or on its way there: it limits what else finds room.
    pub(super) carried: Load,
    /// What will be there when all moves are done: it says how busy the node is.
    pub(super) settled: Load,
}

/// A sum of instances and their resources.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Load {
    pub(super) instances: u64,
    pub(super) cpu_millis: u64,
    pub(super) memory_mib: u64,
}

impl Load {
    fn change(&mut self, needs: Resources, add: bool) {
        let change = |total: &mut u64, by: u64| {
            *total = if add { total.saturating_add(by) } else { total.saturating_sub(by) };
        };
        change(&mut self.instances, 1);
        change(&mut self.cpu_millis, u64::from(needs.cpu_millis));
        change(&mut self.memory_mib, u64::from(needs.memory_mib));
    }
}

impl Desk {
    pub(super) fn new(mut state: State, now: Stamp) -> Self {
        // Placements of the desk are younger than everything in the state, as those of the plan's apply will be.
        state.revision = Revision(state.revision.0 + 1);
        let host = |node: &Node| Host { labels: node.all_labels(), ..Host::default() };
        let hosts = state.nodes.iter().map(|(id, node)| (*id, host(node))).collect();
        let mut desk = Self { state, now, hosts, apart: BTreeMap::new(), steps: Vec::new(), freed: None };
        let slots = desk.state.slots.clone();
        for (id, slot) in &slots {
            desk.charge(id, slot, true);
        }
        for (name, service) in &desk.state.services {
            for other in &service.spec.placement.apart {
                desk.apart.entry(name.clone()).or_default().insert(other.clone());
                desk.apart.entry(other.clone()).or_default().insert(name.clone());
            }
        }
        desk
    }

    /// The desk after a session was closed.
    pub(super) fn after_loss(state: &State, session: SessionId, now: Stamp) -> Self {
        let mut desk = Self::new(state.without_session(session), now);
        if let Some(node) = state.sessions.get(&session).map(|s| s.node) {
            let slots = state.placements_on(node).map(|(id, _)| id.clone()).collect();
            desk.freed = Some((state.name_of(node), slots));
        }
        desk
    }

    /// What made a vacant slot vacant, if that is what is dealt with just now.
    pub(super) fn loss_of(&self, slot: &SlotId) -> String {
        let freed = self.freed.as_ref().filter(|(_, slots)| slots.contains(slot));
        freed.map(|(node, _)| format!("{node} was lost; ")).unwrap_or_default()
    }

    pub(super) fn into_plan(self, base: Revision) -> Plan {
        Plan { base, actions: self.steps }
    }

    pub(super) fn steps(&self) -> usize {
        self.steps.len()
    }

    /// Tries a step and plans it if it changes something.
    pub(super) fn step(&mut self, slot: &SlotId, kind: ActionKind, reason: String) -> bool {
        let before = self.state.slots.get(slot).cloned().unwrap_or_default();
        // What this plan places has no generation yet that a further step could name: it waits for the next plan.
        let planned = Generation(self.state.revision.0);
        let touches = match kind {
            ActionKind::Assign(_) => before.placement(planned).is_some(),
            ActionKind::Revoke { generation, .. }
            | ActionKind::Abandon { generation }
            | ActionKind::Keep { generation } => generation == planned,
        };
        if touches {
            return false;
        }
        let action = Action { slot: slot.clone(), kind, reason };
        if self.state.try_action(&action).is_err() {
            return false;
        }
        let after = self.state.slots.get(slot).cloned().unwrap_or_default();
        if before == after {
            return false;
        }
        self.charge(slot, &before, false);
        self.charge(slot, &after, true);
        self.steps.push(action);
        true
    }

    pub(super) fn revoke(&mut self, slot: &SlotId, generation: Generation, reason: &str) -> bool {
        self.step(slot, ActionKind::Revoke { generation, target: None }, reason.to_owned())
    }

    fn charge(&mut self, id: &SlotId, slot: &Slot, add: bool) {
        let needs = self.state.services.get(&id.service).map(|s| s.spec.resources).unwrap_or_default();
        for node in carriers(slot) {
            if let Some(host) = self.hosts.get_mut(&node) {
                host.carried.change(needs, add);
            }
        }
        if let Some(host) = slot.current().and_then(home).and_then(|node| self.hosts.get_mut(&node)) {
            host.settled.change(needs, add);
        }
    }

    pub(super) fn service(&self, name: &ServiceName) -> Option<Arc<Service>> {
        self.state.services.get(name).cloned()
    }

    pub(super) fn slot(&self, id: &SlotId) -> Option<&Slot> {
        self.state.slots.get(id)
    }

    pub(super) fn name(&self, node: NodeId) -> String {
        self.state.name_of(node)
    }

    pub(super) fn node(&self, node: NodeId) -> Option<&Node> {
        self.state.nodes.get(&node)
    }

    /// Whether what runs there may be touched.
    pub(super) fn is_touchable(&self, node: NodeId) -> bool {
        self.node(node).is_none_or(|n| !n.maintenance)
    }

    pub(super) fn is_draining(&self, node: NodeId) -> bool {
        self.node(node).is_some_and(|n| n.drain.is_some())
    }

    /// All services, the most important first.
    pub(super) fn services_in_order(&self) -> Vec<Arc<Service>> {
        let mut services: Vec<_> = self.state.services.values().cloned().collect();
        services.sort_by_key(|s| std::cmp::Reverse(s.spec.priority));
        services
    }

    /// The slots that a service should have.
    pub(super) fn wanted_slots(&self, service: &Service) -> Vec<SlotId> {
        let slot = |index| SlotId { service: service.spec.name.clone(), index };
        if !service.wanted {
            return Vec::new();
        }
        match service.spec.mode {
            Mode::Exclusive => vec![slot(0)],
            Mode::Replicated { count } => (0..u64::from(count)).map(slot).collect(),
            Mode::Everywhere => {
                let slots = self.state.nodes.keys().map(|id| slot(id.0));
                slots.filter(|s| self.state.wants(s)).collect()
            }
        }
    }

    /// Where a service runs or is going to run.
    pub(super) fn homes(&self, service: &ServiceName) -> BTreeSet<NodeId> {
        self.state.slots_of(service).flat_map(|(_, slot)| slot.placements.iter().filter_map(home)).collect()
    }

    /// Where anything of a service may be, or will be.
    pub(super) fn presence(&self, service: &ServiceName) -> BTreeSet<NodeId> {
        self.state.slots_of(service).flat_map(|(_, slot)| carriers(slot)).collect()
    }

    /// The services that must not be on one node with this one.
    pub(super) fn apart(&self, service: &ServiceName) -> impl Iterator<Item = &ServiceName> {
        self.apart.get(service).into_iter().flatten()
    }

    /// Whether something of the service runs and is healthy.
    pub(super) fn is_running(&self, service: &ServiceName) -> bool {
        self.state.slots_of(service).any(|(_, slot)| slot.placements.iter().any(Placement::is_running))
    }

    /// Whether so many nodes look lost at once that the fault is more likely a network's: then instances that may
    /// still run are left alone.
    pub(super) fn brake_is_on(&self) -> bool {
        let known =
            self.state.nodes.values().filter(|n| n.lost.is_none_or(|l| l.cause != LostCause::Joining));
        let lost = self.brake_losses().count();
        lost >= 2 && 2 * lost > known.count()
    }

    /// When each of the losses that count for the brake happened.
    pub(super) fn brake_losses(&self) -> impl Iterator<Item = Stamp> {
        let losses = self.state.nodes.values().filter_map(|n| n.lost);
        let counts = |lost: &crate::state::node::Lost| {
            lost.cause != LostCause::Joining && self.now.since(lost.since) < BRAKE_HOLDS
        };
        losses.filter(counts).map(|lost| lost.since)
    }
}

/// Where this placement runs or is going to run.
pub(super) fn home(placement: &Placement) -> Option<NodeId> {
    match placement.phase {
        Phase::Active => Some(placement.node),
        Phase::Revoking { target, .. } => target.map(|t| t.node),
        Phase::Adrift { .. } => None,
    }
}

/// The nodes that carry something of this slot, or will.
pub(super) fn carriers(slot: &Slot) -> BTreeSet<NodeId> {
    slot.placements.iter().flat_map(|p| [Some(p.node), home(p)]).flatten().collect()
}
