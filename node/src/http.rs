//! HTTP for probes, load balancers and Prometheus: reads only, answered by this node alone, no operator needed.

mod leader;
mod metrics;
mod probe;
mod status;
mod timestamp;

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::handles::Handles;

/// What `/` answers.
const INDEX: &str = "\
Muster agent

/livez                        200 while the agent runs
/readyz                       200 while it follows a leader and its log is caught up
/metrics                      for Prometheus
/v1/status                    the cluster as this node knows it, as JSON
/v1/services/NAME/leader      200 on the node that runs the exclusive service and holds a valid lease, 503 elsewhere
";

/// Serves until `shutdown`.
pub async fn serve(handles: Handles, listeners: Vec<TcpListener>, shutdown: CancellationToken) {
    let router = router(handles);
    let mut servers = JoinSet::new();
    for listener in listeners {
        let (router, stop) = (router.clone(), shutdown.clone());
        servers.spawn(async move {
            let server = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
            if let Err(error) = server.await {
                tracing::error!(%error, "the HTTP server ended");
            }
        });
    }
    shutdown.cancelled().await;
    // Keep-alive connections of probes would hold up the end of the agent.
    servers.shutdown().await;
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
