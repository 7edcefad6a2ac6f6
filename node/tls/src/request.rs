//! Keys, requests for certificates, and proofs that somebody holds a key.

use rcgen::{CertificateParams, PKCS_ECDSA_P256_SHA256, SigningKey};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::certificate::Certificate;
use crate::error::CertificateError;
use crate::trust::pem_of;

/// What a proof of possession signs stands after this, so that no other signature can be taken for one.
const PROOF_CONTEXT: &[u8] = b"muster: this host is the one that held this key\0";

/// An ECDSA P-256 key. Never printed.
pub struct KeyPair(pub(crate) rcgen::KeyPair);

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyPair(..)")
    }
}

/// A signature that proves the possession of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof(pub Vec<u8>);

impl KeyPair {
    /// A new key.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn generate() -> Result<Self, CertificateError> {
        rcgen::KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(Self).map_err(CertificateError::not_made)
    }

    /// Reads PKCS#8 DER.
    ///
    /// # Errors
    /// [`CertificateError::Unreadable`], also for another kind of key.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let der = PrivatePkcs8KeyDer::from(der.to_vec());
        let key = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256);
        key.map(Self).map_err(|e| CertificateError::unreadable("private key", e))
    }

    /// Reads the first private key of a PEM text.
    ///
    /// # Errors
    /// [`CertificateError::Unreadable`].
    pub fn from_pem(text: &str) -> Result<Self, CertificateError> {
        let blocks = pem::parse_many(text).map_err(|e| CertificateError::unreadable("PEM file", e))?;
        let block = blocks.iter().find(|block| block.tag() == "PRIVATE KEY");
        let block = block.ok_or_else(|| CertificateError::unreadable("private key", "there is none"))?;
        Self::from_der(block.contents())
    }

    /// As PKCS#8 DER.
    #[must_use]
    pub fn to_der(&self) -> Vec<u8> {
        self.0.serialize_der()
    }

    /// As PEM.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem_of("PRIVATE KEY", &self.0.serialize_der())
    }

    pub(crate) fn to_rustls(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.0.serialize_der()))
    }

    /// Whether a certificate is this key's.
    #[must_use]
    pub fn belongs_to(&self, certificate: &Certificate) -> bool {
        self.0.public_key_raw() == certificate.public_key()
    }

    /// A request for a certificate (PKCS#10, DER). It names nobody: the CA decides for whom it signs.
    ///
    /// # Errors
    /// When it can't be signed.
    pub fn request(&self) -> Result<Vec<u8>, CertificateError> {
        let request = CertificateParams::default().serialize_request(&self.0);
        request.map(|request| request.der().to_vec()).map_err(CertificateError::not_made)
    }

    /// Proves to whoever knows this key's certificate that a message comes from its holder.
    ///
    /// # Errors
    /// When it can't be signed.
    pub fn prove(&self, message: &[u8]) -> Result<Proof, CertificateError> {
        let signed = self.0.sign(&[PROOF_CONTEXT, message].concat());
        signed.map(Proof).map_err(CertificateError::not_made)
    }
}

impl Proof {
    /// Checks that the holder of a certificate's key made the proof of this message.
    ///
    /// # Errors
    /// [`CertificateError::NoProof`].
    pub fn check(&self, certificate: &Certificate, message: &[u8]) -> Result<(), CertificateError> {
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        let parsed = webpki::EndEntityCert::try_from(certificate.der())?;
        let message = [PROOF_CONTEXT, message].concat();
        let candidates = algorithms
            .mapping
            .iter()
            .filter(|(scheme, _)| *scheme == rustls::SignatureScheme::ECDSA_NISTP256_SHA256);
        let mut algorithms = candidates.flat_map(|(_, algorithms)| algorithms.iter());
        let holds = algorithms.any(|a| parsed.verify_signature(*a, &message, &self.0).is_ok());
        if holds { Ok(()) } else { Err(CertificateError::NoProof) }
    }
}
