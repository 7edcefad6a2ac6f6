//! Who belongs: the CAs whose certificates are accepted, and the users that have some. What a certificate says is not
//! read here; each is known by the log index of the entry that issued it.

use std::sync::Arc;

use crate::command::{AuthorityKey, UserRole};
use crate::id::{CertificateId, UserName};
use crate::state::State;
use crate::time::Stamp;

/// A CA of the cluster. While it is being replaced there are two, and the younger one signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// The entry that added it: what was signed before is another one's.
    pub id: CertificateId,
    /// When it was added.
    pub since: Stamp,
    /// Its certificate (DER).
    pub certificate: Arc<[u8]>,
    /// The same key, vouched for by the CA before it (DER): who trusts only that one accepts this one too.
    pub introduction: Option<Arc<[u8]>>,
    /// Signs. Empty outside Raft.
    pub key: AuthorityKey,
}

/// Somebody who operates the cluster from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: UserName,
    /// What it may do.
    pub role: UserRole,
    /// When it was made.
    pub created: Stamp,
    /// Its certificates.
    pub certificates: Certificates,
}

/// The certificates of one holder, by their ids, which grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Certificates {
    /// Those before it are refused.
    pub oldest: CertificateId,
    /// The one that was issued last.
    pub newest: CertificateId,
    /// Until when the newest one holds.
    pub ends: Stamp,
}

impl Certificates {
    /// The first one, which holds until then.
    #[must_use]
    pub fn first(id: CertificateId, ends: Stamp) -> Self {
        Self { oldest: id, newest: id, ends }
    }

    /// Whether a certificate was revoked.
    #[must_use]
    pub fn is_revoked(&self, id: CertificateId) -> bool {
        id < self.oldest
    }
}

impl State {
    /// The CA that signs.
    #[must_use]
    pub fn signing_authority(&self) -> Option<&Arc<Authority>> {
        self.authorities.last()
    }

    /// Who still has no certificate of the CA that signs: nodes, then users, with words for people. Expired
    /// certificates of users don't count; nobody gets in with them anyway.
    #[must_use]
    pub fn holders_of_old_certificates(&self) -> Vec<String> {
        let Some(authority) = self.signing_authority() else { return Vec::new() };
        let is_old = |certificates: &Certificates| certificates.newest < authority.id;
        let nodes = self.nodes.values().filter(|node| is_old(&node.certificates));
        let users = self.users.values().filter(|u| is_old(&u.certificates) && u.certificates.ends > self.now);
        let nodes = nodes.map(|node| format!("node {}", node.name));
        nodes.chain(users.map(|user| format!("user {}", user.name))).collect()
    }
}
