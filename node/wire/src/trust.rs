//! CAs, users and their certificates.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_core::command::{AuthorityKey, CertificateHolder, NewAuthority, NewCertificate, UserRole};
use muster_core::id::{CertificateId, NodeId, UserName};
use muster_core::state::trust::{Authority, Certificates, User};
use muster_core::time::Stamp;
use muster_proto::v1;

use crate::error::{DecodeError, fixed, known, required, to_ms, user_name};
use crate::snapshot::SessionKeys;

/// A user's role as a message.
#[must_use]
pub fn user_role_to_proto(role: UserRole) -> v1::UserRole {
    match role {
        UserRole::Viewer => v1::UserRole::Viewer,
        UserRole::Operator => v1::UserRole::Operator,
        UserRole::Admin => v1::UserRole::Admin,
    }
}

/// A user's role of a message.
///
/// # Errors
/// [`DecodeError::UnknownValue`].
pub fn user_role_from_proto(role: i32) -> Result<UserRole, DecodeError> {
    Ok(match known::<v1::UserRole>(role, "user role")? {
        v1::UserRole::Viewer => UserRole::Viewer,
        v1::UserRole::Operator => UserRole::Operator,
        v1::UserRole::Admin => UserRole::Admin,
    })
}

fn bytes(shared: &Arc<[u8]>) -> Bytes {
    Bytes::copy_from_slice(shared)
}

pub(crate) fn new_authority_to_proto(new: &NewAuthority) -> v1::NewAuthority {
    v1::NewAuthority {
        certificate: bytes(&new.certificate),
        introduction: new.introduction.as_ref().map(bytes),
        key: bytes(&new.key.0),
    }
}

pub(crate) fn new_authority_from_proto(new: &v1::NewAuthority) -> NewAuthority {
    NewAuthority {
        certificate: new.certificate.as_ref().into(),
        introduction: new.introduction.as_ref().map(|i| i.as_ref().into()),
        key: AuthorityKey(new.key.as_ref().into()),
    }
}

pub(crate) fn new_certificate_to_proto(new: &NewCertificate) -> v1::NewCertificate {
    use v1::new_certificate::Holder;
    let holder = match new {
        NewCertificate::Node { node, token_hash } => Holder::Node(v1::NodeCertificate {
            node: node.0,
            token_hash: token_hash.as_ref().map(|hash| Bytes::copy_from_slice(hash)),
        }),
        NewCertificate::User { name, role, life } => Holder::User(v1::UserCertificate {
            name: name.to_string(),
            role: user_role_to_proto(*role).into(),
            life_ms: to_ms(*life),
        }),
    };
    v1::NewCertificate { holder: Some(holder) }
}

pub(crate) fn new_certificate_from_proto(new: v1::NewCertificate) -> Result<NewCertificate, DecodeError> {
    use v1::new_certificate::Holder;
    Ok(match required(new.holder, "issue_certificate.holder")? {
        Holder::Node(it) => NewCertificate::Node {
            node: NodeId(it.node),
            token_hash: it.token_hash.map(|hash| fixed(&hash, "issue_certificate.token_hash")).transpose()?,
        },
        Holder::User(it) => NewCertificate::User {
            name: user_name(&it.name, "issue_certificate.name")?,
            role: user_role_from_proto(it.role)?,
            life: Duration::from_millis(it.life_ms),
        },
    })
}

pub(crate) fn holder_to_proto(holder: &CertificateHolder) -> v1::CertificateHolder {
    use v1::certificate_holder::Holder;
    let holder = match holder {
        CertificateHolder::Node(id) => Holder::Node(id.0),
        CertificateHolder::User(name) => Holder::User(name.to_string()),
    };
    v1::CertificateHolder { holder: Some(holder) }
}

pub(crate) fn holder_from_proto(holder: v1::CertificateHolder) -> Result<CertificateHolder, DecodeError> {
    use v1::certificate_holder::Holder;
    Ok(match required(holder.holder, "revoke_certificates.holder")? {
        Holder::Node(id) => CertificateHolder::Node(NodeId(id)),
        Holder::User(name) => CertificateHolder::User(user_name(&name, "revoke_certificates.user")?),
    })
}

pub(crate) fn certificates_to_proto(certificates: Certificates) -> v1::StoredCertificates {
    v1::StoredCertificates {
        oldest: certificates.oldest.0,
        newest: certificates.newest.0,
        ends_ms: certificates.ends.0,
    }
}

pub(crate) fn certificates_from_proto(stored: Option<v1::StoredCertificates>) -> Certificates {
    let stored = stored.unwrap_or_default();
    Certificates {
        oldest: CertificateId(stored.oldest),
        newest: CertificateId(stored.newest),
        ends: Stamp(stored.ends_ms),
    }
}

pub(crate) fn authority_to_proto(authority: &Authority, keys: SessionKeys) -> v1::StoredAuthority {
    let key = match keys {
        SessionKeys::Include => bytes(&authority.key.0),
        SessionKeys::Redact => Bytes::new(),
    };
    v1::StoredAuthority {
        id: authority.id.0,
        since_ms: authority.since.0,
        authority: Some(v1::NewAuthority {
            certificate: bytes(&authority.certificate),
            introduction: authority.introduction.as_ref().map(bytes),
            key,
        }),
    }
}

pub(crate) fn authority_from_proto(stored: v1::StoredAuthority) -> Result<Authority, DecodeError> {
    let new = new_authority_from_proto(&required(stored.authority, "authority.authority")?);
    Ok(Authority {
        id: CertificateId(stored.id),
        since: Stamp(stored.since_ms),
        certificate: new.certificate,
        introduction: new.introduction,
        key: new.key,
    })
}

pub(crate) fn user_to_proto(user: &User) -> v1::StoredUser {
    v1::StoredUser {
        name: user.name.to_string(),
        role: user_role_to_proto(user.role).into(),
        created_ms: user.created.0,
        certificates: Some(certificates_to_proto(user.certificates)),
    }
}

pub(crate) fn user_from_proto(stored: v1::StoredUser) -> Result<User, DecodeError> {
    Ok(User {
        name: user_name(&stored.name, "user.name")?,
        role: user_role_from_proto(stored.role)?,
        created: Stamp(stored.created_ms),
        certificates: certificates_from_proto(stored.certificates),
    })
}

/// The user that a message names.
pub(crate) fn user_of(message: &v1::UserRef, field: &'static str) -> Result<UserName, DecodeError> {
    user_name(&message.name, field)
}
