//! Where may this slot go, and where best? Filters are in [`super::filter`], scores in [`super::score`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::backoff;
use super::desk::{Desk, home};
use super::plan::Target;
use super::refused::Refused;
use super::score::Part;
use crate::id::{NodeId, ServiceName, SlotId};
use crate::spec::{Mode, ServiceSpec};
use crate::state::node::Node;
use crate::state::service::Service;
use crate::state::slot::Slot;

/// What is to happen to the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It is vacant.
    Place,
    /// It has to leave this node, and leads those that belong with it.
    Leave(NodeId),
    /// It may leave this node for a better one, but not those that belong with it.
    Improve(NodeId),
    /// It is started anew, on this node if it can.
    Stay(NodeId),
}

/// One slot, and everything that the filters and scores compare nodes with, gathered once.
pub(super) struct Question<'a> {
    pub(super) desk: &'a Desk,
    pub(super) slot: &'a SlotId,
    pub(super) service: Arc<Service>,
    pub(super) entry: Option<&'a Slot>,
    pub(super) purpose: Purpose,
    /// Services that must be on the same node, and where they are. None: anywhere will do.
    pub(super) with: Vec<(ServiceName, BTreeSet<NodeId>)>,
    /// Services that must not be on the same node, and where they are.
    pub(super) apart: Vec<(ServiceName, BTreeSet<NodeId>)>,
    /// Services that should run by now and do not.
    pub(super) missing: Vec<ServiceName>,
    /// How many other instances of the service are on each node.
    pub(super) siblings: BTreeMap<NodeId, u32>,
    /// How many other instances have each value of the spread label.
    pub(super) by_value: BTreeMap<Option<String>, u32>,
}

/// An answer: the best node.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    pub(super) target: Target,
    /// Why this one.
    pub(super) why: String,
}

impl<'a> Question<'a> {
    pub(super) fn new(desk: &'a Desk, slot: &'a SlotId, purpose: Purpose) -> Option<Self> {
        let service = desk.service(&slot.service)?;
        let placement = &service.spec.placement;
        let apart = desk.apart(&slot.service).map(|name| (name.clone(), desk.presence(name))).collect();
        let missing = placement.after.iter().filter(|name| !desk.is_running(name)).cloned().collect();
        let siblings = siblings(desk, slot);
        let by_value = match &placement.spread {
            Some(label) => by_value(desk, label, &siblings),
            None => BTreeMap::new(),
        };
        let with = belongs_with(desk, &service.spec, purpose);
        let entry = desk.slot(slot);
        Some(Self { desk, slot, service, entry, purpose, with, apart, missing, siblings, by_value })
    }

    pub(super) fn spec(&self) -> &ServiceSpec {
        &self.service.spec
    }

    /// Whether the slot is already counted among what the node carries.
    pub(super) fn is_carried_by(&self, node: NodeId) -> bool {
        self.entry.is_some_and(|e| e.placements.iter().any(|p| p.node == node || home(p) == Some(node)))
    }

    /// The nodes that come into question at all.
    fn nodes(&self) -> impl Iterator<Item = &Node> {
        let only = (self.spec().mode == Mode::Everywhere).then_some(NodeId(self.slot.index));
        self.desk.state.nodes.values().filter(move |n| only.is_none_or(|id| id == n.id))
    }

    /// The best node, if any is eligible.
    pub(super) fn choose(&self) -> Option<Choice> {
        let eligible: Vec<&Node> = self.nodes().filter(|n| self.refusals(n).next().is_none()).collect();
        // Nodes are in the order of their ids, and the first of equals wins.
        let best =
            eligible.iter().map(|n| (n, self.score(n.id))).reduce(|a, b| if b.1 > a.1 { b } else { a });
        let Some((node, _)) = best else { return self.choose_again() };
        let why = if self.entry.is_some_and(|e| e.wish == Some(node.id)) {
            "an operator asked for it".to_owned()
        } else if self.purpose == Purpose::Stay(node.id) {
            "in place".to_owned()
        } else if eligible.len() == 1 {
            "the only eligible node".to_owned()
        } else {
            format!("best of {} eligible nodes{}", eligible.len(), self.advantage(node.id))
        };
        Some(Choice { target: target(node), why })
    }

