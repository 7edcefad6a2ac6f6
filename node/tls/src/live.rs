//! The credentials in use. A renewal replaces them for the handshakes that follow; connections that stand go on.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::{ClientConfig, ServerConfig};

use crate::credentials::{Credentials, client, speaking_http2};
use crate::error::CertificateError;
use crate::pin::Pin;
use crate::verifier::Servers;

/// Credentials that may be replaced while they are in use. Cheap to clone; all clones share them.
#[derive(Clone, Debug)]
pub struct Live(Arc<RwLock<Current>>);

#[derive(Clone, Debug)]
struct Current {
    credentials: Arc<Credentials>,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Current {
    fn new(credentials: Credentials) -> Result<Self, CertificateError> {
        // New configurations each time: a session of the old certificate must not be resumed under the new one.
        let client = Arc::new(credentials.client_config()?);
        let server = Arc::new(credentials.server_config()?);
        Ok(Self { credentials: Arc::new(credentials), client, server })
    }
}

impl Live {
    /// The first ones.
    ///
    /// # Errors
    /// When TLS can't use them.
    pub fn new(credentials: Credentials) -> Result<Self, CertificateError> {
        Current::new(credentials).map(|current| Self(Arc::new(RwLock::new(current))))
    }

    /// Replaces them.
    ///
    /// # Errors
    /// When TLS can't use them; the old ones stay in use.
    pub fn replace(&self, credentials: Credentials) -> Result<(), CertificateError> {
        let next = Current::new(credentials)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }

    fn current(&self) -> Current {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Those in use now.
    #[must_use]
    pub fn credentials(&self) -> Arc<Credentials> {
        self.current().credentials
    }

    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        self.current().client
    }

    pub(crate) fn server(&self) -> (Arc<ServerConfig>, Arc<Credentials>) {
        let current = self.current();
        (current.server, current.credentials)
    }
}

/// Connects without a certificate of its own to agents whose CA has a pin: how a host asks to join.
#[derive(Clone, Debug)]
pub struct Pinned {
    pub(crate) client: Arc<ClientConfig>,
}

impl Pinned {
    /// Trusts that pin alone.
    ///
    /// # Errors
    /// When TLS can't be set up.
    pub fn new(pin: Pin) -> Result<Self, CertificateError> {
        let config = client(Arc::new(Servers::Pinned(pin)))?.with_no_client_auth();
        Ok(Self { client: Arc::new(speaking_http2(config)) })
    }
}
