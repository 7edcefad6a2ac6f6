//! A state's records.

use muster_core::state::{Cluster, State};
use muster_proto::v1::{self, StateRecord, state_record::Record};

use super::record::{
    client_to_proto, node_to_proto, service_to_proto, session_to_proto, slot_record_to_proto,
};
use super::{STATE_VERSION, SessionKeys};
use crate::audit::audit_to_proto;
use crate::node::{cluster_id_to_bytes, timing_to_proto, token_to_proto};
use crate::secret::{secret_key_to_proto, secret_to_proto};
use crate::trust::{authority_to_proto, user_to_proto};

/// Hands each record of a state to `sink`, in order.
///
/// # Errors
/// The first error of `sink`; nothing more is handed to it then.
pub fn write_state<E>(
    state: &State,
    keys: SessionKeys,
    mut sink: impl FnMut(StateRecord) -> Result<(), E>,
) -> Result<(), E> {
    let mut put = |record| sink(StateRecord { record: Some(record) });
    put(Record::Header(header(state)))?;
    state.nodes.values().try_for_each(|node| put(Record::Node(node_to_proto(node))))?;
    state.sessions.values().try_for_each(|session| put(Record::Session(session_to_proto(session, keys))))?;
    state.services.values().try_for_each(|service| put(Record::Service(service_to_proto(service))))?;
    state.slots.iter().try_for_each(|(id, slot)| put(Record::Slot(slot_record_to_proto(id, slot))))?;
    state.tokens.values().try_for_each(|token| put(Record::Token(token_to_proto(token))))?;
    state.clients.records().try_for_each(|(id, client)| put(Record::Client(client_to_proto(id, client))))?;
    let authorities = &state.authorities;
    authorities.iter().try_for_each(|a| put(Record::Authority(authority_to_proto(a, keys))))?;
    state.users.values().try_for_each(|user| put(Record::User(user_to_proto(user))))?;
    state.secret_keys.iter().try_for_each(|key| put(Record::SecretKey(secret_key_to_proto(key))))?;
    let mut secrets = state.secrets.iter();
    secrets.try_for_each(|(name, secret)| put(Record::Secret(secret_to_proto(name, secret, keys))))?;
    state.audit.records().try_for_each(|record| put(Record::Audit(audit_to_proto(record))))
}

fn header(state: &State) -> v1::StateHeader {
    let configs = state.membership.configs.iter();
    let (audit_changes, audit_refusals) = state.audit.totals();
    v1::StateHeader {
        version: STATE_VERSION,
        revision: state.revision.0,
        topology: state.topology.0,
        observed: state.observed.0,
        addresses: state.addresses.0,
        now_ms: state.now.0,
        cluster: state.cluster.as_ref().map(cluster),
        has_cluster: state.cluster.is_some(),
        created_ms: state.cluster.as_ref().map_or(0, |c| c.created.0),
        membership: state.membership.id.0,
        configs: configs.map(|set| v1::VoterSet { nodes: set.iter().map(|id| id.0).collect() }).collect(),
        standbys: state.standbys.iter().map(|id| id.0).collect(),
        audit_changes,
        audit_refusals,
    }
}

fn cluster(cluster: &Cluster) -> v1::Bootstrap {
    v1::Bootstrap {
        cluster_id: cluster_id_to_bytes(cluster.id),
        name: cluster.name.clone(),
        incarnation: cluster.incarnation.0,
        timing: Some(timing_to_proto(&cluster.timing)),
        node: None,
        node_name: String::new(),
    }
}
