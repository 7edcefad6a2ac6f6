//! One certificate in DER: what it says, without any judgement whether that is true.

use muster_core::id::{CertificateId, ClusterId};
use muster_core::time::Stamp;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::error::CertificateError;
use crate::identity::{Identity, Subject};
use crate::pin::Pin;

/// A readable certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    der: CertificateDer<'static>,
    begins: Stamp,
    ends: Stamp,
    serial: Option<u64>,
    pin: Pin,
    public_key: Vec<u8>,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate")
            .field("serial", &self.serial)
            .field("pin", &self.pin)
            .finish_non_exhaustive()
    }
}

impl Certificate {
    /// Reads DER.
    ///
    /// # Errors
    /// [`CertificateError::Unreadable`].
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let unreadable = |e: &dyn std::fmt::Display| CertificateError::unreadable("certificate", e);
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|e| unreadable(&e))?;
        if !rest.is_empty() {
            return Err(unreadable(&"something follows it"));
        }
        let stamp = |seconds: i64| Stamp(u64::try_from(seconds).unwrap_or_default().saturating_mul(1000));
        let key_info = parsed.public_key();
        Ok(Self {
            begins: stamp(parsed.validity().not_before.timestamp()),
            ends: stamp(parsed.validity().not_after.timestamp()),
            serial: serial_of(parsed.raw_serial()),
            pin: Pin::of(key_info.raw),
            public_key: key_info.subject_public_key.data.to_vec(),
            der: CertificateDer::from(der.to_vec()),
        })
    }

    /// Reads the first certificate of a PEM text.
    ///
    /// # Errors
    /// [`CertificateError::Unreadable`].
    pub fn from_pem(text: &str) -> Result<Self, CertificateError> {
        let first = crate::trust::certificates_of(text)?.into_iter().next();
        first.ok_or_else(|| CertificateError::unreadable("certificate", "there is none"))
    }

    /// The bytes.
    #[must_use]
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// Until when it holds.
    #[must_use]
    pub fn ends(&self) -> Stamp {
        self.ends
    }

    /// Since when it holds.
    #[must_use]
    pub fn begins(&self) -> Stamp {
        self.begins
    }

    /// The pin of its key.
    #[must_use]
    pub fn pin(&self) -> Pin {
        self.pin
    }

    /// Its public key: a point of the curve.
    #[must_use]
    pub(crate) fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// What it says of its holder.
    ///
    /// # Errors
    /// [`CertificateError::Nameless`] when it is not a node's or user's.
    pub fn identity(&self) -> Result<Identity, CertificateError> {
        let parsed = webpki::EndEntityCert::try_from(&self.der)?;
        let mut names = parsed.valid_uri_names();
        let name: Option<(ClusterId, Subject)> = names.next().and_then(Subject::from_uri);
        // Two names would make it two holders.
        let (cluster, subject) = name.filter(|_| names.next().is_none()).ok_or(CertificateError::Nameless)?;
        let certificate = self.serial.map(CertificateId).ok_or(CertificateError::Nameless)?;
        Ok(Identity { cluster, subject, certificate, begins: self.begins, ends: self.ends })
    }
}

/// Serial numbers of this cluster's certificates are log indices.
fn serial_of(bytes: &[u8]) -> Option<u64> {
    let significant = bytes.iter().position(|b| *b != 0).map_or(&[] as &[u8], |at| &bytes[at..]);
    if significant.len() > 8 {
        return None;
    }
    Some(significant.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}
