//! Records back to a state.

use std::sync::Arc;

use muster_core::id::{Incarnation, MembershipId, NodeId, Revision, SessionId};
use muster_core::lease::membership::Membership;
use muster_core::state::{Cluster, State};
use muster_core::time::Stamp;
use muster_proto::v1::{self, StateRecord, state_record::Record};

use super::record::{
    client_from_proto, node_from_proto, service_from_proto, session_from_proto, slot_record_from_proto,
};
use super::{STATE_VERSION, SnapshotError};
use crate::audit::audit_from_proto;
use crate::error::{DecodeError, required};
use crate::node::{cluster_id_from_bytes, timing_from_proto, token_from_proto};
use crate::secret::{secret_from_proto, secret_key_from_proto};
use crate::trust::{authority_from_proto, user_from_proto};

/// Takes a snapshot's records one by one, in their order, and makes a state of them.
#[derive(Debug, Default)]
pub struct StateReader {
    state: State,
    /// The kind of the last record.
    last: Option<Kind>,
    last_client: Option<u64>,
}

/// The kinds of records, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Header,
    Node,
    Session,
    Service,
    Slot,
    Token,
    Client,
    Authority,
    User,
    SecretKey,
    Secret,
    Audit,
}

impl Kind {
    fn of(record: &Record) -> Self {
        match record {
            Record::Header(_) => Self::Header,
            Record::Node(_) => Self::Node,
            Record::Session(_) => Self::Session,
            Record::Service(_) => Self::Service,
            Record::Slot(_) => Self::Slot,
            Record::Token(_) => Self::Token,
            Record::Client(_) => Self::Client,
            Record::Authority(_) => Self::Authority,
            Record::User(_) => Self::User,
            Record::SecretKey(_) => Self::SecretKey,
            Record::Secret(_) => Self::Secret,
            Record::Audit(_) => Self::Audit,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Node => "node",
            Self::Session => "session",
            Self::Service => "service",
            Self::Slot => "slot",
            Self::Token => "token",
            Self::Client => "client",
            Self::Authority => "authority",
            Self::User => "user",
            Self::SecretKey => "secret key",
            Self::Secret => "secret",
            Self::Audit => "audit",
        }
    }
}

impl StateReader {
    /// A reader that waits for the header.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// [`SnapshotError`]; the reader is of no use after one.
    pub fn push(&mut self, record: StateRecord) -> Result<(), SnapshotError> {
        let record = required(record.record, "record").map_err(SnapshotError::Record)?;
        let kind = Kind::of(&record);
        match self.last {
            None if kind != Kind::Header => return Err(SnapshotError::NoHeader),
            Some(last) if kind < last || kind == Kind::Header => {
                return Err(SnapshotError::OutOfOrder { kind: kind.as_str() });
            }
            None | Some(_) => self.last = Some(kind),
        }
        if let Record::Header(header) = record {
            return self.begin(header);
        }
        let is_new = self.insert(record).map_err(SnapshotError::Record)?;
        if is_new { Ok(()) } else { Err(SnapshotError::OutOfOrder { kind: kind.as_str() }) }
    }

    /// The state, once all records have been taken.
    ///
    /// # Errors
    /// [`SnapshotError::NoHeader`] without any record, [`SnapshotError::Dangling`] when one names what is not there.
    pub fn finish(self) -> Result<State, SnapshotError> {
        if self.last.is_none() {
            return Err(SnapshotError::NoHeader);
        }
        check_sessions(&self.state)?;
        check_slots(&self.state)?;
        Ok(self.state)
    }

    fn begin(&mut self, header: v1::StateHeader) -> Result<(), SnapshotError> {
        if header.version > STATE_VERSION {
            return Err(SnapshotError::NewerVersion { found: header.version, known: STATE_VERSION });
        }
        let state = &mut self.state;
        state.revision = Revision(header.revision);
        state.topology = Revision(header.topology);
        state.observed = Revision(header.observed);
        state.addresses = Revision(header.addresses);
        state.now = Stamp(header.now_ms);
        state.membership = Membership {
            id: MembershipId(header.membership),
            configs: header
                .configs
                .iter()
                .map(|set| set.nodes.iter().copied().map(NodeId).collect())
                .collect(),
        };
        state.audit.restore_totals(header.audit_changes, header.audit_refusals);
        state.standbys = header.standbys.iter().copied().map(NodeId).collect();
        if header.has_cluster {
            let created = Stamp(header.created_ms);
            state.cluster = Some(cluster(header.cluster, created).map_err(SnapshotError::Record)?);
        }
        Ok(())
    }

