//! The types with which openraft is instantiated.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::storage::Position;

openraft::declare_raft_types!(
    /// Muster's choice of openraft's types. `leader_id_std`: at most one leader in a term.
    pub(crate) TypeConfig:
        D = Payload,
        R = Applied,
        NodeId = u64,
        Node = Peer,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>,
);

pub(crate) type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
pub(crate) type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
pub(crate) type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
pub(crate) type Membership = openraft::Membership<u64, Peer>;
pub(crate) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;

/// An encoded command. The proposer encodes it once; nothing between it and the replica looks inside.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload(pub Bytes);

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

// openraft asks for serde on its types. Muster's own wire and disk formats are protobuf (`raft::wire`).
impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<u8>::deserialize(deserializer).map(|bytes| Self(bytes.into()))
    }
}

/// What a replica answers to a command; only the node where it was proposed has someone to hand it to.
pub type Reply = Arc<dyn Any + Send + Sync>;

/// The outcome of a proposal: where it was applied, and the replica's answer.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Applied {
    /// The index of the log entry.
    pub index: u64,
    /// The term of the log entry.
    pub term: u64,
    #[serde(skip)]
    reply: Option<Reply>,
}

impl Applied {
    pub(crate) fn new(at: Position, reply: Option<Reply>) -> Self {
        Self { index: at.index, term: at.term, reply }
    }

    /// The replica's answer, if it has that type.
    #[must_use]
    pub fn reply<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.reply.clone().and_then(|reply| reply.downcast().ok())
    }
}

impl fmt::Debug for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "applied at {}@{}", self.index, self.term)
    }
}

/// A member of the Raft group as its peers see it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// The node's name, for people.
    pub name: String,
    /// HOST:PORT, in the order in which they are tried; several are redundant links.
    pub addresses: Vec<String>,
}

pub(crate) fn position(id: &LogId) -> Position {
    Position { term: **id.committed_leader_id(), index: id.index() }
}

pub(crate) fn log_id(at: Position) -> LogId {
    LogId::new(at.term.into(), at.index)
}
