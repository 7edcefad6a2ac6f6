//! Commands about who belongs: CAs, certificates of nodes and users.

use std::sync::Arc;
use std::time::Duration;

use super::{Applied, Effect};
use crate::command::{CertificateHolder, NewAuthority, NewCertificate};
use crate::event::{Event, EventKind};
use crate::id::{CertificateId, NodeId, UserName};
use crate::refusal::Refusal;
use crate::state::State;
use crate::state::trust::{Authority, Certificates, User};
use crate::time::Stamp;

/// How long the certificate of a node lives. It is renewed at half of that.
pub const NODE_CERTIFICATE_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
/// The longest life of a user's certificate.
pub const LONGEST_USER_LIFE: Duration = Duration::from_secs(366 * 24 * 3600);
/// How many users a cluster may have.
pub const MAX_USERS: usize = 1000;
/// The one that signs, and the one that it replaces.
const MAX_AUTHORITIES: usize = 2;
/// A certificate of a CA is some hundred bytes.
const MAX_AUTHORITY_BYTES: usize = 4096;

impl State {
    pub(super) fn add_authority(&mut self, new: &NewAuthority, events: &mut Vec<Event>) -> Applied {
        if self.authorities.len() >= MAX_AUTHORITIES {
            return Err(Refusal::RotationUnderWay);
        }
        let introduction = new.introduction.as_ref().map_or(0, |i| i.len());
        if new.certificate.len().max(introduction).max(new.key.0.len()) > MAX_AUTHORITY_BYTES {
            return Err(Refusal::Limit { what: "bytes of a CA's certificate", limit: MAX_AUTHORITY_BYTES });
        }
        let message = if self.authorities.is_empty() {
            "the cluster has a CA"
        } else {
            "a new CA signs; the old one is still trusted"
        };
        let authority = Authority {
            id: self.here(),
            since: self.now,
            certificate: Arc::clone(&new.certificate),
            introduction: new.introduction.clone(),
            key: new.key.clone(),
        };
        self.authorities.push(Arc::new(authority));
        events.push(self.event(EventKind::AuthorityAdded, message.to_owned()));
        Ok(Effect::CHANGED)
    }

    pub(super) fn retire_authority(&mut self, forced: bool, events: &mut Vec<Event>) -> Applied {
        if self.authorities.len() < MAX_AUTHORITIES {
            return Err(Refusal::NoRotation);
        }
        let holders = self.holders_of_old_certificates();
        if !forced && !holders.is_empty() {
            return Err(Refusal::OldCertificates { holders: holders.join(", ") });
        }
        self.authorities.remove(0);
        let left = if holders.is_empty() {
            String::new()
        } else {
            format!("; without a certificate now: {}", holders.join(", "))
        };
        events
            .push(self.event(EventKind::AuthorityRetired, format!("the old CA is no longer trusted{left}")));
        Ok(Effect::CHANGED)
    }

    pub(super) fn issue_certificate(&mut self, new: &NewCertificate, events: &mut Vec<Event>) -> Applied {
        match new {
            NewCertificate::Node { node, token_hash } => {
                self.issue_to_node(*node, token_hash.as_ref(), events)
            }
            NewCertificate::User { name, role, life } => {
                let life = (*life).min(LONGEST_USER_LIFE);
                let ends = self.now.plus(life);
                let known = self.users.get(name).cloned();
                if known.is_none() && self.users.len() >= MAX_USERS {
                    return Err(Refusal::Limit { what: "users", limit: MAX_USERS });
                }
                let here = self.here();
                let certificates = match &known {
                    // A certificate carries its role: those of another one end.
                    Some(user) if user.role == *role => {
                        Certificates { newest: here, ends, oldest: user.certificates.oldest }
                    }
                    Some(_) | None => Certificates::first(here, ends),
                };
                let created = known.as_ref().map_or(self.now, |user| user.created);
                let user = User { name: name.clone(), role: *role, created, certificates };
                self.users.insert(name.clone(), user);
                let message = format!("user {name} has a certificate as {}", role.as_str());
                events.push(self.event(EventKind::CertificateIssued, message));
                Ok(Effect::CHANGED)
            }
        }
    }

    fn issue_to_node(
        &mut self,
        node: NodeId,
        token_hash: Option<&[u8; 32]>,
        events: &mut Vec<Event>,
    ) -> Applied {
        self.existing_node(node)?;
        if let Some(hash) = token_hash {
            let token = self.usable_token(hash)?.id.clone();
            self.use_token(&token);
        }
        let (here, ends) = (self.here(), self.end_of_node_certificate());
        self.edit_node(node, |node| {
            node.certificates.newest = here;
            node.certificates.ends = ends;
        });
        let message = format!("node {} has a new certificate", self.name_of(node));
        events.push(self.node_event(EventKind::CertificateIssued, node, message));
        Ok(Effect::CHANGED)
    }

    pub(super) fn revoke_certificates(
        &mut self,
        holder: &CertificateHolder,
        events: &mut Vec<Event>,
    ) -> Applied {
        let here = self.here();
        match holder {
            CertificateHolder::Node(id) => {
                self.existing_node(*id)?;
                self.edit_node(*id, |node| node.certificates.oldest = here);
                let message = format!("the certificates of node {} were revoked", self.name_of(*id));
                events.push(self.node_event(EventKind::CertificatesRevoked, *id, message));
            }
            CertificateHolder::User(name) => {
                let user = self.users.get_mut(name).ok_or_else(|| Refusal::NoSuchUser(name.clone()))?;
                user.certificates.oldest = here;
                let message = format!("the certificates of user {name} were revoked");
                events.push(self.event(EventKind::CertificatesRevoked, message));
            }
        }
        Ok(Effect::CHANGED)
    }

    pub(super) fn remove_user(&mut self, name: &UserName, events: &mut Vec<Event>) -> Applied {
        self.users.remove(name).ok_or_else(|| Refusal::NoSuchUser(name.clone()))?;
        events.push(self.event(EventKind::UserRemoved, format!("user {name} was removed")));
        Ok(Effect::CHANGED)
    }

    /// The id of a certificate that this entry issues.
    fn here(&self) -> CertificateId {
        CertificateId(self.revision.0)
    }

    pub(super) fn end_of_node_certificate(&self) -> Stamp {
        self.now.plus(NODE_CERTIFICATE_LIFE)
    }
}
