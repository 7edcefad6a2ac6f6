//! Whom a cluster trusts: the certificates of its CAs. While the CA is being replaced there are two.

use muster_core::id::ClusterId;
use muster_core::time::Stamp;
use rustls::pki_types::{CertificateDer, UnixTime};

use crate::certificate::Certificate;
use crate::error::CertificateError;
use crate::identity::Identity;
use crate::pin::Pin;

/// Which side of a connection shows a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// The one that connects.
    Client,
    /// The one that was connected to.
    Server,
}

impl Usage {
    fn key_usage(self) -> webpki::KeyUsage {
        match self {
            Self::Client => webpki::KeyUsage::client_auth(),
            Self::Server => webpki::KeyUsage::server_auth(),
        }
    }
}

/// The trusted CAs of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    cluster: ClusterId,
    authorities: Vec<Certificate>,
}

impl Trust {
    /// Trust in these CAs, oldest first.
    #[must_use]
    pub fn new(cluster: ClusterId, authorities: Vec<Certificate>) -> Self {
        Self { cluster, authorities }
    }

    /// The cluster whose certificates are accepted.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The CAs.
    #[must_use]
    pub fn authorities(&self) -> &[Certificate] {
        &self.authorities
    }

    /// Only the CAs with that pin.
    #[must_use]
    pub fn pinned(&self, pin: Pin) -> Self {
        let authorities = self.authorities.iter().filter(|a| a.pin() == pin).cloned().collect();
        Self { cluster: self.cluster, authorities }
    }

    /// Judges a chain: signed by a trusted CA, valid now, fit for the purpose, of this cluster.
    ///
    /// # Errors
    /// [`CertificateError`] says which of these does not hold.
    pub fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: Stamp,
        usage: Usage,
    ) -> Result<Identity, CertificateError> {
        let parsed = webpki::EndEntityCert::try_from(leaf)?;
        let anchors: Vec<_> = self
            .authorities
            .iter()
            .map(|authority| webpki::anchor_from_trusted_cert(authority.der()))
            .collect::<Result<_, _>>()?;
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_millis(now.0));
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        parsed.verify_for_usage(algorithms.all, &anchors, others, time, usage.key_usage(), None, None)?;
        let identity = Certificate::from_der(leaf)?.identity()?;
        if identity.cluster == self.cluster { Ok(identity) } else { Err(CertificateError::OtherCluster) }
    }

    /// As PEM.
    #[must_use]
    pub fn to_pem(&self) -> String {
        self.authorities.iter().map(|a| pem_of("CERTIFICATE", a.der())).collect()
    }

    /// Reads PEM.
    ///
    /// # Errors
    /// [`CertificateError::Unreadable`], also without any certificate.
    pub fn from_pem(cluster: ClusterId, text: &str) -> Result<Self, CertificateError> {
        let authorities = certificates_of(text)?;
        if authorities.is_empty() {
            return Err(CertificateError::unreadable("CA certificate", "there is none"));
        }
        Ok(Self { cluster, authorities })
    }
}

pub(crate) fn pem_of(label: &str, der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(label, der), config)
}

/// All certificates of a PEM text.
pub(crate) fn certificates_of(text: &str) -> Result<Vec<Certificate>, CertificateError> {
    let blocks = pem::parse_many(text).map_err(|e| CertificateError::unreadable("PEM file", e))?;
    let certificates = blocks.iter().filter(|block| block.tag() == "CERTIFICATE");
    certificates.map(|block| Certificate::from_der(block.contents())).collect()
}

/// A certificate as PEM.
#[must_use]
pub fn to_pem(certificate: &Certificate) -> String {
    pem_of("CERTIFICATE", certificate.der())
}
