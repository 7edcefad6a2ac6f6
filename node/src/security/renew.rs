//! Keeps this node's credentials young: a new certificate at half of the old one's life, or when another CA signs; the
//! trusted CAs as the state has them. Connections that stand are not touched.

use std::sync::Arc;
use std::time::Duration;

use muster_core::command::{Command, NewCertificate};
use muster_core::id::{CertificateId, NodeId};
use muster_core::state::State;
use muster_core::state::apply::NODE_CERTIFICATE_LIFE;
use muster_core::time::Stamp;
use muster_proto::v1;
use muster_tls::{CertificateError, Credentials, KeyPair, Live, Subject};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::issue::{self, IssueError, Issued};
use super::store::{Store, StoreError};
use crate::clock;
use crate::peers::{Peers, sender};
use crate::proposer::Proposer;
use crate::submit::{Submit, SubmitError};

/// Between two tries.
const RETRY: Duration = Duration::from_secs(5);
/// Between two looks at changes of the state.
const PAUSE: Duration = Duration::from_millis(500);
/// How often the time that is left is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How long another agent may take to sign; it commits an entry.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// What renewing needs.
pub struct Renewal {
    /// This node.
    pub me: NodeId,
    /// The credentials in use.
    pub live: Live,
    /// Where they are kept.
    pub store: Store,
    /// The state as applied.
    pub state: watch::Receiver<Arc<State>>,
    /// Writes.
    pub proposer: Proposer,
    /// The other agents.
    pub peers: Peers,
}

