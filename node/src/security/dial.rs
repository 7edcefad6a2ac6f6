//! How other agents are reached.

use muster_tls::{Expected, Live, SecureConnector, channel};
use tonic::transport::{Channel, Endpoint};

/// Makes connections to agents. The returned channel connects when it is first used, and again whenever the connection
/// was lost.
pub trait Dial: Send + Sync + 'static {
    /// A channel with these settings to HOST:PORT, where `expected` should answer.
    fn dial(&self, settings: &Endpoint, address: &str, expected: Expected) -> Channel;
}

/// With TLS, and the credentials that are in use at the time of each connection.
#[derive(Clone, Debug)]
pub struct SecureDial(pub Live);

impl Dial for SecureDial {
    fn dial(&self, settings: &Endpoint, address: &str, expected: Expected) -> Channel {
        channel(settings, SecureConnector::new(self.0.clone(), address, expected))
    }
}
