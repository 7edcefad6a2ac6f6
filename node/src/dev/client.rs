//! A small client of the operator's API for `muster dev`.

use std::path::PathBuf;
use std::time::Duration;

use muster_proto::v1;
use muster_proto::v1::cluster_client::ClusterClient;
use muster_tls::{Credentials, KeyPair};
use tonic::transport::Channel;

use super::DevError;
use crate::clock;
use crate::command::local::local_channel;
use crate::security::issue;

/// Between two looks at the status.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// Talks to whichever agent answers.
pub(super) struct Client {
    agents: Vec<ClusterClient<Channel>>,
}

impl Client {
    /// Of the agents behind these sockets: whoever runs them may do everything there.
    pub(super) fn new(sockets: Vec<PathBuf>) -> Self {
        let channels = sockets.into_iter().map(|socket| local_channel(&socket));
        Self { agents: channels.map(ClusterClient::new).collect() }
    }

    /// A user with a certificate, as a context file.
    pub(super) async fn create_user(&self, name: &str) -> Result<String, DevError> {
        let broken = |e: muster_tls::CertificateError| DevError::Broken(e.to_string());
        let key = KeyPair::generate().map_err(broken)?;
        let request = v1::IssueUserRequest {
            request: None,
            name: name.to_owned(),
            role: v1::UserRole::Admin.into(),
            life_ms: 0,
            certificate_request: key.request().map_err(broken)?.into(),
        };
        let issued = self
            .ask("user create", |mut c| {
                let request = request.clone();
                async move { c.issue_user(request).await }
            })
            .await?;
        let certificates = issue::issued_from_proto(&issued.certificates.unwrap_or_default());
        let certificates = certificates.map_err(broken)?;
        let credentials = Credentials::new(key, certificates.chain, certificates.trust).map_err(broken)?;
        Ok(credentials.to_context(&issued.addresses))
    }

    /// The first answer to a call that any agent gives; agents that can't be reached are passed over.
    async fn ask<T, F, Fut>(&self, what: &'static str, call: F) -> Result<T, DevError>
    where
        F: Fn(ClusterClient<Channel>) -> Fut,
        Fut: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let mut last = String::from("no agent");
        for agent in &self.agents {
            match tokio::time::timeout(CALL_TIMEOUT, call(agent.clone())).await {
                Ok(Ok(reply)) => return Ok(reply.into_inner()),
                Ok(Err(status)) => status.message().clone_into(&mut last),
                Err(_) => "no answer".clone_into(&mut last),
            }
        }
        Err(DevError::Refused { what, message: last })
    }

    pub(super) async fn status(&self) -> Result<v1::ClusterStatus, DevError> {
        let request = v1::GetStatusRequest { stale: false };
        self.ask("status", |mut c| async move { c.get_status(request).await }).await
    }

    /// Looks at the status until `is_so`.
    pub(super) async fn until(
        &self,
        limit: Duration,
        what: &str,
        is_so: impl Fn(&v1::ClusterStatus) -> bool,
    ) -> Result<v1::ClusterStatus, DevError> {
        let until = clock::monotonic() + limit;
        loop {
            if let Ok(status) = self.status().await
                && is_so(&status)
            {
                return Ok(status);
            }
            if clock::monotonic() > until {
                return Err(DevError::TimedOut { what: what.to_owned(), waited_s: limit.as_secs() });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits for the token that the first agent makes once it leads: before that nobody can join.
    pub(super) async fn until_there_is_a_token(&self, limit: Duration) -> Result<(), DevError> {
        let until = clock::monotonic() + limit;
        loop {
            let asked = self.ask("token list", |mut c| async move {
                c.list_tokens(v1::ListTokensRequest::default()).await
            });
            if asked.await.is_ok_and(|reply| !reply.tokens.is_empty()) {
                return Ok(());
            }
            if clock::monotonic() > until {
                let what = "the first agent's join token".to_owned();
                return Err(DevError::TimedOut { what, waited_s: limit.as_secs() });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    pub(super) async fn apply(&self, spec: v1::ServiceSpec) -> Result<(), DevError> {
        let request =
            v1::ApplyRequest { request: None, services: vec![spec], if_revision: None, dry_run: false };
        self.ask("apply", |mut c| {
            let request = request.clone();
            async move { c.apply(request).await }
        })
        .await
        .map(|_| ())
    }

    pub(super) async fn transfer_leader(&self, to: &str) -> Result<(), DevError> {
        let request = v1::HandOverRequest { to: to.to_owned() };
        self.ask("transfer-leader", |mut c| {
            let request = request.clone();
            async move { c.transfer_leader(request).await }
        })
        .await
        .map(|_| ())
    }

    pub(super) async fn drain(&self, node: &str) -> Result<(), DevError> {
        let request = v1::DrainRequest {
            request: None,
            node: node.to_owned(),
            deadline_ms: None,
            max_parallel: 0,
            dry_run: false,
        };
        self.ask("drain", |mut c| {
            let request = request.clone();
            async move { c.drain(request).await }
        })
        .await
        .map(|_| ())
    }
}
