//! What somebody shows: a key, its certificate with those of the CAs above it, and whom they trust in turn.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ServerConfig, version};

use crate::certificate::Certificate;
use crate::error::CertificateError;
use crate::identity::Identity;
use crate::request::KeyPair;
use crate::trust::{Trust, certificates_of, pem_of};
use crate::verifier::{Clients, Servers, provider};

/// What both sides speak inside the connection.
const HTTP2: &[u8] = b"h2";

/// A key, a certificate, and the trusted CAs.
#[derive(Debug)]
pub struct Credentials {
    key: KeyPair,
    chain: Vec<Certificate>,
    trust: Trust,
    identity: Identity,
}

impl Credentials {
    /// Puts them together. `chain` begins with the key's own certificate; the CAs follow, so that somebody who
    /// knows only a pin, or only an older CA, can find the way.
    ///
    /// # Errors
    /// When they don't belong together, or the certificate is not a node's or user's of the trusted cluster.
    pub fn new(key: KeyPair, chain: Vec<Certificate>, trust: Trust) -> Result<Self, CertificateError> {
        let own =
            chain.first().ok_or_else(|| CertificateError::unreadable("certificate", "there is none"))?;
        let identity = own.identity()?;
        if !key.belongs_to(own) {
            return Err(CertificateError::KeyMismatch);
        }
        if identity.cluster != trust.cluster() {
            return Err(CertificateError::OtherCluster);
        }
        Ok(Self { key, chain, trust, identity })
    }

    /// Reads key and chain of one PEM text and the CAs of another.
    ///
    /// # Errors
    /// As [`Self::new`], and when they can't be read.
    pub fn from_pem(own: &str, trusted: &str) -> Result<Self, CertificateError> {
        let (key, chain) = (KeyPair::from_pem(own)?, certificates_of(own)?);
        let first =
            chain.first().ok_or_else(|| CertificateError::unreadable("certificate", "there is none"))?;
        let trust = Trust::from_pem(first.identity()?.cluster, trusted)?;
        Self::new(key, chain, trust)
    }

    /// Key and chain as one PEM text, so that one file always holds a pair.
    #[must_use]
    pub fn to_pem(&self) -> String {
        let chain = self.chain.iter().map(|certificate| pem_of("CERTIFICATE", certificate.der()));
        std::iter::once(self.key.to_pem()).chain(chain).collect()
    }

    /// All that `musterctl` needs, as a context file: where agents are, and these credentials.
    #[must_use]
    pub fn to_context(&self, endpoints: &[String]) -> String {
        let (own, trusted) = (self.to_pem(), self.trust.to_pem());
        format!(
            "endpoints = {endpoints:?}\ncredentials = \"\"\"\n{own}\"\"\"\ntrusted = \"\"\"\n{trusted}\"\"\"\n"
        )
    }

    /// The same with other trusted CAs.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn trusting(&self, trust: Trust) -> Result<Self, CertificateError> {
        Self::new(KeyPair::from_der(&self.key.to_der())?, self.chain.clone(), trust)
    }

    /// The same with other trusted CAs, and other certificates above the own one.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn amid(&self, trust: Trust, above: Vec<Certificate>) -> Result<Self, CertificateError> {
        let chain = self.chain.iter().take(1).cloned().chain(above).collect();
        Self::new(KeyPair::from_der(&self.key.to_der())?, chain, trust)
    }

    /// Whose they are.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &KeyPair {
        &self.key
    }

    /// The certificate and those above it.
    #[must_use]
    pub fn chain(&self) -> &[Certificate] {
        &self.chain
    }

    /// Whom they trust.
    #[must_use]
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    fn ders(&self) -> Vec<CertificateDer<'static>> {
        self.chain.iter().map(|certificate| certificate.der().clone()).collect()
    }

    pub(crate) fn client_config(&self) -> Result<ClientConfig, CertificateError> {
        let servers = Arc::new(Servers::Trusted(self.trust.clone()));
        let config = client(servers)?.with_client_auth_cert(self.ders(), self.key.to_rustls());
        config.map(speaking_http2).map_err(CertificateError::not_made)
    }

    pub(crate) fn server_config(&self) -> Result<ServerConfig, CertificateError> {
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&version::TLS13])
            .map_err(CertificateError::not_made)?
            .with_client_cert_verifier(Arc::new(Clients(self.trust.clone())))
            .with_single_cert(self.ders(), self.key.to_rustls());
        let mut config = config.map_err(CertificateError::not_made)?;
        config.alpn_protocols = vec![HTTP2.to_vec()];
        Ok(config)
    }
}

type ClientBuilder = rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

pub(crate) fn client(servers: Arc<Servers>) -> Result<ClientBuilder, CertificateError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])
        .map_err(CertificateError::not_made)?;
    Ok(builder.dangerous().with_custom_certificate_verifier(servers))
}

pub(crate) fn speaking_http2(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![HTTP2.to_vec()];
    config
}
