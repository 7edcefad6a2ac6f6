//! Certificates of a cluster, and the encrypted connections between its members and users.
//!
//! ```text
//!   Authority ── signs ──▶ Credentials (key, chain, Trust) ──▶ client / server configuration
//!                                                                   │
//!   HOST:PORT ── connect ──▶ TLS 1.3 ── accept ──▶ Identity: node ID, or user NAME with a role
//! ```
//! Nothing here knows what somebody may do: it finds out who speaks. **Architecture invariant:** rustls, webpki and
//! rcgen appear only in this package. There is no other version than TLS 1.3, no early data, no plain connection.

#![forbid(unsafe_code)]

mod accept;
mod authority;
mod certificate;
mod connect;
mod credentials;
mod error;
mod identity;
mod live;
mod pin;
mod read_ahead;
mod request;
mod trust;
mod verifier;

pub use accept::{Accepted, Acceptor, Refused};
pub use authority::{Authority, CA_LIFE};
pub use certificate::Certificate;
pub use connect::{Expected, SecureConnector, channel};
pub use credentials::Credentials;
pub use error::{CertificateError, ConnectError};
pub use identity::{Identity, Subject};
pub use live::{Live, Pinned};
pub use pin::Pin;
pub use request::{KeyPair, Proof};
pub use trust::{Trust, Usage, to_pem};

/// An encrypted connection, on its client's side.
pub type ClientStream<T> = tokio_rustls::client::TlsStream<tokio::io::BufReader<T>>;
/// An encrypted connection, on its server's side.
pub type TlsStream<T> = tokio_rustls::server::TlsStream<tokio::io::BufReader<T>>;