    /// Puts a record into its table; false when it was there already.
    fn insert(&mut self, record: Record) -> Result<bool, DecodeError> {
        let state = &mut self.state;
        Ok(match record {
            Record::Header(_) => false,
            Record::Node(node) => {
                let node = node_from_proto(node)?;
                state.nodes.insert(node.id, node).is_none()
            }
            Record::Session(session) => {
                let session = session_from_proto(session)?;
                state.sessions.insert(session.id, session).is_none()
            }
            Record::Service(service) => {
                let service = service_from_proto(service)?;
                state.services.insert(service.spec.name.clone(), Arc::new(service)).is_none()
            }
            Record::Slot(slot) => {
                let (id, slot) = slot_record_from_proto(slot)?;
                state.slots.insert(id, slot).is_none()
            }
            Record::Token(token) => {
                let token = token_from_proto(token)?;
                state.tokens.insert(token.id.clone(), token).is_none()
            }
            Record::Client(client) => {
                let (id, record) = client_from_proto(client)?;
                let is_new = self.last_client.is_none_or(|last| last < id);
                self.last_client = Some(id);
                state.clients.restore(id, record);
                is_new
            }
            Record::Authority(authority) => {
                let authority = authority_from_proto(authority)?;
                let is_new = state.authorities.last().is_none_or(|last| last.id < authority.id);
                state.authorities.push(Arc::new(authority));
                is_new
            }
            Record::User(user) => {
                let user = user_from_proto(user)?;
                state.users.insert(user.name.clone(), user).is_none()
            }
            Record::SecretKey(key) => {
                let key = secret_key_from_proto(&key)?;
                let is_new = state.secret_keys.iter().all(|known| known.id != key.id);
                state.secret_keys.push(key);
                is_new
            }
            Record::Secret(secret) => {
                let (name, secret) = secret_from_proto(&secret)?;
                state.secrets.insert(name, Arc::new(secret)).is_none()
            }
            Record::Audit(record) => state.audit.restore(audit_from_proto(record)?),
        })
    }
}

fn cluster(cluster: Option<v1::Bootstrap>, created: Stamp) -> Result<Cluster, DecodeError> {
    let cluster = required(cluster, "header.cluster")?;
    Ok(Cluster {
        id: cluster_id_from_bytes(&cluster.cluster_id)?,
        name: cluster.name,
        incarnation: Incarnation(cluster.incarnation),
        timing: timing_from_proto(&required(cluster.timing, "header.cluster.timing")?),
        created,
    })
}

/// Nodes and open sessions name each other.
fn check_sessions(state: &State) -> Result<(), SnapshotError> {
    for node in state.nodes.values() {
        if let Some(id) = node.session {
            check_session(state, id, node.id, || format!("node {}", node.name))?;
        }
    }
    for session in state.sessions.values() {
        if state.nodes.get(&session.node).is_none_or(|node| node.session != Some(session.id)) {
            return Err(dangling(format!("session {}", session.id), format!("node {}", session.node)));
        }
    }
    Ok(())
}

/// Slots belong to services, placements to nodes and to those nodes' open sessions.
fn check_slots(state: &State) -> Result<(), SnapshotError> {
    for (id, slot) in &state.slots {
        let what = || format!("slot {id}");
        if !state.services.contains_key(&id.service) {
            return Err(dangling(what(), format!("service {}", id.service)));
        }
        for placement in &slot.placements {
            if !state.nodes.contains_key(&placement.node) {
                return Err(dangling(what(), format!("node {}", placement.node)));
            }
            if let Some(session) = placement.session {
                check_session(state, session, placement.node, what)?;
            }
        }
    }
    Ok(())
}

fn check_session(
    state: &State,
    id: SessionId,
    node: NodeId,
    what: impl Fn() -> String,
) -> Result<(), SnapshotError> {
    match state.sessions.get(&id) {
        Some(session) if session.node == node => Ok(()),
        Some(_) | None => Err(dangling(what(), format!("session {id} of node {node}"))),
    }
}

fn dangling(what: String, target: String) -> SnapshotError {
    SnapshotError::Dangling { what, target }
}
