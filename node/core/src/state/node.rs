//! Nodes.

use std::net::SocketAddr;

use crate::command::{DrainWish, NodeDescription, Role};
use crate::id::{BootId, NodeId, NodeName, SessionId};
use crate::lease::message::MAX_ADDRESSES;
use crate::spec::{Labels, Resources};
use crate::state::trust::Certificates;
use crate::time::Stamp;

/// A host with an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its identity.
    pub id: NodeId,
    /// Its name.
    pub name: NodeName,
    /// What it may become in the control plane.
    pub role: Role,
    /// What its agent said last.
    pub description: NodeDescription,
    /// Labels set by operators; they win over those of the description.
    pub labels: Labels,
    /// Nothing new is placed here.
    pub cordoned: bool,
    /// What runs is left alone.
    pub maintenance: bool,
    /// Everything moves away.
    pub drain: Option<Drain>,
    /// Its open session, if any.
    pub session: Option<SessionId>,
    /// Since when it has no session, and why; `None` while it has one.
    pub lost: Option<Lost>,
    /// Its newest `VoterUp`.
    pub boot: Option<BootId>,
    /// When it joined.
    pub joined: Stamp,
    /// With which it shows that it is this node.
    pub certificates: Certificates,
}

/// A drain under way or done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// Since when.
    pub since: Stamp,
    /// As asked for.
    pub wish: DrainWish,
}

/// Why a node has no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Since when.
    pub since: Stamp,
    /// Why.
    pub cause: LostCause,
}

/// Why a node has no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostCause {
    /// It joined and has not opened one yet.
    Joining,
    /// A majority of voters gave it up.
    Silent,
    /// Its guard proved that its lease ended and nothing of it is left.
    Fenced,
}

impl Node {
    /// Its labels: the configuration's, overlaid with the operators'.
    #[must_use]
    pub fn all_labels(&self) -> Labels {
        let mut labels = self.description.labels.clone();
        labels.extend(self.labels.iter().map(|(k, v)| (k.clone(), v.clone())));
        labels
    }

    /// Its addresses for datagrams: those written as IP:PORT, link-local ones left out, at most [`MAX_ADDRESSES`].
    #[must_use]
    pub fn socket_addresses(&self) -> Vec<SocketAddr> {
        let usable = |address: &SocketAddr| match address {
            SocketAddr::V4(v4) => !v4.ip().is_link_local(),
            SocketAddr::V6(v6) => !v6.ip().is_unicast_link_local(),
        };
        let parsed = self.description.addresses.iter().filter_map(|a| a.parse().ok());
        parsed.filter(usable).take(MAX_ADDRESSES).collect()
    }

    /// What it offers.
    #[must_use]
    pub fn capacity(&self) -> Resources {
        self.description.capacity
    }
}
