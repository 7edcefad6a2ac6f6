//! The agent of this host, through its Unix socket.

use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use muster_proto::v1;
use muster_proto::v1::cluster_client::ClusterClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

use super::CommandError;
use crate::clock;
use crate::config::Config;

/// Between two looks at the status.
const LOOK_EVERY: Duration = Duration::from_millis(200);

fn endpoint() -> Endpoint {
    // The address is never used: the connector opens the socket.
    Endpoint::from_static("http://local.invalid")
}

type Connecting = Pin<Box<dyn Future<Output = std::io::Result<TokioIo<UnixStream>>> + Send>>;

fn connector(
    socket: &Path,
) -> impl tower::Service<Uri, Response = TokioIo<UnixStream>, Error = std::io::Error, Future = Connecting>
+ Send
+ 'static {
    let socket = socket.to_owned();
    tower::service_fn(move |_: Uri| -> Connecting {
        let socket = socket.clone();
        Box::pin(async move { UnixStream::connect(socket).await.map(TokioIo::new) })
    })
}

/// Connects to this host's agent.
///
/// # Errors
/// When it does not answer.
pub(super) async fn local_agent(config: &Config) -> Result<Channel, CommandError> {
    let path = config.api_socket();
    let connected = endpoint().connect_with_connector(connector(&path)).await;
    connected.map_err(|e| CommandError::NobodyAnswers { tried: format!("{}: {e}", path.display()) })
}

/// A channel to the agent behind a socket, which connects when it is first used.
pub(crate) fn local_channel(socket: &Path) -> Channel {
    endpoint().connect_with_connector_lazy(connector(socket))
}

/// Waits until this host's node is alive in the cluster.
///
/// # Errors
/// When it is not in time; says what is missing.
pub(super) async fn wait_alive(config: &Config, name: &str, limit: Duration) -> Result<(), CommandError> {
    let until = clock::monotonic() + limit;
    loop {
        let missing = match state_of(config, name).await {
            Ok(state) if state == "alive" => return Ok(()),
            Ok(state) => format!("node {name} is {state}"),
            Err(error) => error.to_string(),
        };
        if clock::monotonic() > until {
            return Err(CommandError::TimedOut(format!(
                "{missing}; look at: journalctl -u muster -u muster-guard"
            )));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn state_of(config: &Config, name: &str) -> Result<String, CommandError> {
    let mut cluster = ClusterClient::new(local_agent(config).await?);
    let status = cluster.get_status(v1::GetStatusRequest { stale: false }).await;
    let status = status.map_err(|s| CommandError::from_status(&s))?.into_inner();
    let node = status.nodes.into_iter().find(|n| n.name == name);
    Ok(node.map_or_else(|| "not in the cluster yet".to_owned(), |n| n.state))
}
