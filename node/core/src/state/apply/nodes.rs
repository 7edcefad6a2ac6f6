//! Commands about nodes and the cluster as a whole.

use super::{Applied, Effect, ReplyValue};
use crate::command::{AddNode, Bootstrap, NodeChange, NodeDescription, Role};
use crate::event::{Event, EventKind};
use crate::id::{CertificateId, NodeId, NodeName};
use crate::refusal::Refusal;
use crate::state::node::{Drain, Lost, LostCause, Node};
use crate::state::trust::Certificates;
use crate::state::{Cluster, State};
use crate::time::Timing;

/// How many nodes a cluster may have.
pub const MAX_NODES: usize = 1000;

impl State {
    pub(super) fn bootstrap(&mut self, bootstrap: &Bootstrap, events: &mut Vec<Event>) -> Applied {
        if self.cluster.is_some() {
            return Err(Refusal::ClusterExists);
        }
        let timing = bootstrap.timing.validated()?;
        self.cluster = Some(Cluster {
            id: bootstrap.cluster,
            name: bootstrap.name.clone(),
            incarnation: bootstrap.incarnation,
            timing,
            created: self.now,
        });
        events.push(self.event(EventKind::ClusterCreated, format!("cluster {} was made", bootstrap.name)));
        self.insert_node(NodeId(1), bootstrap.node_name.clone(), Role::Auto, bootstrap.node.clone(), events);
        Ok(Effect::TOPOLOGY.with(ReplyValue::Node(NodeId(1))))
    }

    pub(super) fn add_node(&mut self, add: &AddNode, events: &mut Vec<Event>) -> Applied {
        let token = self.usable_token(&add.token_hash)?;
        if self.node_named(add.name.as_str()).is_some() {
            return Err(Refusal::NodeNameTaken(add.name.clone()));
        }
        if self.nodes.len() >= MAX_NODES {
            return Err(Refusal::Limit { what: "nodes", limit: MAX_NODES });
        }
        let role = if token.role == Role::Auto { add.role } else { token.role };
        let token_id = token.id.clone();
        self.use_token(&token_id);
        let id = NodeId(self.revision.0);
        self.insert_node(id, add.name.clone(), role, add.description.clone(), events);
        Ok(Effect::TOPOLOGY.with(ReplyValue::Node(id)))
    }

    fn insert_node(
        &mut self,
        id: NodeId,
        name: NodeName,
        role: Role,
        description: NodeDescription,
        events: &mut Vec<Event>,
    ) {
        let node = Node {
            id,
            name,
            role,
            description,
            labels: crate::spec::Labels::new(),
            cordoned: false,
            maintenance: false,
            drain: None,
            session: None,
            lost: Some(Lost { since: self.now, cause: LostCause::Joining }),
            boot: None,
            joined: self.now,
            certificates: Certificates::first(CertificateId(id.0), self.end_of_node_certificate()),
        };
        let message = format!("node {} joined", node.name);
        self.nodes.insert(id, node);
        events.push(self.node_event(EventKind::NodeJoined, id, message));
    }

    pub(super) fn remove_node(&mut self, id: NodeId, events: &mut Vec<Event>) -> Applied {
        let node = self.existing_node(id)?;
        let name = node.name.clone();
        if self.membership.contains(id) {
            let last = self.membership.voters().len() == 1;
            return Err(if last { Refusal::LastVoter(name) } else { Refusal::NodeVotes(name) });
        }
        if node.session.is_some() {
            return Err(Refusal::NodeAlive(name));
        }
        // Without a session only adrift instances of non-exclusive services can be recorded here.
        let left: Vec<_> = self.placements_on(id).map(|(slot, p)| (slot.clone(), p.generation)).collect();
        for (slot, generation) in left {
            self.forget_placement(&slot, generation);
        }
        let event = self.node_event(EventKind::NodeLeft, id, format!("node {name} left the cluster"));
        self.nodes.remove(&id);
        self.forget_holder_of_secret_keys(id);
        events.push(event);
        Ok(Effect::TOPOLOGY)
    }

    pub(super) fn describe_node(
        &mut self,
        id: NodeId,
        description: &NodeDescription,
        events: &mut Vec<Event>,
    ) -> Applied {
        let old = &self.existing_node(id)?.description;
        if old == description {
            return Ok(Effect::NONE);
        }
        if old.addresses != description.addresses {
            self.addresses = self.revision;
        }
        self.edit_node(id, |node| node.description = description.clone());
        let message = format!("agent {} described its host", description.version);
        events.push(self.node_event(EventKind::NodeChanged, id, message));
        Ok(Effect::TOPOLOGY)
    }

    pub(super) fn change_node(
        &mut self,
        id: NodeId,
        change: &NodeChange,
        events: &mut Vec<Event>,
    ) -> Applied {
        let mut node = self.existing_node(id)?.clone();
        let (kind, message) = match change {
            NodeChange::Cordon(on) => {
                node.cordoned = *on;
                (EventKind::NodeChanged, if *on { "cordoned" } else { "uncordoned" }.to_owned())
            }
            NodeChange::Maintenance(on) => {
                node.maintenance = *on;
                (EventKind::NodeChanged, format!("maintenance {}", if *on { "on" } else { "off" }))
            }
            NodeChange::Drain(wish) => {
                let since = node.drain.map_or(self.now, |d| d.since);
                node.drain = Some(Drain { since, wish: *wish });
                (EventKind::DrainStarted, "is being drained".to_owned())
            }
            NodeChange::Undrain => {
                node.drain = None;
                (EventKind::DrainEnded, "is no longer drained".to_owned())
            }
            NodeChange::Label { key, value } => {
                match value {
                    Some(value) => node.labels.insert(key.clone(), value.clone()),
                    None => node.labels.remove(key),
                };
                (EventKind::NodeChanged, format!("label {key} = {}", value.as_deref().unwrap_or("(none)")))
            }
        };
        if self.nodes.get(&id) == Some(&node) {
            return Ok(Effect::NONE);
        }
        let message = format!("node {} {message}", node.name);
        self.nodes.insert(id, node);
        events.push(self.node_event(kind, id, message));
        Ok(Effect::TOPOLOGY)
    }

    pub(super) fn set_timing(&mut self, timing: Timing, events: &mut Vec<Event>) -> Applied {
        let timing = timing.validated()?;
        match self.cluster.as_mut() {
            Some(cluster) if cluster.timing != timing => cluster.timing = timing,
            _ => return Ok(Effect::NONE),
        }
        events.push(self.event(EventKind::TimingChanged, format!("timing of new sessions: {timing}")));
        Ok(Effect::CHANGED)
    }

    pub(super) fn existing_node(&self, id: NodeId) -> Result<&Node, Refusal> {
        self.nodes.get(&id).ok_or_else(|| Refusal::NoSuchNode(format!("#{id}")))
    }

    pub(super) fn edit_node(&mut self, id: NodeId, edit: impl FnOnce(&mut Node)) {
        if let Some(node) = self.nodes.get_mut(&id) {
            edit(node);
        }
    }
}
