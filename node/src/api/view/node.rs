//! Nodes, as `status` shows them.

use std::time::Duration;

use muster_core::command::Role;
use muster_core::detector::SessionHealth;
use muster_core::lease::voter::AgentHeard;
use muster_core::scheduler;
use muster_core::state::node::{LostCause, Node};
use muster_core::state::session::Session;
use muster_proto::v1;

use super::View;

/// An agent is down when its guard has been reporting so for this many heartbeats.
const AGENT_DOWN_HEARTBEATS: u32 = 3;

impl View<'_> {
    /// One node.
    pub(super) fn node(&self, node: &Node) -> v1::NodeStatus {
        let state = self.state;
        let session = node.session.and_then(|id| state.sessions.get(&id));
        let health = node.session.and_then(|id| self.sight.healths.get(&id));
        let load = self.load.get(&node.id).copied().unwrap_or_default();
        let timing = session.map(|s| s.timing).or(state.cluster.as_ref().map(|c| c.timing));
        v1::NodeStatus {
            name: node.name.to_string(),
            id: node.id.to_string(),
            role: self.role(node).to_owned(),
            state: state_of(node, health).to_owned(),
            session: node.session.map(|id| id.0),
            cordoned: node.cordoned,
            maintenance: node.maintenance,
            drain: self.drain(node),
            agent: session.map_or("unknown", |s| agent_of(s, health)).to_owned(),
            labels: self.labels.get(&node.id).cloned().unwrap_or_default().into_iter().collect(),
            addresses: node.description.addresses.clone(),
            version: node.description.version.clone(),
            lease_ttl_ms: timing.map(|t| t.lease_ttl_ms).unwrap_or_default(),
            lease_headroom_ms: health.and_then(headroom_ms),
            instances: load.instances,
            capacity: Some(muster_wire::resources_to_proto(node.capacity())),
            used: Some(muster_wire::resources_to_proto(load.used)),
            enforcement: session.map(|s| s.enforcement.as_str().to_owned()).unwrap_or_default(),
            joined_ms: node.joined.0,
            lost_since_ms: node.lost.filter(|l| l.cause != LostCause::Joining).map(|l| l.since.0),
            wanted_role: node.role.as_str().to_owned(),
            certificate_ends_ms: Some(node.certificates.ends.0),
        }
    }

    /// What the node is in the control plane now.
    fn role(&self, node: &Node) -> &'static str {
        let votes = self.state.membership.contains(node.id);
        match node.role {
            Role::Witness => "witness",
            Role::Auto | Role::Worker if votes => "voter",
            Role::Auto | Role::Worker if self.state.standbys.contains(&node.id) => "standby",
            Role::Auto | Role::Worker => "worker",
        }
    }

    fn drain(&self, node: &Node) -> Option<v1::DrainStatus> {
        let drain = node.drain?;
        let blocked = scheduler::drain_blocked(self.state, node.id, self.sight.now);
        let blocked = blocked
            .into_iter()
            .map(|(slot, reason)| v1::BlockedInstance { instance: slot.to_string(), reason });
        Some(v1::DrainStatus {
            since_ms: drain.since.0,
            deadline_ms: drain.wish.deadline.map(|after| drain.since.plus(after).0),
            remaining: self.load.get(&node.id).map_or(0, |load| load.instances),
            blocked: blocked.collect(),
        })
    }
}

fn state_of(node: &Node, health: Option<&SessionHealth>) -> &'static str {
    match (node.session, node.lost) {
        (Some(_), _) if health.is_some_and(|h| h.overdue) => "suspect",
        (Some(_), _) => "alive",
        (None, Some(lost)) if lost.cause == LostCause::Joining => "joining",
        (None, _) => "lost",
    }
}

fn agent_of(session: &Session, health: Option<&SessionHealth>) -> &'static str {
    let limit = Duration::from_millis(u64::from(session.timing.heartbeat_ms)) * AGENT_DOWN_HEARTBEATS;
    match health {
        _ if session.agent_gone.is_some() => "down",
        // What an overdue session's agent does is not known.
        Some(health) if health.overdue || health.lease_age.is_none() => "unknown",
        Some(health) => match health.agent {
            AgentHeard::Absent(time) if time > limit => "down",
            AgentHeard::Absent(_) | AgentHeard::Present => "up",
            AgentHeard::Nothing => "unknown",
        },
        None => "unknown",
    }
}

fn headroom_ms(health: &SessionHealth) -> Option<i64> {
    health.lease_age?;
    i64::try_from(health.headroom.as_millis()).ok()
}
