//! `muster leave`: takes this host out of its cluster, in order.

use std::time::Duration;

use muster_proto::v1;
use muster_proto::v1::cluster_client::ClusterClient;
use muster_proto::v1::node_link_client::NodeLinkClient;
use tonic::transport::Channel;

use super::local::local_agent;
use super::{CommandError, Leave};
use crate::clock;
use crate::config;
use crate::node::NodeError;
use crate::storage::directory;

/// Between two looks at the status.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Runs the command.
///
/// # Errors
/// When the local agent doesn't answer, the cluster refuses, or the host isn't empty in time.
pub async fn run(args: &Leave) -> Result<(), CommandError> {
    let variables: Vec<_> = std::env::vars().collect();
    let config = config::load(args.config.config.as_deref(), &variables).map_err(NodeError::from)?;
    // What it joined as; the host may have another name by now, and another node that one.
    let identity = directory::identity_in(&config.node.data_dir).map_err(NodeError::from)?;
    let name = match identity {
        Some(identity) => identity.node_name,
        None => config.node_name().map_err(NodeError::from)?.to_string(),
    };
    let channel = local_agent(&config).await?;
    let mut cluster = ClusterClient::new(channel.clone());
    let until = clock::monotonic() + Duration::from_secs(args.timeout);

    // First of all: a node that can't be taken out goes on as it is.
    act(&mut cluster, &name, false).await?;

    super::say(&format!("draining {name}"));
    let wish = v1::DrainRequest { node: name.clone(), ..v1::DrainRequest::default() };
    cluster.drain(wish).await.map_err(|s| CommandError::from_status(&s))?;
    wait_empty(&mut cluster, &name, until).await?;

    super::say("ending the session of this host's guard");
    let mut link = NodeLinkClient::new(channel);
    link.leave(v1::LeaveRequest {}).await.map_err(|s| CommandError::from_status(&s))?;
    wait_closed(&mut cluster, &name, until).await?;

    super::say("removing the node");
    act(&mut cluster, &name, true).await?;

    let old = directory::retire(&config.node.data_dir)
        .map_err(|source| CommandError::Io { what: "setting the identity aside".to_owned(), source })?;
    super::say(&format!("node {name} has left; its identity is kept as {}", old.display()));
    super::say("stop its agent and guard now; 'muster join' brings this host back as a new node");
    Ok(())
}

/// Removes the node; or only asks whether it can be.
async fn act(cluster: &mut ClusterClient<Channel>, name: &str, remove: bool) -> Result<(), CommandError> {
    let act = Some(v1::act_on_node_request::Act::Remove(remove));
    let request = v1::ActOnNodeRequest { request: None, node: name.to_owned(), act };
    cluster.act_on_node(request).await.map(|_| ()).map_err(|s| CommandError::from_status(&s))
}

async fn wait_empty(
    cluster: &mut ClusterClient<Channel>,
    name: &str,
    until: tokio::time::Instant,
) -> Result<(), CommandError> {
    wait(cluster, name, until, |node| {
        let Some(drain) = &node.drain else { return Ok(()) };
        if drain.remaining == 0 {
            return Ok(());
        }
        let blocked: Vec<_> = drain.blocked.iter().map(|b| format!("{}: {}", b.instance, b.reason)).collect();
        Err(format!("{} instances are left on it ({})", drain.remaining, blocked.join("; ")))
    })
    .await
}

async fn wait_closed(
    cluster: &mut ClusterClient<Channel>,
    name: &str,
    until: tokio::time::Instant,
) -> Result<(), CommandError> {
    wait(cluster, name, until, |node| match node.session {
        None => Ok(()),
        Some(session) => Err(format!("its session {session} is still open")),
    })
    .await
}

async fn wait(
    cluster: &mut ClusterClient<Channel>,
    name: &str,
    until: tokio::time::Instant,
    is_done: impl Fn(&v1::NodeStatus) -> Result<(), String>,
) -> Result<(), CommandError> {
    let mut last = String::from("no agent answered");
    loop {
        if let Ok(status) = cluster.get_status(v1::GetStatusRequest { stale: false }).await {
            let status = status.into_inner();
            match status.nodes.iter().find(|n| n.name == name).map(&is_done) {
                None | Some(Ok(())) => return Ok(()),
                Some(Err(why)) => last = why,
            }
        }
        if clock::monotonic() > until {
            return Err(CommandError::TimedOut(last));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
