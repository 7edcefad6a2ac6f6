//! Somebody who calls, as far as the connection tells.

use std::fmt;
use std::net::IpAddr;

use muster_core::audit::ActorRole;
use muster_core::command::UserRole;
use muster_core::id::{CertificateId, NodeId, UserName};
use muster_core::time::Stamp;
use muster_tls::{Identity, Subject};

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    /// A process of this host that may do everything: root's, or one of the agent's own user.
    Local {
        /// Its user.
        uid: u32,
    },
    /// Another agent.
    Node {
        /// Which node.
        id: NodeId,
        /// The certificate that it showed.
        certificate: CertificateId,
        /// Until when that holds.
        ends: Stamp,
    },
    /// A person or program.
    User {
        /// Its name.
        name: UserName,
        /// What the certificate says that it may do.
        role: UserRole,
        /// The certificate that it showed.
        certificate: CertificateId,
        /// Until when that holds.
        ends: Stamp,
    },
    /// Nobody knows: no certificate, or a foreign process of this host.
    Stranger,
}

impl Principal {
    /// Of a verified certificate, or of none.
    #[must_use]
    pub fn of(identity: Option<Identity>) -> Self {
        let Some(identity) = identity else { return Self::Stranger };
        let (certificate, ends) = (identity.certificate, identity.ends);
        match identity.subject {
            Subject::Node(id) => Self::Node { id, certificate, ends },
            Subject::User { name, role } => Self::User { name, role, certificate, ends },
        }
    }

    /// As what it is let in, for the audit trail.
    #[must_use]
    pub fn role(&self) -> ActorRole {
        match self {
            Self::Local { .. } => ActorRole::Local,
            Self::Node { .. } => ActorRole::Node,
            Self::User { role, .. } => ActorRole::User(*role),
            Self::Stranger => ActorRole::Stranger,
        }
    }

    /// The node that speaks, if one does.
    #[must_use]
    pub fn node(&self) -> Option<NodeId> {
        match self {
            Self::Node { id, .. } => Some(*id),
            Self::Local { .. } | Self::User { .. } | Self::Stranger => None,
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { uid } => write!(f, "operator uid {uid}"),
            Self::Node { id, .. } => write!(f, "node #{id}"),
            Self::User { name, .. } => write!(f, "user {name}"),
            Self::Stranger => f.write_str("somebody without a certificate"),
        }
    }
}

/// What is known of a connection; every call on it carries this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Who.
    pub principal: Principal,
    /// From where; none for this host's own socket.
    pub remote: Option<IpAddr>,
    /// The user of the process, on this host's own socket.
    pub uid: Option<u32>,
    /// Through which listener.
    pub door: Door,
}

impl Caller {
    /// From where, in words.
    #[must_use]
    pub fn from(&self) -> String {
        match (self.remote, self.uid) {
            (Some(ip), _) => ip.to_string(),
            (None, Some(uid)) => format!("local socket uid {uid}"),
            (None, None) => "local socket".to_owned(),
        }
    }
}

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Door {
    /// Everybody.
    Any,
    /// Other agents, and hosts that join.
    Agents,
    /// Users.
    Users,
}
