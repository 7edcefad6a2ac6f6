//! What TLS asks during a handshake: is this certificate one of ours?

use muster_core::time::Stamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, SignatureScheme};
use std::sync::{Arc, OnceLock};

use crate::certificate::Certificate;
use crate::error::CertificateError;
use crate::identity::{Identity, Subject};
use crate::pin::Pin;
use crate::trust::{Trust, Usage};

/// The cryptography: ring, made once.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())))
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    provider().signature_verification_algorithms
}

fn stamp(now: UnixTime) -> Stamp {
    Stamp(now.as_secs().saturating_mul(1000))
}

/// Accepts clients with a certificate of this cluster, and clients without one: they may ask to join, no more.
#[derive(Debug)]
pub(crate) struct Clients(pub(crate) Trust);

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Who belongs here has one certificate and needs no hint; strangers need not know our names.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.0.verify(end_entity, intermediates, stamp(now), Usage::Client);
        verified.map(|_| ClientCertVerified::assertion()).map_err(|error| Error::from(&error))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

/// How a server is known.
#[derive(Debug)]
pub(crate) enum Servers {
    /// By the trusted CAs.
    Trusted(Trust),
    /// By a pin alone: the server shows its CA, and the pin tells whether it is the right one.
    Pinned(Pin),
}

impl Servers {
    /// Judges a server's chain. Its name and address say nothing: it is the node in the certificate that counts.
    pub(crate) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: Stamp,
    ) -> Result<Identity, CertificateError> {
        let identity = match self {
            Self::Trusted(trust) => trust.verify(leaf, others, now, Usage::Server)?,
            Self::Pinned(pin) => {
                let cluster = Certificate::from_der(leaf)?.identity()?.cluster;
                let shown = others.iter().filter_map(|der| Certificate::from_der(der).ok());
                let pinned: Vec<_> = shown.filter(|authority| authority.pin() == *pin).collect();
                Trust::new(cluster, pinned).verify(leaf, others, now, Usage::Server)?
            }
        };
        match identity.subject {
            Subject::Node(_) => Ok(identity),
            Subject::User { .. } => Err(CertificateError::Unusable("it is a user's".to_owned())),
        }
    }
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.verify(end_entity, intermediates, stamp(now));
        verified.map(|_| ServerCertVerified::assertion()).map_err(|error| Error::from(&error))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}