    /// When it failed on every node that could take it: after a pause, the one where that was longest ago.
    fn choose_again(&self) -> Option<Choice> {
        let entry = self.entry.filter(|_| self.purpose == Purpose::Place)?;
        if self.desk.now < backoff::retry_at(entry, self.spec(), self.desk.now)? {
            return None;
        }
        let failed_only = |n: &&Node| self.refusals(n).all(|r| matches!(r, Refused::Failed { .. }));
        let last_failure = |n: &&Node| entry.failures.iter().rev().find(|f| f.node == n.id).map(|f| f.at);
        let node = self.nodes().filter(failed_only).min_by_key(last_failure)?;
        let why = "tried again after a pause: it failed on every eligible node".to_owned();
        Some(Choice { target: target(node), why })
    }

    /// What speaks most for a node, for people.
    fn advantage(&self, node: NodeId) -> String {
        let parts = self.parts(node);
        let told = |p: &&(Part, i64)| p.1 > 0;
        let best = parts.iter().filter(told).max_by_key(|p| p.1);
        best.map(|(part, _)| format!(": {part}")).unwrap_or_default()
    }

    /// Every node with all its refusals and its score.
    pub(super) fn candidates(&self) -> Vec<Candidate> {
        let candidate = |n: &Node| {
            let parts = self.parts(n.id);
            Candidate {
                node: n.id,
                refusals: self.refusals(n).collect(),
                score: parts.iter().map(|(_, points)| points).sum(),
                parts: parts.into_iter().map(|(part, points)| (part.to_string(), points)).collect(),
            }
        };
        self.nodes().map(candidate).collect()
    }
}

/// One node as the scheduler sees it for one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub node: NodeId,
    /// Everything that speaks against it; empty: it is eligible.
    pub refusals: Vec<Refused>,
    /// Its score; the highest of the eligible nodes wins, then the lowest id.
    pub score: i64,
    /// How the score came about.
    pub parts: Vec<(String, i64)>,
}

fn target(node: &Node) -> Target {
    Target { node: node.id, session: node.session }
}

fn siblings(desk: &Desk, slot: &SlotId) -> BTreeMap<NodeId, u32> {
    let mut siblings = BTreeMap::new();
    let others = desk.state.slots_of(&slot.service).filter(|(id, _)| *id != slot);
    for node in others.filter_map(|(_, s)| s.current().and_then(home)) {
        *siblings.entry(node).or_insert(0) += 1;
    }
    siblings
}

fn by_value(desk: &Desk, label: &str, siblings: &BTreeMap<NodeId, u32>) -> BTreeMap<Option<String>, u32> {
    let mut by_value = BTreeMap::new();
    for (node, count) in siblings {
        let value = desk.hosts.get(node).and_then(|h| h.labels.get(label).cloned());
        *by_value.entry(value).or_insert(0) += count;
    }
    by_value
}

/// Where the services are with which this one belongs. Services that name each other form a group: who is placed
/// or moved first leads, the others follow.
fn belongs_with(desk: &Desk, spec: &ServiceSpec, purpose: Purpose) -> Vec<(ServiceName, BTreeSet<NodeId>)> {
    let left = match purpose {
        Purpose::Leave(node) => Some(node),
        Purpose::Place | Purpose::Stay(_) | Purpose::Improve(_) => None,
    };
    let mut found = Vec::new();
    for partner in &spec.placement.with {
        let homes = desk.homes(partner);
        if !reaches(desk, partner, &spec.name) {
            found.push((partner.clone(), homes));
            continue;
        }
        // A group: whatever of it stands elsewhere than on the node to be left leads.
        let leads = |homes: BTreeSet<NodeId>| -> BTreeSet<NodeId> {
            homes.into_iter().filter(|n| Some(*n) != left).collect()
        };
        let group = group_of(desk, &spec.name);
        let leading = group.iter().filter(|name| **name != spec.name).map(|name| leads(desk.homes(name)));
        if let Some(homes) = leading.into_iter().find(|homes| !homes.is_empty()) {
            found.push((partner.clone(), homes));
        }
    }
    found
}

/// The services that `from` names with `with`, directly or through others.
fn followed(desk: &Desk, from: &ServiceName) -> BTreeSet<ServiceName> {
    let mut seen = BTreeSet::new();
    let mut open = vec![from.clone()];
    while let Some(name) = open.pop() {
        let Some(service) = desk.service(&name) else { continue };
        for next in &service.spec.placement.with {
            if seen.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    seen
}

fn reaches(desk: &Desk, from: &ServiceName, to: &ServiceName) -> bool {
    followed(desk, from).contains(to)
}

fn group_of(desk: &Desk, name: &ServiceName) -> BTreeSet<ServiceName> {
    followed(desk, name).into_iter().filter(|other| reaches(desk, other, name)).collect()
}
