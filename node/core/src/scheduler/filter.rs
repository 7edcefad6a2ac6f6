//! The filters: each says why a node cannot take an instance, or nothing.

use std::sync::Arc;

use super::backoff::refused_until;
use super::question::{Purpose, Question};
use super::refused::{Refused, Resource};
use crate::command::Role;
use crate::id::NodeId;
use crate::spec::{Enforcement, Mode};
use crate::state::node::Node;
use crate::state::service::Service;

type Filter = fn(&Question<'_>, &Node) -> Vec<Refused>;

/// In the order in which they are told. Failures come last: they alone pass by themselves.
const FILTERS: [Filter; 13] = [
    session,
    agent,
    role,
    operator,
    in_place,
    requirements,
    enforcement,
    apart,
    with,
    partners,
    after,
    room,
    failures,
];

impl Question<'_> {
    /// Everything that speaks against a node, found one by one.
    pub(super) fn refusals<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = Refused> + 'a {
        FILTERS.iter().flat_map(move |filter| filter(self, node))
    }

    /// What the declaration demands of the node on which an instance is, whatever else is there: if that is
    /// violated, the instance should move.
    pub(super) fn violations(&self, node: &Node) -> Vec<Refused> {
        [requirements, enforcement, apart, with].iter().flat_map(|filter| filter(self, node)).collect()
    }
}

fn session(question: &Question<'_>, node: &Node) -> Vec<Refused> {
    if question.desk.state.session_of(node.id).is_some() {
        return Vec::new();
    }
    let lost = node.lost.map(|lost| (lost.cause, question.desk.now.since(lost.since)));
    vec![Refused::NoSession { lost }]
}

/// What is started anew where it is waits for the agent in any case.
fn agent(question: &Question<'_>, node: &Node) -> Vec<Refused> {
    let session =
        question.desk.state.session_of(node.id).filter(|_| question.purpose != Purpose::Stay(node.id));
    let gone = session.and_then(|session| session.agent_gone);
    gone.map(|since| Refused::NoAgent { gone: question.desk.now.since(since) }).into_iter().collect()
}

fn role(_: &Question<'_>, node: &Node) -> Vec<Refused> {
    if node.role == Role::Witness { vec![Refused::Witness] } else { Vec::new() }
}

fn operator(question: &Question<'_>, node: &Node) -> Vec<Refused> {
    let mut refused = Vec::new();
    if node.maintenance {
        refused.push(Refused::Maintenance);
    }
    if node.drain.is_some() {
        refused.push(Refused::Draining);
    }
    // A restart in place brings nothing new to the node.
    if node.cordoned && question.purpose != Purpose::Stay(node.id) {
        refused.push(Refused::Cordoned);
    }
    refused
}

fn in_place(question: &Question<'_>, node: &Node) -> Vec<Refused> {
    if question.spec().mode == Mode::Everywhere && question.slot.index != node.id.0 {
        let owner = question.desk.state.node_name(NodeId(question.slot.index));
        return owner.map(Refused::OtherNode).into_iter().collect();
    }
    if [Purpose::Leave(node.id), Purpose::Improve(node.id)].contains(&question.purpose) {
        return vec![Refused::ToBeLeft];
    }
    let is_here = question.entry.is_some_and(|e| e.placements.iter().any(|p| p.node == node.id));
    if is_here && question.purpose != Purpose::Stay(node.id) { vec![Refused::Occupied] } else { Vec::new() }
}

fn requirements(question: &Question<'_>, node: &Node) -> Vec<Refused> {
    let Some(host) = question.desk.hosts.get(&node.id) else { return Vec::new() };
    let broken =
        question.spec().placement.require.iter().filter(|r| !r.holds(node.name.as_str(), &host.labels));
    broken
        .map(|r| Refused::Requirement {
            required: r.to_string(),
            value: if r.label == "node" {
                Some(node.name.to_string())
            } else {
                host.labels.get(&r.label).cloned()
            },
        })
        .collect()
}

fn enforcement(question: &Question<'_>, node: &Node) -> Vec<Refused> {
    let spec = question.spec();
    if !spec.mode.is_exclusive() || spec.enforcement == Enforcement::User {
        return Vec::new();
    }
    let Some(session) = question.desk.state.session_of(node.id) else { return Vec::new() };
    let by_kernel = session.enforcement == Enforcement::Kernel
        && spec.tasks.iter().all(|t| t.driver.enforcement() == Enforcement::Kernel);
    if by_kernel { Vec::new() } else { vec![Refused::Enforcement] }
}

fn apart(question: &Question<'_>, node: &Node) -> Vec<Refused> {
    let here = question.apart.iter().filter(|(_, nodes)| nodes.contains(&node.id));
    here.map(|(name, _)| Refused::Apart(name.clone())).collect()
}

fn with(question: &Question<'_>, node: &Node) -> Vec<Refused> {
    let absent = question.with.iter().filter(|(_, nodes)| !nodes.contains(&node.id));
    absent.map(|(name, _)| Refused::With(name.clone())).collect()
}

/// Who leads a group does not go where the others could never follow.
fn partners(question: &Question<'_>, node: &Node) -> Vec<Refused> {
    let Some(host) = question.desk.hosts.get(&node.id) else { return Vec::new() };
    let refused = |partner: &Arc<Service>| {
        let broken =
            partner.spec.placement.require.iter().find(|r| !r.holds(node.name.as_str(), &host.labels));
        broken.map(|r| Refused::Partner { service: partner.spec.name.clone(), required: r.to_string() })
    };
    question.partners.iter().filter_map(refused).collect()
}

fn after(question: &Question<'_>, _: &Node) -> Vec<Refused> {
    question.missing.iter().cloned().map(Refused::After).collect()
}

fn room(question: &Question<'_>, node: &Node) -> Vec<Refused> {
    let Some(host) = question.desk.hosts.get(&node.id) else { return Vec::new() };
    let (needs, has) = (question.spec().resources, node.capacity());
    // What the slot itself uses here is its own.
    let own = u64::from(question.is_carried_by(node.id));
    let check = |resource, needs: u32, has: u32, used: u64| {
        let needs = u64::from(needs);
        let free = u64::from(has).saturating_sub(used.saturating_sub(own * needs));
        // A capacity of 0 is unknown, and limits nothing.
        (has > 0 && needs > free).then_some(Refused::Room { resource, needs, free })
    };
    let cpu = check(Resource::Cpu, needs.cpu_millis, has.cpu_millis, host.carried.cpu_millis);
    let memory = check(Resource::Memory, needs.memory_mib, has.memory_mib, host.carried.memory_mib);
    cpu.into_iter().chain(memory).collect()
}

fn failures(question: &Question<'_>, node: &Node) -> Vec<Refused> {
    let Some(failure) = question.entry.and_then(|e| e.failures.iter().rev().find(|f| f.node == node.id))
    else {
        return Vec::new();
    };
    if question.desk.now >= refused_until(failure, question.spec()) {
        return Vec::new();
    }
    let ago = question.desk.now.since(failure.at);
    vec![Refused::Failed { ago, message: failure.message.clone() }]
}
