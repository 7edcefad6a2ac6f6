//! Nodes: descriptions, roles, changes, tokens and the cluster's timing.

use bytes::Bytes;
use muster_core::command::{AddNode, Bootstrap, DrainWish, NodeChange, NodeDescription, Role, TokenGrant};
use muster_core::id::{ClusterId, Incarnation};
use muster_core::spec::Resources;
use muster_core::time::{Stamp, Timing};
use muster_proto::v1;
use std::time::Duration;

use crate::error::{DecodeError, fixed, known, node_name, required, to_ms};

/// The timing as a message.
#[must_use]
pub fn timing_to_proto(timing: &Timing) -> v1::Timing {
    v1::Timing {
        heartbeat_ms: timing.heartbeat_ms,
        lease_ttl_ms: timing.lease_ttl_ms,
        kill_budget_ms: timing.kill_budget_ms,
        raft_heartbeat_ms: timing.raft_heartbeat_ms,
        raft_election_min_ms: timing.raft_election_min_ms,
        raft_election_max_ms: timing.raft_election_max_ms,
    }
}

/// The timing of a message. It has not been judged: see [`Timing::validated`].
#[must_use]
pub fn timing_from_proto(timing: &v1::Timing) -> Timing {
    Timing {
        heartbeat_ms: timing.heartbeat_ms,
        lease_ttl_ms: timing.lease_ttl_ms,
        kill_budget_ms: timing.kill_budget_ms,
        raft_heartbeat_ms: timing.raft_heartbeat_ms,
        raft_election_min_ms: timing.raft_election_min_ms,
        raft_election_max_ms: timing.raft_election_max_ms,
    }
}

/// Resources as a message.
#[must_use]
pub fn resources_to_proto(resources: Resources) -> v1::Resources {
    v1::Resources { cpu_millis: resources.cpu_millis, memory_mib: resources.memory_mib }
}

/// Resources of a message.
#[must_use]
pub fn resources_from_proto(resources: &v1::Resources) -> Resources {
    Resources { cpu_millis: resources.cpu_millis, memory_mib: resources.memory_mib }
}

/// A host's description as a message.
#[must_use]
pub fn description_to_proto(description: &NodeDescription) -> v1::NodeDescription {
    v1::NodeDescription {
        addresses: description.addresses.clone(),
        labels: description.labels.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        capacity: Some(resources_to_proto(description.capacity)),
        version: description.version.clone(),
        feature_lowest: description.features.0,
        feature_highest: description.features.1,
    }
}

/// A host's description of a message; without a capacity it offers nothing.
#[must_use]
pub fn description_from_proto(description: v1::NodeDescription) -> NodeDescription {
    NodeDescription {
        addresses: description.addresses,
        labels: description.labels.into_iter().collect(),
        capacity: description.capacity.as_ref().map(resources_from_proto).unwrap_or_default(),
        version: description.version,
        features: (description.feature_lowest, description.feature_highest),
    }
}

/// A role as a message.
#[must_use]
pub fn role_to_proto(role: Role) -> v1::Role {
    match role {
        Role::Auto => v1::Role::Auto,
        Role::Worker => v1::Role::Worker,
        Role::Witness => v1::Role::Witness,
    }
}

/// A role of a message.
///
/// # Errors
/// [`DecodeError::UnknownValue`].
pub fn role_from_proto(role: i32) -> Result<Role, DecodeError> {
    Ok(match known::<v1::Role>(role, "role")? {
        v1::Role::Auto => Role::Auto,
        v1::Role::Worker => Role::Worker,
        v1::Role::Witness => Role::Witness,
    })
}

pub(crate) fn bootstrap_to_proto(bootstrap: &Bootstrap) -> v1::Bootstrap {
    v1::Bootstrap {
        cluster_id: cluster_id_to_bytes(bootstrap.cluster),
        name: bootstrap.name.clone(),
        incarnation: bootstrap.incarnation.0,
        timing: Some(timing_to_proto(&bootstrap.timing)),
        node: Some(description_to_proto(&bootstrap.node)),
        node_name: bootstrap.node_name.as_str().to_owned(),
    }
}

