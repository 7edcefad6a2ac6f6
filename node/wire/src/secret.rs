//! Secrets and the fingerprints of their keys.

use bytes::Bytes;
use muster_core::command::{Command, PutSecret, SealedValue, SecretWrite};
use muster_core::id::{NodeId, Revision, SecretKeyId, SecretName};
use muster_core::state::secret::{Secret, SecretKey};
use muster_core::time::Stamp;
use muster_proto::v1;

use crate::error::{DecodeError, fixed, required, secret_name};
use crate::snapshot::SessionKeys;

/// The largest encrypted value: that of 32 KiB, with what the encryption adds. It is judged here, before an entry is
/// made, and not at apply: where values are left out, replicas could not come to the same answer.
pub const MAX_SEALED_BYTES: usize = 32 * 1024 + 64;

/// A key's fingerprint as bytes.
#[must_use]
pub fn secret_key_id_to_bytes(id: SecretKeyId) -> Bytes {
    Bytes::copy_from_slice(&id.0)
}

/// A key's fingerprint of bytes.
///
/// # Errors
/// [`DecodeError::Length`].
pub fn secret_key_id_from_bytes(bytes: &Bytes) -> Result<SecretKeyId, DecodeError> {
    fixed(bytes, "secret key").map(SecretKeyId)
}

fn sealed_from_bytes(bytes: &Bytes) -> Result<SealedValue, DecodeError> {
    if bytes.len() > MAX_SEALED_BYTES {
        let (expected, actual) = (MAX_SEALED_BYTES, bytes.len());
        return Err(DecodeError::Length { field: "secret.sealed", expected, actual });
    }
    Ok(SealedValue(bytes.as_ref().into()))
}

pub(crate) fn offer_to_proto(key: SecretKeyId) -> v1::SecretKeyRef {
    v1::SecretKeyRef { key: secret_key_id_to_bytes(key) }
}

pub(crate) fn offer_from_proto(offer: &v1::SecretKeyRef) -> Result<Command, DecodeError> {
    Ok(Command::OfferSecretKey { key: secret_key_id_from_bytes(&offer.key)? })
}

pub(crate) fn hold_to_proto(node: NodeId, key: SecretKeyId) -> v1::HoldSecretKey {
    v1::HoldSecretKey { node: node.0, key: secret_key_id_to_bytes(key) }
}

pub(crate) fn hold_from_proto(hold: &v1::HoldSecretKey) -> Result<Command, DecodeError> {
    Ok(Command::HoldSecretKey { node: NodeId(hold.node), key: secret_key_id_from_bytes(&hold.key)? })
}

pub(crate) fn remove_to_proto(name: &SecretName, forced: bool) -> v1::RemoveSecret {
    v1::RemoveSecret { name: name.to_string(), forced }
}

pub(crate) fn remove_from_proto(remove: &v1::RemoveSecret) -> Result<Command, DecodeError> {
    Ok(Command::RemoveSecret {
        name: secret_name(&remove.name, "remove_secret.name")?,
        forced: remove.forced,
    })
}

pub(crate) fn put_to_proto(put: &PutSecret) -> v1::PutSecret {
    use v1::put_secret::How;
    v1::PutSecret {
        name: put.name.to_string(),
        key: secret_key_id_to_bytes(put.key),
        sealed: Bytes::copy_from_slice(&put.sealed.0),
        how: Some(match put.how {
            SecretWrite::Create => How::Create(true),
            SecretWrite::Set => How::Set(true),
            SecretWrite::Reseal { of } => How::Reseal(of.0),
        }),
    }
}

pub(crate) fn put_from_proto(put: &v1::PutSecret) -> Result<PutSecret, DecodeError> {
    use v1::put_secret::How;
    Ok(PutSecret {
        name: secret_name(&put.name, "put_secret.name")?,
        key: secret_key_id_from_bytes(&put.key)?,
        sealed: sealed_from_bytes(&put.sealed)?,
        how: match required(put.how, "put_secret.how")? {
            How::Create(_) => SecretWrite::Create,
            How::Set(_) => SecretWrite::Set,
            How::Reseal(of) => SecretWrite::Reseal { of: Revision(of) },
        },
    })
}

pub(crate) fn secret_key_to_proto(key: &SecretKey) -> v1::StoredSecretKey {
    v1::StoredSecretKey {
        id: secret_key_id_to_bytes(key.id),
        since_ms: key.since.0,
        holders: key.holders.iter().map(|node| node.0).collect(),
        counts: key.counts,
    }
}

pub(crate) fn secret_key_from_proto(stored: &v1::StoredSecretKey) -> Result<SecretKey, DecodeError> {
    Ok(SecretKey {
        id: secret_key_id_from_bytes(&stored.id)?,
        since: Stamp(stored.since_ms),
        holders: stored.holders.iter().copied().map(NodeId).collect(),
        counts: stored.counts,
    })
}

pub(crate) fn secret_to_proto(name: &SecretName, secret: &Secret, keys: SessionKeys) -> v1::StoredSecret {
    v1::StoredSecret {
        name: name.to_string(),
        revision: secret.revision.0,
        created_ms: secret.created.0,
        changed_ms: secret.changed.0,
        key: secret_key_id_to_bytes(secret.key),
        sealed: match keys {
            SessionKeys::Include => Bytes::copy_from_slice(&secret.sealed.0),
            SessionKeys::Redact => Bytes::new(),
        },
    }
}

pub(crate) fn secret_from_proto(stored: &v1::StoredSecret) -> Result<(SecretName, Secret), DecodeError> {
    let secret = Secret {
        revision: Revision(stored.revision),
        created: Stamp(stored.created_ms),
        changed: Stamp(stored.changed_ms),
        key: secret_key_id_from_bytes(&stored.key)?,
        sealed: sealed_from_bytes(&stored.sealed)?,
    };
    Ok((secret_name(&stored.name, "secret.name")?, secret))
}
