//! Encrypted connections to agents, for tonic's channels.

use std::future::Future;
use std::pin::Pin as Pinning;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use muster_core::id::NodeId;
use nix::sys::socket::{setsockopt, sockopt};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::ClientStream;
use crate::certificate::Certificate;
use crate::error::ConnectError;
use crate::identity::Subject;
use crate::live::{Live, Pinned};
use crate::read_ahead::read_ahead;

/// Connecting and shaking hands takes no longer than this, whatever the channel allows.
const LONGEST: Duration = Duration::from_secs(5);

/// A connection to a certain node is over when what was sent on it stays unacknowledged, or unread, for so long. TCP by itself
/// would wait, after a cut of some seconds, for as long again before it tries whether the cable is back; a new
/// connection is made within moments.
const UNACKNOWLEDGED_MAX_MS: u32 = 2000;

/// Who should answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// This node and no other.
    Node(NodeId),
    /// Any node of the cluster.
    AnyNode,
}

#[derive(Clone, Debug)]
enum Source {
    Live(Live),
    Fixed(Arc<ClientConfig>),
}

/// Connects to one address. Each connection is made with the credentials that are in use at that time.
#[derive(Clone, Debug)]
pub struct SecureConnector {
    source: Source,
    address: Arc<str>,
    expected: Expected,
}

impl SecureConnector {
    /// To HOST:PORT, with credentials.
    #[must_use]
    pub fn new(live: Live, address: &str, expected: Expected) -> Self {
        Self { source: Source::Live(live), address: address.into(), expected }
    }

    /// To HOST:PORT, knowing a pin only.
    #[must_use]
    pub fn pinned(pinned: &Pinned, address: &str) -> Self {
        let source = Source::Fixed(Arc::clone(&pinned.client));
        Self { source, address: address.into(), expected: Expected::AnyNode }
    }

    /// Connects.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(&self) -> Result<ClientStream<TcpStream>, ConnectError> {
        let connecting = async {
            let tcp = TcpStream::connect(&*self.address).await.map_err(ConnectError::Network)?;
            tcp.set_nodelay(true).map_err(ConnectError::Network)?;
            if matches!(self.expected, Expected::Node(_)) {
                setsockopt(&tcp, sockopt::TcpUserTimeout, &UNACKNOWLEDGED_MAX_MS)
                    .map_err(|errno| ConnectError::Network(errno.into()))?;
            }
            self.secure(tcp).await
        };
        tokio::time::timeout(LONGEST, connecting).await.map_err(|_| ConnectError::TooSlow)?
    }

    async fn secure(&self, tcp: TcpStream) -> Result<ClientStream<TcpStream>, ConnectError> {
        let config = match &self.source {
            Source::Live(live) => live.client(),
            Source::Fixed(config) => Arc::clone(config),
        };
        let name = server_name(&self.address)?;
        let tcp = read_ahead(tcp);
        let connected = TlsConnector::from(config).connect(name, tcp).await;
        let stream = connected.map_err(|error| tls_error(&error))?;
        if let Expected::Node(expected) = self.expected {
            let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let shown = shown.ok_or_else(|| ConnectError::Tls("no certificate was shown".to_owned()))?;
            let found = Certificate::from_der(shown)?.identity()?.subject;
            if found != Subject::Node(expected) {
                let expected = format!("node #{expected}");
                return Err(ConnectError::SomebodyElse { expected, found: found.to_string() });
            }
        }
        Ok(stream)
    }
}

/// Certificates don't hold addresses; the name only keeps the sessions of different agents apart.
fn server_name(address: &str) -> Result<ServerName<'static>, ConnectError> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let unusable = |_| ConnectError::Tls(format!("'{address}' is not an address"));
    ServerName::try_from(host).map_err(unusable)
}

/// What TLS met, in words. A peer that does not speak TLS answers with something unreadable.
fn tls_error(error: &std::io::Error) -> ConnectError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidMessage(_)) => ConnectError::Tls(
            "something else listens there; agents listen on port 7420 unless configured otherwise".to_owned(),
        ),
        Some(error) => ConnectError::Tls(in_words(error)),
        None => ConnectError::Network(std::io::Error::new(error.kind(), error.to_string())),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "rustls's own words do for all other errors")]
fn in_words(error: &rustls::Error) -> String {
    use rustls::CertificateError as Bad;
    match error {
        rustls::Error::InvalidCertificate(bad) => {
            let why = match bad {
                Bad::Expired | Bad::ExpiredContext { .. } => "has expired".to_owned(),
                Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
                    "is not valid yet; compare the clocks of both hosts".to_owned()
                }
                Bad::UnknownIssuer => "was not signed by the CA that is trusted here".to_owned(),
                other => format!("is refused: {other}"),
            };
            format!("the certificate of the agent there {why}")
        }
        rustls::Error::AlertReceived(alert) => format!("the agent there refused the connection: {alert:?}"),
        other => other.to_string(),
    }
}

impl tower::Service<Uri> for SecureConnector {
    type Response = TokioIo<ClientStream<TcpStream>>;
    type Error = ConnectError;
    type Future = Pinning<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.connect().await.map(TokioIo::new) })
    }
}

/// A lazy channel with an endpoint's settings. The endpoint's own address and scheme are not used.
#[must_use]
pub fn channel(settings: &Endpoint, connector: SecureConnector) -> Channel {
    settings.connect_with_connector_lazy(connector)
}
