//! The cluster's CA: a key and a certificate that signs others.

use std::time::Duration;

use muster_core::id::ClusterId;
use muster_core::time::Stamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::pki_types::CertificateSigningRequestDer;
use time::OffsetDateTime;

use crate::certificate::Certificate;
use crate::error::CertificateError;
use crate::identity::{Identity, Subject};
use crate::request::KeyPair;

/// How long a CA lives. It can be replaced at any time by one command.
pub const CA_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How far clocks may differ at least, and at most: certificates hold from before they are made, by as much as they hold
/// after it within these limits. A clock that is an hour off must keep nobody out, and one in the past proves nothing here:
/// which certificate is the newer one is told by its number.
const CLOCK_TOLERANCE: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(300)..=Duration::from_secs(24 * 3600);

/// A CA with its key.
#[derive(Debug)]
pub struct Authority {
    key: KeyPair,
    certificate: Certificate,
}

impl Authority {
    /// A new CA that signs itself.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn generate(cluster: ClusterId, now: Stamp) -> Result<Self, CertificateError> {
        let key = KeyPair::generate()?;
        let params = ca_params(cluster, &key, now)?;
        let certificate = params.self_signed(&key.0).map_err(CertificateError::not_made)?;
        let certificate = Certificate::from_der(certificate.der())?;
        Ok(Self { key, certificate })
    }

    /// Puts a CA together again.
    ///
    /// # Errors
    /// When they can't be read, or don't belong together.
    pub fn from_der(key: &[u8], certificate: &[u8]) -> Result<Self, CertificateError> {
        let (key, certificate) = (KeyPair::from_der(key)?, Certificate::from_der(certificate)?);
        if key.belongs_to(&certificate) {
            Ok(Self { key, certificate })
        } else {
            Err(CertificateError::KeyMismatch)
        }
    }

    /// Its certificate.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Its key as PKCS#8 DER, for the voters.
    #[must_use]
    pub fn key_der(&self) -> Vec<u8> {
        self.key.to_der()
    }

    /// This CA's key, vouched for by an older CA: who trusts only that one still accepts what this one signs.
    ///
    /// # Errors
    /// When the older one can't sign.
    pub fn introduced_by(
        &self,
        older: &Self,
        cluster: ClusterId,
        now: Stamp,
    ) -> Result<Certificate, CertificateError> {
        let params = ca_params(cluster, &self.key, now)?;
        let signed = params.signed_by(&self.key.0, &older.issuer()?).map_err(CertificateError::not_made)?;
        Certificate::from_der(signed.der())
    }

    /// Signs a certificate for whoever made the request (PKCS#10, DER). Of the request only its key is used, after
    /// its signature has proven the possession of it.
    ///
    /// # Errors
    /// When the request can't be read, or is for another kind of key.
    pub fn sign(&self, request: &[u8], identity: &Identity) -> Result<Certificate, CertificateError> {
        let der = CertificateSigningRequestDer::from(request.to_vec());
        let request = CertificateSigningRequestParams::from_der(&der)
            .map_err(|e| CertificateError::unreadable("certificate request", e))?;
        if request.public_key.algorithm() != &rcgen::PKCS_ECDSA_P256_SHA256 {
            return Err(CertificateError::Unusable("keys of certificates are ECDSA P-256".to_owned()));
        }
        let params = leaf_params(identity)?;
        let signed =
            params.signed_by(&request.public_key, &self.issuer()?).map_err(CertificateError::not_made)?;
        Certificate::from_der(signed.der())
    }

    fn issuer(&self) -> Result<Issuer<'static, &rcgen::KeyPair>, CertificateError> {
        Issuer::from_ca_cert_der(self.certificate.der(), &self.key.0).map_err(CertificateError::not_made)
    }
}

/// The name of a CA holds its key's pin: two CAs of one cluster never share a name.
fn ca_params(cluster: ClusterId, key: &KeyPair, now: Stamp) -> Result<CertificateParams, CertificateError> {
    use rcgen::PublicKeyData;
    let mut params = CertificateParams::default();
    let pin = crate::pin::Pin::of(&key.0.subject_public_key_info()).to_string();
    params.distinguished_name = name(&format!("Muster CA {}", &pin[..16]), cluster);
    params.serial_number = Some(SerialNumber::from_slice(&cluster_serial(&pin)));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    (params.not_before, params.not_after) = life(now, now.plus(CA_LIFE))?;
    Ok(params)
}

/// A positive number of 8 bytes from the pin.
fn cluster_serial(pin: &str) -> [u8; 8] {
    let value = u64::from_str_radix(&pin[..16], 16).unwrap_or(1);
    (value >> 1 | 1 << 62).to_be_bytes()
}

fn leaf_params(identity: &Identity) -> Result<CertificateParams, CertificateError> {
    let mut params = CertificateParams::default();
    let common_name = match &identity.subject {
        Subject::Node(id) => format!("node {id}"),
        Subject::User { name, .. } => format!("user {name}"),
    };
    params.distinguished_name = name(&common_name, identity.cluster);
    let uri = identity.subject.uri(identity.cluster);
    let uri = uri.try_into().map_err(CertificateError::not_made)?;
    params.subject_alt_names = vec![SanType::URI(uri)];
    params.serial_number = Some(SerialNumber::from_slice(&identity.certificate.0.to_be_bytes()));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if matches!(identity.subject, Subject::Node(_)) {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = life(identity.begins, identity.ends)?;
    Ok(params)
}

fn name(common: &str, cluster: ClusterId) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, format!("Muster cluster {cluster}"));
    name.push(DnType::CommonName, common);
    name
}

fn life(begins: Stamp, ends: Stamp) -> Result<(OffsetDateTime, OffsetDateTime), CertificateError> {
    let life = Duration::from_millis(ends.0.saturating_sub(begins.0));
    let tolerance = life.clamp(*CLOCK_TOLERANCE.start(), *CLOCK_TOLERANCE.end());
    let tolerance = u64::try_from(tolerance.as_millis()).unwrap_or_default();
    let date = |ms: u64| {
        let seconds = i64::try_from(ms / 1000).map_err(CertificateError::not_made)?;
        OffsetDateTime::from_unix_timestamp(seconds).map_err(CertificateError::not_made)
    };
    Ok((date(begins.0.saturating_sub(tolerance))?, date(ends.0)?))
}
