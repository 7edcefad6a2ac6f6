//! The replicated state: what the log says so far. One file a table; `apply` is in [`apply`].
//!
//! Maps share structure, so that a clone is cheap: the scheduler, watchers and snapshots work on clones.

pub mod apply;
pub mod client;
pub mod node;
pub mod secret;
pub mod service;
pub mod session;
pub mod slot;
pub mod trust;

use std::sync::Arc;

use imbl::OrdMap;

use crate::audit::AuditTrail;
use crate::command::{Role, TokenGrant};
use crate::id::{
    ClusterId, Incarnation, NodeId, NodeName, Revision, SecretName, ServiceName, SessionId, SlotId, UserName,
};
use crate::lease::membership::Membership;
use crate::lease::{VoterAddresses, VoterList};
use crate::spec::Mode;
use crate::spec::selector::Requirement;
use crate::time::{Stamp, Timing};
use client::ClientTable;
use node::Node;
use secret::{Secret, SecretKey};
use service::Service;
use session::Session;
use slot::Slot;
use trust::{Authority, User};

/// The whole replicated state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// The last applied entry.
    pub revision: Revision,
    /// The last revision that changed what the scheduler looks at: nodes, sessions, services, slots' placements.
    /// Reports of instance states do not count.
    pub topology: Revision,
    /// The last revision that changed what agents observed of instances.
    pub observed: Revision,
    /// The last revision that changed an address of a node: part of the version of the voters' list.
    pub addresses: Revision,
    /// The stamp of the last command; never runs backwards.
    pub now: Stamp,
    /// Identity and settings; `None` until `Bootstrap`.
    pub cluster: Option<Cluster>,
    /// The applied membership of the control plane (C of LEASES.md).
    pub membership: Membership,
    /// Raft learners: standbys.
    pub standbys: imbl::OrdSet<NodeId>,
    /// All nodes that have not left.
    pub nodes: OrdMap<NodeId, Node>,
    /// The open sessions. A session that is not here is not open.
    pub sessions: OrdMap<SessionId, Session>,
    /// All services.
    pub services: OrdMap<ServiceName, Arc<Service>>,
    /// All slots that hold a placement or remember something.
    pub slots: OrdMap<SlotId, Slot>,
    /// Join tokens by their public id.
    pub tokens: OrdMap<String, TokenGrant>,
    /// Answers to retried writes.
    pub clients: ClientTable,
    /// The CAs, oldest first; the last one signs.
    pub authorities: Vec<Arc<Authority>>,
    /// Who operates the cluster from elsewhere.
    pub users: OrdMap<UserName, User>,
    /// What services may know and nobody may see.
    pub secrets: OrdMap<SecretName, Arc<Secret>>,
    /// What they are encrypted with, oldest first. The keys themselves are never here.
    pub secret_keys: Vec<SecretKey>,
    /// Who did what.
    pub audit: AuditTrail,
}

/// The cluster's identity and settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Random, from `muster init`.
    pub id: ClusterId,
    /// Its name.
    pub name: String,
    /// Which life of this cluster.
    pub incarnation: Incarnation,
    /// For sessions opened from now on.
    pub timing: Timing,
    /// When it was made.
    pub created: Stamp,
}

impl State {
    /// The node of that name.
    #[must_use]
    pub fn node_named(&self, name: &str) -> Option<&Node> {
        self.nodes.values().find(|n| n.name.as_str() == name)
    }

    /// A node's open session.
    #[must_use]
    pub fn session_of(&self, node: NodeId) -> Option<&Session> {
        self.nodes.get(&node).and_then(|n| n.session).and_then(|e| self.sessions.get(&e))
    }

    /// A node's name, or its id when it has left.
    #[must_use]
    pub fn name_of(&self, node: NodeId) -> String {
        self.nodes.get(&node).map_or_else(|| format!("#{node}"), |n| n.name.to_string())
    }

    /// The name, if the node is there.
    #[must_use]
    pub fn node_name(&self, node: NodeId) -> Option<NodeName> {
        self.nodes.get(&node).map(|n| n.name.clone())
    }

    /// Whether the node is a voter or a standby.
    #[must_use]
    pub fn is_in_raft(&self, node: NodeId) -> bool {
        self.membership.contains(node) || self.standbys.contains(&node)
    }

    /// The slots of a service, in order.
    pub fn slots_of<'a>(&'a self, service: &'a ServiceName) -> impl Iterator<Item = (&'a SlotId, &'a Slot)> {
        let first = SlotId { service: service.clone(), index: 0 };
        self.slots.range(first..).take_while(move |(id, _)| id.service == *service)
    }

    /// Every placement on a node.
    pub fn placements_on(&self, node: NodeId) -> impl Iterator<Item = (&SlotId, &slot::Placement)> {
        self.slots.iter().flat_map(move |(id, s)| {
            s.placements.iter().filter(move |p| p.node == node).map(move |p| (id, p))
        })
    }

    /// Whether a slot should have an instance: its service is to run and has such a slot. Whether a node can take
    /// it now is another question.
    #[must_use]
    pub fn wants(&self, slot: &SlotId) -> bool {
        let Some(service) = self.services.get(&slot.service).filter(|s| s.wanted) else { return false };
        match service.spec.mode {
            Mode::Exclusive => slot.index == 0,
            Mode::Replicated { count } => slot.index < u64::from(count),
            Mode::Everywhere => self.nodes.get(&NodeId(slot.index)).is_some_and(|node| {
                let labels = node.all_labels();
                let fits = |r: &Requirement| r.holds(node.name.as_str(), &labels);
                node.role != Role::Witness && service.spec.placement.require.iter().all(fits)
            }),
        }
    }

    /// The applied membership with its voters' addresses, as guards and voters use it.
    #[must_use]
    pub fn voter_list(&self) -> VoterList {
        let addresses = |id: &NodeId| VoterAddresses {
            node: *id,
            addresses: self.nodes.get(id).map_or_else(Vec::new, Node::socket_addresses),
        };
        VoterList {
            membership: self.membership.clone(),
            addresses_revision: self.addresses,
            voters: self.membership.voters().iter().map(addresses).collect(),
        }
    }

    /// Whether a slot of this service may never be held twice.
    #[must_use]
    pub fn is_exclusive(&self, service: &ServiceName) -> bool {
        self.services.get(service).is_some_and(|s| s.spec.mode.is_exclusive())
    }
}
