//! `muster join`: asks an agent of the cluster to let this host in.

use std::time::Duration;

use muster_core::command::NodeDescription;
use muster_proto::v1;
use muster_proto::v1::joining_client::JoiningClient;
use muster_tls::{ConnectError, Credentials, KeyPair, Pinned, SecureConnector};

use super::{CommandError, Join, systemd};
use crate::api::joining::proven;
use crate::clock;
use crate::config::{self, Config};
use crate::node::{FEATURES_HIGHEST, FEATURES_LOWEST, NodeError};
use crate::peers::settings;
use crate::security::issue;
use crate::security::store::Store;
use crate::seed::Seed;
use crate::storage::directory::{DataDirectory, DirectoryError, Identity};
use crate::token;

/// How long one agent may take to answer; joining needs a quorum's commit.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// Asks the agents in turn, and prepares the data directory with the answer. A host whose certificate has expired comes
/// back as the node that it was.
///
/// # Errors
/// When the configuration or directory can't be used, nobody answers, or the cluster refuses.
pub async fn join(config: &Config, token_text: &str, agents: &[String]) -> Result<Identity, CommandError> {
    config.check().map_err(NodeError::from)?;
    let name = config.node_name().map_err(NodeError::from)?.to_string();
    let pin = token::pin(token_text).ok_or(CommandError::MalformedToken);
    let mut directory = DataDirectory::open(&config.node.data_dir).map_err(NodeError::from)?;
    let store = Store::new(directory.path());
    let key = KeyPair::generate().map_err(NodeError::from)?;
    let certificate_request = key.request().map_err(NodeError::from)?;
    let old = directory.identity().cloned();
    let returning = match &old {
        Some(owner) => Some(returning(owner, &store, &certificate_request, token_text)?),
        None => None,
    };
    let pinned = Pinned::new(pin?).map_err(NodeError::from)?;
    let name = old.as_ref().map_or(name, |owner| owner.node_name.clone());
    let wish = Wish { name: name.clone(), token: token_text, certificate_request, returning };
    let reply = ask(config, &pinned, wish, agents).await?;
    let issued = issue::issued_from_proto(&reply.certificates.clone().unwrap_or_default());
    let issued = issued.map_err(NodeError::from)?;
    let credentials = Credentials::new(key, issued.chain, issued.trust).map_err(NodeError::from)?;
    store.save(&credentials).map_err(NodeError::from)?;
    if let Some(owner) = old {
        return Ok(owner);
    }
    let timing = reply.timing.as_ref().map(muster_wire::timing_from_proto);
    if let Some(told) = timing.as_ref().and_then(|timing| config.timing_in_vain(timing)) {
        super::note(&told);
    }
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

/// What a host that was a node proves, unless it still is one.
fn returning(
    owner: &Identity,
    store: &Store,
    request: &[u8],
    token_text: &str,
) -> Result<v1::Returning, CommandError> {
    let taken = || {
        NodeError::from(DirectoryError::Taken {
            path: store.data_dir().to_owned(),
            node: owner.node_name.clone(),
            cluster: owner.cluster_name.clone(),
        })
    };
    let credentials = store.load().map_err(|_| taken())?;
    if credentials.identity().ends > clock::wall_now() {
        return Err(taken().into());
    }
    let proof = credentials.key().prove(&proven(request, token_text)).map_err(NodeError::from)?;
    Ok(v1::Returning {
        node: owner.node_id,
        certificate: credentials.chain()[0].der().to_vec().into(),
        proof: proof.0.into(),
    })
}

/// What the host asks for.
struct Wish<'a> {
    name: String,
    token: &'a str,
    certificate_request: Vec<u8>,
    returning: Option<v1::Returning>,
}

async fn ask(
    config: &Config,
    pinned: &Pinned,
    wish: Wish<'_>,
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
    // The same words to every agent that is asked: joining is applied once.
    let request = v1::JoinRequest {
        token: wish.token.trim().to_owned(),
        name: wish.name,
        description: Some(muster_wire::description_to_proto(&description)),
        role: muster_wire::role_to_proto(config.node.role.into()).into(),
        request: None,
        certificate_request: wish.certificate_request.into(),
        returning: wish.returning,
    };
    let mut tried = Vec::new();
    for agent in agents {
        let why = match ask_one(pinned, agent, request.clone()).await {
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

async fn ask_one(pinned: &Pinned, agent: &str, request: v1::JoinRequest) -> Result<v1::JoinReply, AskError> {
    let settings = settings(agent).map_err(|e| AskError::Unreachable(e.to_string()))?;
    let channel = muster_tls::channel(&settings, SecureConnector::pinned(pinned, agent));
    let mut joining = JoiningClient::new(channel);
    match tokio::time::timeout(ASK_TIMEOUT, joining.join(request)).await {
        Ok(Ok(reply)) => Ok(reply.into_inner()),
        Ok(Err(status)) if status.metadata().contains_key("muster-exit") => {
            Err(AskError::Refused(Box::new(status)))
        }
        Ok(Err(status)) => Err(AskError::Unreachable(why_unreachable(&status))),
        Err(_) => Err(AskError::Unreachable(format!("no answer within {} s", ASK_TIMEOUT.as_secs()))),
    }
}

/// What the connection met, in an operator's words.
fn why_unreachable(status: &tonic::Status) -> String {
    let mut cause = std::error::Error::source(status);
    while let Some(inner) = cause {
        if let Some(connect) = inner.downcast_ref::<ConnectError>() {
            return match connect {
                ConnectError::Tls(why) if why.contains("not signed by the CA") => {
                    format!("{why}; the token is for another cluster, or older than its CA")
                }
                other => other.to_string(),
            };
        }
        cause = inner.source();
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
    let identity = join(&config, &args.token, &args.agents).await?;
    super::say(&format!("node {} joined cluster '{}'", identity.node_name, identity.cluster_name));
    if args.now {
        systemd::start(&config).await
    } else {
        super::say(&format!("\nstart it:\n  {}", super::agent_command(&args.config)));
        Ok(())
    }
}
