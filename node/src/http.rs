//! HTTP for probes, load balancers and Prometheus: reads only, answered by this node alone, no operator needed.

mod leader;
mod metrics;
mod probe;
mod status;
mod timestamp;

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::handles::Handles;
use crate::security::listen::{Strangers, StrangersPlace};
use crate::security::rejections::Rejections;

/// What `/` answers.
const INDEX: &str = "\
Muster agent

/livez                        200 while the agent runs
/readyz                       200 while it follows a leader, or an agent that does, and its log is caught up
/metrics                      for Prometheus
/v1/status                    the cluster as this node knows it, as JSON
/v1/services/NAME/leader      200 on the node that runs the exclusive service and holds a valid lease, 503 elsewhere
";

/// How long a request's header may take, and how long a connection may be idle: a scrape comes in one packet.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest header, in bytes; no less is possible.
const MAX_HEADER_BYTES: usize = 8 << 10;
/// How long a connection is kept for further requests. Whoever stays longer comes anew.
const CONNECTION_LIVES: Duration = Duration::from_secs(60);
/// How long the last answer may take to be read then.
const LAST_ANSWER: Duration = Duration::from_secs(10);
/// After an error of the listener itself, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown`. Nobody here is known, so that connections are limited as those of strangers are.
pub async fn serve(handles: Handles, listeners: Vec<TcpListener>, shutdown: CancellationToken) {
    let strangers = Arc::default();
    let rejections = handles.rejections.clone();
    let door = Door { router: router(handles), strangers, rejections, shutdown: shutdown.clone() };
    let mut servers = JoinSet::new();
    for listener in listeners {
        servers.spawn(door.clone().accept_all(listener));
    }
    shutdown.cancelled().await;
    servers.shutdown().await;
}

/// What the listeners share.
#[derive(Clone)]
struct Door {
    router: Router,
    strangers: Arc<Mutex<Strangers>>,
    rejections: Rejections,
    shutdown: CancellationToken,
}

impl Door {
    async fn accept_all(self, listener: TcpListener) {
        loop {
            let (tcp, remote) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection to the HTTP server could not be taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(place) = StrangersPlace::take(&self.strangers, remote.ip()) else {
                self.rejections.connection(remote, "too_many_http", &"too many connections for HTTP");
                continue;
            };
            let (router, shutdown) = (self.router.clone(), self.shutdown.clone());
            tokio::spawn(async move {
                let _place = place;
                tokio::select! {
                    // Keep-alive connections of probes would hold up the end of the agent.
                    () = shutdown.cancelled() => {}
                    () = serve_one(tcp, router) => {}
                }
            });
        }
    }
}

async fn serve_one(tcp: TcpStream, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(tcp), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let ended = match tokio::time::timeout(CONNECTION_LIVES, connection.as_mut()).await {
        Ok(ended) => ended,
        Err(_) => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(LAST_ANSWER, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the HTTP server ended");
    }
}

fn router(handles: Handles) -> Router {
    Router::new()
        .route("/", get(|| async { INDEX }))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(probe::ready))
        .route("/metrics", get(metrics::render))
        .route("/v1/status", get(status::status))
        .route("/v1/services/{name}/leader", get(leader::leader))
        .with_state(handles)
}