/// Why a renewal failed.
#[derive(Debug, thiserror::Error)]
enum RenewError {
    #[error(transparent)]
    Submit(#[from] SubmitError),
    #[error(transparent)]
    Issue(#[from] IssueError),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("no voter could be asked: {0}")]
    NobodyAsked(String),
    #[error("the agent stops")]
    Stopping,
}

impl Renewal {
    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let wait = self.look_after().await;
            tokio::select! {
                () = stop.cancelled() => return,
                changed = self.state.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(wait) => {}
            }
            // On a busy cluster the state changes all the time.
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    /// Does what is due; how long to wait at most before the next look.
    async fn look_after(&mut self) -> Duration {
        let state = self.state.borrow_and_update().clone();
        if let Err(error) = self.follow_trust(&state) {
            tracing::error!(%error, "the trusted CAs could not be taken over");
            return RETRY;
        }
        let now = clock::wall_now();
        let identity = self.live.credentials().identity().clone();
        if !is_due(&state, &identity, now) {
            return LOOK_EVERY;
        }
        let why = match self.renew(&state).await {
            Ok(()) | Err(RenewError::Stopping) => return LOOK_EVERY,
            Err(error) => error,
        };
        if !is_urgent(&identity, now) {
            tracing::debug!(%why, "the certificate is not renewed yet");
            return RETRY;
        }
        match self.renew_alone(&state, &identity) {
            Ok(()) => tracing::info!("this member of Raft has signed its own certificate for now"),
            Err(_) if identity.ends <= now => tracing::error!(
                %why,
                "this node's certificate has expired: stop the agent, run 'muster join' here with a token, start it"
            ),
            Err(_) => {
                tracing::warn!(%why, ends_ms = identity.ends.0, "the certificate is not renewed, and ends soon")
            }
        }
        LOOK_EVERY
    }

    /// Trusts whom the state trusts.
    fn follow_trust(&self, state: &State) -> Result<(), RenewError> {
        let credentials = self.live.credentials();
        // After a restart the state may be older than the credentials, and must not take their trust back: the CA
        // that signed them may be one that this state has not heard of yet.
        if state.revision.0 < credentials.identity().certificate.0 {
            return Ok(());
        }
        let Some(trust) = issue::trust_of(state)? else { return Ok(()) };
        let above = issue::shown_above(state)?;
        if *credentials.trust() == trust && credentials.chain()[1..] == above[..] {
            return Ok(());
        }
        let next = credentials.amid(trust, above)?;
        self.store.save(&next)?;
        self.live.replace(next)?;
        tracing::info!("the trusted CAs have changed");
        Ok(())
    }

    async fn renew(&mut self, state: &State) -> Result<(), RenewError> {
        let key = KeyPair::generate()?;
        let request = key.request()?;
        let issued = if state.is_in_raft(self.me) {
            self.sign_here(&request).await?
        } else {
            self.ask_a_voter(state, &request).await?
        };
        self.take(key, issued)
    }

    /// As a member of Raft: the entry by the leader, the signature by this node.
    async fn sign_here(&mut self, request: &[u8]) -> Result<Issued, RenewError> {
        let command = Command::IssueCertificate(NewCertificate::Node { node: self.me, token_hash: None });
        let revision = self.proposer.submit(command).await?.revision;
        let known = self.state.wait_for(|state| state.revision >= revision).await;
        let state = known.map_err(|_| RenewError::Stopping)?.clone();
        let ends = state.nodes.get(&self.me).map_or(state.now, |node| node.certificates.ends);
        Ok(issue::issue(&state, request, Subject::Node(self.me), CertificateId(revision.0), ends)?)
    }

    async fn ask_a_voter(&self, state: &State, request: &[u8]) -> Result<Issued, RenewError> {
        let mut why = String::from("there is none");
        for voter in state.membership.voters() {
            let mut link = match self.peers.link(voter) {
                Ok(link) => link,
                Err(error) => {
                    why = error.to_string();
                    continue;
                }
            };
            let message = v1::RenewRequest {
                sender: Some(sender(state, self.me)),
                certificate_request: request.to_vec().into(),
            };
            match tokio::time::timeout(ASK_TIMEOUT, link.renew(message)).await {
                Ok(Ok(answer)) => return Ok(issue::issued_from_proto(&answer.into_inner())?),
                Ok(Err(status)) => status.message().clone_into(&mut why),
                Err(_) => "no answer".clone_into(&mut why),
            }
        }
        Err(RenewError::NobodyAsked(why))
    }

    /// Without a quorum, as after a long time in which the whole cluster was off: a member of Raft holds the CA's key,
    /// and extends the certificate that it has.
    fn renew_alone(&self, state: &State, identity: &muster_tls::Identity) -> Result<(), RenewError> {
        let key = KeyPair::generate()?;
        let now = clock::wall_now();
        let mut state = state.clone();
        state.now = now;
        let ends = now.plus(NODE_CERTIFICATE_LIFE);
        let subject = Subject::Node(self.me);
        let issued = issue::issue(&state, &key.request()?, subject, identity.certificate, ends)?;
        self.take(key, issued)
    }

    fn take(&self, key: KeyPair, issued: Issued) -> Result<(), RenewError> {
        let next = Credentials::new(key, issued.chain, issued.trust)?;
        let identity = next.identity().clone();
        self.store.save(&next)?;
        self.live.replace(next)?;
        tracing::info!(certificate = %identity.certificate, ends_ms = identity.ends.0, "the certificate was renewed");
        Ok(())
    }
}

/// At half of its life, or when another CA signs.
fn is_due(state: &State, identity: &muster_tls::Identity, now: Stamp) -> bool {
    let replaced =
        state.signing_authority().is_some_and(|a| a.id > identity.certificate && state.authorities.len() > 1);
    replaced || identity.half_life() <= now
}

/// In the last quarter of its life.
fn is_urgent(identity: &muster_tls::Identity, now: Stamp) -> bool {
    let half = identity.half_life().0;
    let three_quarters = half + identity.ends.0.saturating_sub(half) / 2;
    now.0 >= three_quarters
}

#[cfg(test)]
mod tests {
    use muster_core::id::ClusterId;

    use super::*;

    #[test]
    fn a_certificate_is_due_at_half_of_its_life_and_urgent_in_its_last_quarter() {
        let identity = muster_tls::Identity {
            cluster: ClusterId(1),
            subject: Subject::Node(NodeId(1)),
            certificate: CertificateId(1),
            begins: Stamp(1000),
            ends: Stamp(5000),
        };
        let state = State::default();
        let at = |ms| (is_due(&state, &identity, Stamp(ms)), is_urgent(&identity, Stamp(ms)));
        assert_eq!(at(2999), (false, false));
        assert_eq!(at(3000), (true, false));
        assert_eq!(at(4000), (true, true));
        assert_eq!(at(9000), (true, true));
    }
}
