//! The server's side of a handshake: from a TCP connection to somebody who is known, or who may only ask to join.

use std::time::Duration;

use muster_core::time::Stamp;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use crate::TlsStream;
use crate::error::CertificateError;
use crate::identity::Identity;
use crate::live::Live;
use crate::read_ahead::read_ahead;
use crate::trust::Usage;

/// How long a handshake may take. It is two round trips; whoever is slower only holds a place.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);

/// A connection whose other side is known.
#[derive(Debug)]
pub struct Accepted<T> {
    /// What is said.
    pub stream: TlsStream<T>,
    /// Who says it; none without a certificate.
    pub identity: Option<Identity>,
}

/// Why a connection was refused.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The handshake took too long.
    #[error("the handshake took longer than {} s", HANDSHAKE_TIMEOUT.as_secs())]
    TooSlow,
    /// The other side went away, or the network did.
    #[error("the connection was lost: {0}")]
    Lost(#[source] std::io::Error),
    /// It does not speak TLS, or not this version.
    #[error("it does not speak TLS 1.3 as agents do: {0}")]
    Protocol(#[source] rustls::Error),
    /// Its certificate.
    #[error("its certificate is refused: {0}")]
    Certificate(#[source] CertificateError),
}

impl Refused {
    /// A short name, for counters.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooSlow => "too_slow",
            Self::Lost(_) => "lost",
            Self::Protocol(_) => "protocol",
            Self::Certificate(error) => error.reason(),
        }
    }
}

/// Takes connections with the credentials in use.
#[derive(Clone, Debug)]
pub struct Acceptor {
    live: Live,
    limit: Duration,
}

impl Acceptor {
    /// With these credentials.
    #[must_use]
    pub fn new(live: Live) -> Self {
        Self { live, limit: HANDSHAKE_TIMEOUT }
    }

    /// With another limit of time, for tests.
    #[must_use]
    pub fn within(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// [`Refused`]; the connection is closed then.
    pub async fn accept<T>(&self, io: T, now: Stamp) -> Result<Accepted<T>, Refused>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let (config, credentials) = self.live.server();
        let io = read_ahead(io);
        let handshake = TlsAcceptor::from(config).accept(io);
        let handshake = tokio::time::timeout(self.limit, handshake).await.map_err(|_| Refused::TooSlow)?;
        let stream = handshake.map_err(refused)?;
        let Some((leaf, others)) = stream.get_ref().1.peer_certificates().and_then(<[_]>::split_first) else {
            return Ok(Accepted { stream, identity: None });
        };
        // Once more: when a session is resumed, TLS takes the certificate of the first time for granted.
        let identity = credentials.trust().verify(leaf, others, now, Usage::Client);
        let identity = Some(identity.map_err(Refused::Certificate)?);
        Ok(Accepted { stream, identity })
    }
}

fn refused(error: std::io::Error) -> Refused {
    use rustls::CertificateError as Bad;
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(bad)) => Refused::Certificate(
            #[expect(clippy::wildcard_enum_match_arm, reason = "rustls's own words do for all other errors")]
            match bad {
                Bad::Expired | Bad::ExpiredContext { .. } => CertificateError::Expired,
                Bad::NotValidYet | Bad::NotValidYetContext { .. } => CertificateError::NotYetValid,
                Bad::UnknownIssuer => CertificateError::Untrusted,
                Bad::BadEncoding => CertificateError::unreadable("certificate", "bad encoding"),
                other => CertificateError::Unusable(other.to_string()),
            },
        ),
        Some(inner) => Refused::Protocol(inner.clone()),
        None => Refused::Lost(error),
    }
}
