//! What can be wrong with certificates and connections.

/// Why a certificate, key or request can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// It can't be read.
    #[error("it is not a readable {what}: {detail}")]
    Unreadable {
        /// What it should be.
        what: &'static str,
        /// What is wrong.
        detail: String,
    },
    /// It does not say whose it is, in Muster's way.
    #[error("it is no certificate of a Muster node or user")]
    Nameless,
    /// It belongs to another cluster.
    #[error("it belongs to another cluster")]
    OtherCluster,
    /// No trusted authority signed it.
    #[error("it was not signed by this cluster's CA")]
    Untrusted,
    /// Its time is over.
    #[error("it has expired")]
    Expired,
    /// Its time has not come: a clock is wrong, most likely.
    #[error("it is not valid yet; compare the clocks of both hosts")]
    NotYetValid,
    /// It was made for something else.
    #[error("it cannot be used for this: {0}")]
    Unusable(String),
    /// A key and a certificate don't belong together.
    #[error("the key and the certificate do not belong together")]
    KeyMismatch,
    /// A proof of possession is wrong.
    #[error("the signature does not prove the possession of the key")]
    NoProof,
    /// Making it failed.
    #[error("it could not be made: {0}")]
    NotMade(String),
}

impl CertificateError {
    /// A short name, for counters.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "unreadable",
            Self::Nameless => "nameless",
            Self::OtherCluster => "other_cluster",
            Self::Untrusted => "untrusted",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Unusable(_) | Self::KeyMismatch | Self::NoProof | Self::NotMade(_) => "unusable",
        }
    }

    pub(crate) fn unreadable(what: &'static str, detail: impl std::fmt::Display) -> Self {
        Self::Unreadable { what, detail: detail.to_string() }
    }

    pub(crate) fn not_made(error: impl std::fmt::Display) -> Self {
        Self::NotMade(error.to_string())
    }
}

impl From<webpki::Error> for CertificateError {
    #[expect(clippy::wildcard_enum_match_arm, reason = "webpki adds variants; what is not named is unusable")]
    fn from(error: webpki::Error) -> Self {
        match error {
            webpki::Error::CertExpired { .. } => Self::Expired,
            webpki::Error::CertNotValidYet { .. } => Self::NotYetValid,
            webpki::Error::UnknownIssuer
            | webpki::Error::InvalidSignatureForPublicKey
            | webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)
            | webpki::Error::UnsupportedSignatureAlgorithmContext(_) => Self::Untrusted,
            webpki::Error::BadDer | webpki::Error::BadDerTime => Self::unreadable("certificate", error),
            other => Self::Unusable(other.to_string()),
        }
    }
}

/// As TLS tells it to the other side.
impl From<&CertificateError> for rustls::Error {
    fn from(error: &CertificateError) -> Self {
        use rustls::CertificateError as Told;
        Self::InvalidCertificate(match error {
            CertificateError::Unreadable { .. } => Told::BadEncoding,
            CertificateError::Expired => Told::Expired,
            CertificateError::NotYetValid => Told::NotValidYet,
            CertificateError::Untrusted | CertificateError::OtherCluster => Told::UnknownIssuer,
            CertificateError::Nameless
            | CertificateError::Unusable(_)
            | CertificateError::KeyMismatch
            | CertificateError::NoProof
            | CertificateError::NotMade(_) => Told::ApplicationVerificationFailure,
        })
    }
}

/// Why a connection was not made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The network.
    #[error("{}", words(.0))]
    Network(#[source] std::io::Error),
    /// TLS, and with it the other side's certificate or this one's.
    #[error("{0}")]
    Tls(String),
    /// Somebody else than expected answers there.
    #[error("{found} answers there, not {expected}")]
    SomebodyElse {
        /// Who was expected.
        expected: String,
        /// Who answers.
        found: String,
    },
    /// The other side's certificate.
    #[error("the certificate of the agent there is refused: {0}")]
    Certificate(#[from] CertificateError),
    /// It took too long.
    #[error("no answer in time")]
    TooSlow,
}

/// An error of the system without its number.
fn words(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((text, _)) => text.to_lowercase(),
        None => text,
    }
}
