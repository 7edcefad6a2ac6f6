//! The operator of a test: a user with a certificate, as anybody who operates a cluster from elsewhere.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use hyper_util::rt::TokioIo;
use muster_tls::{ConnectError, Credentials, Expected, Live, SecureConnector};
use serde::Deserialize;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint, Uri};

use super::HarnessError;

/// The operator's credentials, once the cluster has made them.
#[derive(Clone, Debug, Default)]
pub struct Operator(Arc<OnceLock<Live>>);

/// What is needed of a context file.
#[derive(Deserialize)]
struct Context {
    credentials: String,
    trusted: String,
}

impl Operator {
    /// Takes the credentials of a context file.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn become_user(&self, context: &Path) -> Result<(), HarnessError> {
        let text = std::fs::read_to_string(context).map_err(HarnessError::io("the operator's context"))?;
        let wrong = |e: &dyn std::fmt::Display| HarnessError::broken(format!("the operator's context: {e}"));
        let context: Context = toml::from_str(&text).map_err(|e| wrong(&e))?;
        let credentials =
            Credentials::from_pem(&context.credentials, &context.trusted).map_err(|e| wrong(&e))?;
        let live = Live::new(credentials).map_err(|e| wrong(&e))?;
        self.0.set(live).map_err(|_| HarnessError::broken("the operator is somebody already"))
    }

    /// A channel to an agent, with these settings. Until there are credentials, it can't be reached.
    #[must_use]
    pub fn channel(&self, settings: &Endpoint, address: &str) -> Channel {
        let (live, address) = (Arc::clone(&self.0), address.to_owned());
        settings.connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
            let connector =
                live.get().map(|live| SecureConnector::new(live.clone(), &address, Expected::AnyNode));
            async move {
                let nobody = || ConnectError::Tls("the operator has no certificate yet".to_owned());
                let stream = connector.ok_or_else(nobody)?.connect().await?;
                Ok::<TokioIo<muster_tls::ClientStream<TcpStream>>, ConnectError>(TokioIo::new(stream))
            }
        }))
    }
}
