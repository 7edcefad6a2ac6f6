//! Who speaks: what a certificate of this cluster says about its holder.
//!
//! ```text
//! muster://0123…cdef/node/7
//! muster://0123…cdef/user/alice/role/operator
//! ```

use std::fmt;

use muster_core::command::UserRole;
use muster_core::id::{CertificateId, ClusterId, NodeId, UserName};
use muster_core::time::Stamp;

/// The holder of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// An agent. It speaks for its own node only.
    Node(NodeId),
    /// A person or program.
    User {
        /// Its name.
        name: UserName,
        /// What it may do.
        role: UserRole,
    },
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(id) => write!(f, "node #{id}"),
            Self::User { name, role } => write!(f, "user {name} ({})", role.as_str()),
        }
    }
}

impl Subject {
    /// The name that stands in the certificate.
    #[must_use]
    pub fn uri(&self, cluster: ClusterId) -> String {
        match self {
            Self::Node(id) => format!("muster://{cluster}/node/{id}"),
            Self::User { name, role } => format!("muster://{cluster}/user/{name}/role/{}", role.as_str()),
        }
    }

    /// Reads what [`Self::uri`] wrote; nothing else is accepted.
    #[must_use]
    pub fn from_uri(uri: &str) -> Option<(ClusterId, Self)> {
        let mut parts = uri.strip_prefix("muster://")?.split('/');
        let digits = parts.next().filter(|d| d.len() == 32)?;
        let cluster = ClusterId(u128::from_str_radix(digits, 16).ok()?);
        let parts: Vec<&str> = parts.collect();
        let subject = match parts.as_slice() {
            ["node", id] => Self::Node(NodeId(id.parse().ok()?)),
            ["user", name, "role", role] => {
                Self::User { name: UserName::new(name).ok()?, role: UserRole::named(role)? }
            }
            _ => return None,
        };
        // One spelling only: what is compared elsewhere must not depend on leading zeros or case.
        (subject.uri(cluster) == uri).then_some((cluster, subject))
    }
}

/// What a verified certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster that it belongs to.
    pub cluster: ClusterId,
    /// Whose it is.
    pub subject: Subject,
    /// Which one: the log index of the entry that issued it.
    pub certificate: CertificateId,
    /// From when it holds.
    pub begins: Stamp,
    /// Until when it holds.
    pub ends: Stamp,
}

impl Identity {
    /// When it should be replaced: at half of its life.
    #[must_use]
    pub fn half_life(&self) -> Stamp {
        Stamp(self.begins.0 + self.ends.0.saturating_sub(self.begins.0) / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_has_one_spelling() {
        let cluster = ClusterId(0xabcd);
        let user = Subject::User { name: UserName::new("alice").unwrap(), role: UserRole::Operator };
        for subject in [Subject::Node(NodeId(7)), user] {
            assert_eq!(Subject::from_uri(&subject.uri(cluster)), Some((cluster, subject)));
        }
        let c = cluster.to_string();
        for wrong in [
            format!("muster://{c}/node/07"),
            format!("muster://{c}/node/+7"),
            format!("muster://{c}/node/7/"),
            format!("muster://{c}/node/7/role/admin"),
            format!("muster://{}/node/7", c.to_uppercase()),
            format!("muster://{c}/user/alice/role/root"),
            format!("muster://{c}/user/Alice/role/admin"),
            format!("muster://{c}/user/alice"),
            "muster://abcd/node/7".to_owned(),
            format!("https://{c}/node/7"),
        ] {
            assert_eq!(Subject::from_uri(&wrong), None, "{wrong}");
        }
    }
}
