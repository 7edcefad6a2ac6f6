//! Signing certificates. Any member of Raft can: the CA's key is part of the replicated state there.

use muster_core::id::CertificateId;
use muster_core::state::State;
use muster_core::time::Stamp;
use muster_proto::v1;
use muster_tls::{Authority, Certificate, CertificateError, Identity, Subject, Trust};

use crate::clock;

/// Why a certificate could not be signed here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// This node is not a member of Raft, or has not heard of a CA yet.
    #[error("this node has no key of the cluster's CA")]
    NoKey,
    /// The request or the CA.
    #[error("the certificate request: {0}")]
    Certificate(#[from] CertificateError),
}

/// A signed certificate with what its holder needs besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The certificate, then those of the CAs above it.
    pub chain: Vec<Certificate>,
    /// Whom to trust.
    pub trust: Trust,
}

/// The CAs that this state trusts; none before there is one.
///
/// # Errors
/// When a certificate of the state can't be read.
pub fn trust_of(state: &State) -> Result<Option<Trust>, CertificateError> {
    let Some(cluster) = state.cluster.as_ref().filter(|_| !state.authorities.is_empty()) else {
        return Ok(None);
    };
    let authorities = state.authorities.iter().map(|a| Certificate::from_der(&a.certificate));
    Ok(Some(Trust::new(cluster.id, authorities.collect::<Result<_, _>>()?)))
}

/// What is shown above a certificate: the introduction of a new CA for who knows only the old one, and all CAs for
/// who knows only a pin.
///
/// # Errors
/// When a certificate of the state can't be read.
pub fn shown_above(state: &State) -> Result<Vec<Certificate>, CertificateError> {
    // Once the old CA is gone there is nobody left to be introduced to.
    let rotating = state.authorities.len() > 1;
    let introduction = state.signing_authority().and_then(|a| a.introduction.as_ref()).filter(|_| rotating);
    let all = state.authorities.iter().map(|authority| &authority.certificate);
    introduction.into_iter().chain(all).map(|der| Certificate::from_der(der)).collect()
}

/// Signs with the newest CA.
///
/// # Errors
/// [`IssueError`].
pub fn issue(
    state: &State,
    request: &[u8],
    subject: Subject,
    certificate: CertificateId,
    ends: Stamp,
) -> Result<Issued, IssueError> {
    let authority = state.signing_authority().filter(|a| !a.key.0.is_empty()).ok_or(IssueError::NoKey)?;
    let trust = trust_of(state)?.ok_or(IssueError::NoKey)?;
    let signer = Authority::from_der(&authority.key.0, &authority.certificate)?;
    // The cluster's time is ahead after a leader whose wall clock was; nobody may have to wait for it to come.
    let begins = state.now.min(clock::wall_now());
    let identity = Identity { cluster: trust.cluster(), subject, certificate, begins, ends };
    let mut chain = vec![signer.sign(request, &identity)?];
    chain.extend(shown_above(state)?);
    Ok(Issued { chain, trust })
}

/// As a message.
#[must_use]
pub fn issued_to_proto(issued: &Issued) -> v1::IssuedCertificate {
    let der = |certificate: &Certificate| certificate.der().to_vec().into();
    v1::IssuedCertificate {
        chain: issued.chain.iter().map(der).collect(),
        trusted: issued.trust.authorities().iter().map(der).collect(),
    }
}

/// Of a message.
///
/// # Errors
/// When it holds no readable certificates.
pub fn issued_from_proto(message: &v1::IssuedCertificate) -> Result<Issued, CertificateError> {
    let read = |ders: &[bytes::Bytes]| -> Result<Vec<Certificate>, CertificateError> {
        ders.iter().map(|der| Certificate::from_der(der)).collect()
    };
    let chain = read(&message.chain)?;
    let first = chain.first().ok_or(CertificateError::Nameless)?;
    let trust = Trust::new(first.identity()?.cluster, read(&message.trusted)?);
    Ok(Issued { chain, trust })
}
