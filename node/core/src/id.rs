//! Identifiers, each with a type of its own so that they cannot be mixed up.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number_id!(
    /// A node's identity: the Raft log index of the command that added it (1 for the first node).
    /// A host that comes back with an empty data directory gets a new one.
    NodeId
);
number_id!(
    /// A session: the log index of the `OpenSession` that opened it.
    SessionId
);
number_id!(
    /// A placement's generation: the log index at which the slot was assigned. It is the fencing token.
    Generation
);
number_id!(
    /// A position in the history of the cluster's state: the log index of the last applied entry.
    Revision
);
number_id!(
    /// Which membership is meant: the log index of its membership entry (0: none yet).
    MembershipId
);
number_id!(
    /// One start of a voter or of a guard; random, never 0 (0 means 'none yet').
    BootId
);
number_id!(
    /// The cluster's incarnation; a restore or `muster recover` makes a higher one.
    Incarnation
);
number_id!(
    /// How often a session was re-opened (LEASES.md R9); promises of a lower one are void.
    Reopens
);

/// Identifies a client's write, so that a retry of it is applied once. A client has one write outstanding at
/// a time and numbers them from 1; client 0 stands for commands that are idempotent by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId {
    /// The client: random, chosen at its start.
    pub client: u64,
    /// The number of its write, growing by one.
    pub seq: u64,
}

/// The cluster's identity: random, made by `muster init`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClusterId(pub u128);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{name}' is not a valid {what}: use 1 to 63 of a-z, 0-9, '-', '.' and '_', beginning with a letter or digit"
)]
pub struct NameError {
    /// What was to be named.
    pub what: &'static str,
    /// The refused name.
    pub name: String,
}

fn check_name(what: &'static str, name: &str) -> Result<(), NameError> {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let starts = name.chars().next().is_some_and(legal);
    let rest = name.chars().all(|c| legal(c) || matches!(c, '-' | '.' | '_'));
    if starts && rest && name.len() <= 63 { Ok(()) } else { Err(NameError { what, name: name.to_owned() }) }
}

macro_rules! name_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// Checks the name.
            ///
            /// # Errors
            /// [`NameError`] when it is empty, too long or has an illegal character.
            pub fn new(name: &str) -> Result<Self, NameError> {
                check_name($what, name).map(|()| Self(name.into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(name: String) -> Result<Self, NameError> {
                Self::new(&name)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }
    };
}

name_id!(
    /// The name of a node, unique among the nodes that have not left.
    NodeName,
    "node name"
);
name_id!(
    /// The name of a service, unique in the cluster.
    ServiceName,
    "service name"
);
name_id!(
    /// The name of a task, unique in its service.
    TaskName,
    "task name"
);

name_id!(
    /// The name of a person or program that operates the cluster.
    UserName,
    "user name"
);
name_id!(
    /// The name of a secret, unique in the cluster.
    SecretName,
    "secret name"
);

/// A key that secrets are encrypted with: a fingerprint of it, which tells nothing of the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretKeyId(pub [u8; 16]);

impl fmt::Display for SecretKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

number_id!(
    /// A certificate: the log index of the entry that issued it, which is its serial number (1 for the first node's).
    CertificateId
);

/// One slot of a service: what is placed on a node. For `everywhere` the index is the node's id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SlotId {
    /// The service.
    pub service: ServiceName,
    /// Which of its slots, from 0.
    pub index: u64,
}

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.index)
    }
}
