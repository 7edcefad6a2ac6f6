//! `muster join`: asks an agent of the cluster to let this host in.

use std::time::Duration;

use muster_core::command::NodeDescription;
use muster_proto::v1;
use muster_proto::v1::node_link_client::NodeLinkClient;

use super::{CommandError, Join, systemd};
use crate::config::{self, Config};
use crate::node::{FEATURES_HIGHEST, FEATURES_LOWEST, NodeError};
use crate::peers::connect;
use crate::seed::Seed;
use crate::storage::directory::{DataDirectory, DirectoryError, Identity};
use crate::token;

/// How long one agent may take to answer; joining needs a quorum's commit.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// Asks the agents in turn, and prepares the data directory with the answer.
///
/// # Errors
/// When the configuration or directory can't be used, nobody answers, or the cluster refuses.
pub async fn join(
    config: &Config,
    insecure: bool,
    token_text: &str,
    agents: &[String],
) -> Result<Identity, CommandError> {
    config.check(insecure).map_err(NodeError::from)?;
    let name = config.node_name().map_err(NodeError::from)?.to_string();
    let mut directory = DataDirectory::open(&config.node.data_dir).map_err(NodeError::from)?;
    if let Some(owner) = directory.identity() {
        return Err(NodeError::from(DirectoryError::Taken {
            path: config.node.data_dir.clone(),
            node: owner.node_name.clone(),
            cluster: owner.cluster_name.clone(),
        })
        .into());
    }
    if !token::is_well_formed(token_text) {
        return Err(CommandError::MalformedToken);
    }
    let reply = ask(config, &name, token_text, agents).await?;
    let timing = reply.timing.as_ref().map(muster_wire::timing_from_proto);
    let peers = reply.peers.iter().flat_map(|p| p.addresses.iter().cloned()).collect();
    let seed = Seed { timing: timing.unwrap_or(muster_core::time::Timing::LAN), peers, bootstrap: None };
    seed.write(directory.path()).map_err(|e| NodeError::from(DirectoryError::from(e)))?;
    let machine_id = directory.machine_id().to_owned();
    let identity = Identity {
        cluster_id: reply.cluster_id.iter().map(|b| format!("{b:02x}")).collect(),
        cluster_name: reply.cluster_name,
        node_id: reply.node,
        node_name: name,
        incarnation: reply.incarnation,
        machine_id,
    };
    directory.claim(identity.clone()).map_err(NodeError::from)?;
    Ok(identity)
}

async fn ask(
    config: &Config,
    name: &str,
    token_text: &str,
    agents: &[String],
) -> Result<v1::JoinReply, CommandError> {
    let advertised = config.advertised().map_err(NodeError::from)?;
    let description = NodeDescription {
        addresses: advertised.iter().map(ToString::to_string).collect(),
        labels: config.node.labels.clone(),
        capacity: config.capacity(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        features: (FEATURES_LOWEST, FEATURES_HIGHEST),
    };
    // The same number for every agent that is asked: joining is applied once.
    let request = v1::JoinRequest {
        token: token_text.trim().to_owned(),
        name: name.to_owned(),
        description: Some(muster_wire::description_to_proto(&description)),
        role: muster_wire::role_to_proto(config.node.role.into()).into(),
        request: Some(v1::RequestId { client: getrandom::u64().map_err(NodeError::from)?.max(1), seq: 1 }),
    };
    let mut tried = Vec::new();
    for agent in agents {
        let why = match ask_one(agent, request.clone()).await {
            Ok(reply) => return Ok(reply),
            Err(AskError::Refused(status)) => return Err(CommandError::from_status(&status)),
            Err(AskError::Unreachable(why)) => why,
        };
        tried.push(format!("{agent}: {why}"));
    }
    Err(CommandError::NobodyAnswers { tried: tried.join("; ") })
}

enum AskError {
    Refused(Box<tonic::Status>),
    Unreachable(String),
}

async fn ask_one(agent: &str, request: v1::JoinRequest) -> Result<v1::JoinReply, AskError> {
    let channel = connect(agent).map_err(|e| AskError::Unreachable(e.to_string()))?;
    let mut link = NodeLinkClient::new(channel);
    match tokio::time::timeout(ASK_TIMEOUT, link.join(request)).await {
        Ok(Ok(reply)) => Ok(reply.into_inner()),
        Ok(Err(status)) if status.metadata().contains_key("muster-exit") => {
            Err(AskError::Refused(Box::new(status)))
        }
        Ok(Err(status)) => Err(AskError::Unreachable(why_unreachable(&status))),
        Err(_) => Err(AskError::Unreachable(format!("no answer within {} s", ASK_TIMEOUT.as_secs()))),
    }
}

/// What the transport met, in an operator's words.
fn why_unreachable(status: &tonic::Status) -> String {
    let mut cause = std::error::Error::source(status);
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            return io.kind().to_string();
        }
        cause = inner.source();
    }
    if status.message().contains("grpc-status header missing") {
        return "something else listens there; agents listen on port 7420 unless configured otherwise"
            .to_owned();
    }
    status.message().to_owned()
}

/// Runs the command.
///
/// # Errors
/// As [`join`], and when systemd can't be told with `--now`.
pub async fn run(args: &Join) -> Result<(), CommandError> {
    if args.now {
        systemd::check()?;
        systemd::write_missing_config(args.config.config.as_deref())?;
    }
    let variables: Vec<_> = std::env::vars().collect();
    let config = config::load(args.config.config.as_deref(), &variables).map_err(NodeError::from)?;
    let identity = join(&config, args.config.insecure, &args.token, &args.agents).await?;
    super::say(&format!("node {} joined cluster '{}'", identity.node_name, identity.cluster_name));
    if args.now {
        systemd::start(&config, args.config.insecure).await
    } else {
        super::say("\nstart it:\n  muster agent");
        Ok(())
    }
}