pub(crate) fn bootstrap_from_proto(bootstrap: v1::Bootstrap) -> Result<Bootstrap, DecodeError> {
    Ok(Bootstrap {
        cluster: cluster_id_from_bytes(&bootstrap.cluster_id)?,
        name: bootstrap.name,
        incarnation: Incarnation(bootstrap.incarnation),
        timing: timing_from_proto(&required(bootstrap.timing, "bootstrap.timing")?),
        node: description_from_proto(required(bootstrap.node, "bootstrap.node")?),
        node_name: node_name(&bootstrap.node_name, "bootstrap.node_name")?,
    })
}

pub(crate) fn cluster_id_to_bytes(id: ClusterId) -> Bytes {
    Bytes::copy_from_slice(&id.0.to_be_bytes())
}

pub(crate) fn cluster_id_from_bytes(bytes: &Bytes) -> Result<ClusterId, DecodeError> {
    fixed(bytes, "bootstrap.cluster_id").map(|id| ClusterId(u128::from_be_bytes(id)))
}

pub(crate) fn add_node_to_proto(add: &AddNode) -> v1::AddNode {
    v1::AddNode {
        name: add.name.as_str().to_owned(),
        description: Some(description_to_proto(&add.description)),
        role: role_to_proto(add.role).into(),
        token_hash: Bytes::copy_from_slice(&add.token_hash),
    }
}

pub(crate) fn add_node_from_proto(add: v1::AddNode) -> Result<AddNode, DecodeError> {
    Ok(AddNode {
        name: node_name(&add.name, "add_node.name")?,
        description: description_from_proto(required(add.description, "add_node.description")?),
        role: role_from_proto(add.role)?,
        token_hash: fixed(&add.token_hash, "add_node.token_hash")?,
    })
}

/// A drain's terms as a message.
#[must_use]
pub fn drain_wish_to_proto(wish: DrainWish) -> v1::DrainWish {
    v1::DrainWish { deadline_ms: wish.deadline.map(to_ms), max_parallel: wish.max_parallel }
}

/// A drain's terms of a message.
#[must_use]
pub fn drain_wish_from_proto(wish: v1::DrainWish) -> DrainWish {
    DrainWish { deadline: wish.deadline_ms.map(Duration::from_millis), max_parallel: wish.max_parallel }
}

/// A change of a node as a message.
#[must_use]
pub fn node_change_to_proto(change: &NodeChange) -> v1::change_node::Change {
    use v1::change_node::Change;
    match change {
        NodeChange::Cordon(on) => Change::Cordon(*on),
        NodeChange::Maintenance(on) => Change::Maintenance(*on),
        NodeChange::Drain(wish) => Change::Drain(drain_wish_to_proto(*wish)),
        NodeChange::Undrain => Change::Undrain(v1::Undrain {}),
        NodeChange::Label { key, value } => {
            Change::Label(v1::LabelChange { key: key.clone(), value: value.clone() })
        }
    }
}

/// A change of a node of a message.
#[must_use]
pub fn node_change_from_proto(change: v1::change_node::Change) -> NodeChange {
    use v1::change_node::Change;
    match change {
        Change::Cordon(on) => NodeChange::Cordon(on),
        Change::Maintenance(on) => NodeChange::Maintenance(on),
        Change::Drain(wish) => NodeChange::Drain(drain_wish_from_proto(wish)),
        Change::Undrain(v1::Undrain {}) => NodeChange::Undrain,
        Change::Label(label) => NodeChange::Label { key: label.key, value: label.value },
    }
}

/// A join token's terms as a message.
#[must_use]
pub fn token_to_proto(grant: &TokenGrant) -> v1::TokenGrant {
    v1::TokenGrant {
        id: grant.id.clone(),
        hash: Bytes::copy_from_slice(&grant.hash),
        role: role_to_proto(grant.role).into(),
        expires_ms: grant.expires.0,
        uses: grant.uses,
    }
}

/// A join token's terms of a message.
///
/// # Errors
/// [`DecodeError`] names the field.
pub fn token_from_proto(grant: v1::TokenGrant) -> Result<TokenGrant, DecodeError> {
    Ok(TokenGrant {
        hash: fixed(&grant.hash, "token.hash")?,
        role: role_from_proto(grant.role)?,
        expires: Stamp(grant.expires_ms),
        uses: grant.uses,
        id: grant.id,
    })
}
