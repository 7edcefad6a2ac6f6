//! `muster init`: the first node of a new cluster.

use std::path::PathBuf;
use std::time::Duration;

use muster_core::id::{CertificateId, ClusterId, NodeId};
use muster_core::state::apply::NODE_CERTIFICATE_LIFE;
use muster_core::time::Stamp;
use muster_tls::{Authority, CertificateError, Credentials, KeyPair, Subject, Trust};

use super::{Init, systemd};
use crate::clock;
use crate::config::{self, Config};
use crate::node::NodeError;
use crate::security::store::Store;
use crate::seed::{FirstToken, Seed};
use crate::storage::directory::{DataDirectory, Identity};
use crate::token::Token;

/// How long the token that `init` prints can be used.
pub const TOKEN_TTL: Duration = Duration::from_secs(24 * 3600);
/// How many hosts can join with it.
pub const TOKEN_USES: u32 = 16;

/// The node that makes the cluster.
const FIRST_NODE: NodeId = NodeId(1);

/// What `init` made.
#[derive(Debug)]
pub struct Made {
    /// The node's name.
    pub node: String,
    /// Where its state is.
    pub data_dir: PathBuf,
    /// For the other hosts.
    pub token: String,
    /// Where they join.
    pub addresses: Vec<String>,
}

/// Prepares the data directory; the agent makes the cluster when it first starts.
///
/// # Errors
/// When the configuration or the directory can't be used, or the directory belongs to a cluster already.
pub fn prepare(config: &Config, cluster_name: &str) -> Result<Made, NodeError> {
    config.check()?;
    let node = config.node_name()?.to_string();
    let mut directory = DataDirectory::open(&config.node.data_dir)?;
    let mut id = [0u8; 16];
    getrandom::fill(&mut id)?;
    let cluster = ClusterId(u128::from_be_bytes(id));
    let now = clock::wall_now();
    let authority = Authority::generate(cluster, now)?;
    let token = Token::generate(authority.certificate().pin())?;
    let first = FirstToken {
        id: token.id.clone(),
        hash: token.hash().iter().map(|b| format!("{b:02x}")).collect(),
        expires_ms: now.plus(TOKEN_TTL).0,
        uses: TOKEN_USES,
    };
    if directory.identity().is_none() {
        let store = Store::new(directory.path());
        store.save(&first_credentials(&authority, cluster, now)?)?;
        store.save_authority(&authority)?;
        let seed = Seed { timing: config.timing()?, peers: Vec::new(), bootstrap: Some(first) };
        seed.write(directory.path()).map_err(crate::storage::directory::DirectoryError::from)?;
    }
    let machine_id = directory.machine_id().to_owned();
    directory.claim(Identity {
        cluster_id: cluster.to_string(),
        cluster_name: cluster_name.to_owned(),
        node_id: FIRST_NODE.0,
        node_name: node.clone(),
        incarnation: 1,
        machine_id,
    })?;
    let addresses = config.advertised()?.iter().map(ToString::to_string).collect();
    Ok(Made { node, data_dir: config.node.data_dir.clone(), token: token.text, addresses })
}

/// The first node's certificate: there is no log yet that could issue it.
fn first_credentials(
    authority: &Authority,
    cluster: ClusterId,
    now: Stamp,
) -> Result<Credentials, CertificateError> {
    let key = KeyPair::generate()?;
    let identity = muster_tls::Identity {
        cluster,
        subject: Subject::Node(FIRST_NODE),
        certificate: CertificateId(FIRST_NODE.0),
        begins: now,
        ends: now.plus(NODE_CERTIFICATE_LIFE),
    };
    let own = authority.sign(&key.request()?, &identity)?;
    let trust = Trust::new(cluster, vec![authority.certificate().clone()]);
    Credentials::new(key, vec![own, authority.certificate().clone()], trust)
}

/// Runs the command.
///
/// # Errors
/// As [`prepare`], and when systemd can't be told with `--now`.
pub async fn run(args: &Init) -> Result<(), super::CommandError> {
    if args.now {
        systemd::check()?;
        systemd::write_missing_config(args.config.config.as_deref())?;
    }
    let variables: Vec<_> = std::env::vars().collect();
    let config = config::load(args.config.config.as_deref(), &variables).map_err(NodeError::from)?;
    let made = prepare(&config, &args.name)?;
    super::say(&format!("cluster '{}' is prepared in {}", args.name, made.data_dir.display()));
    super::say(&format!("this host is its first node, {}", made.node));
    if args.now {
        systemd::start(&config).await?;
    } else {
        super::say(&format!("\nstart it:\n  {}", super::agent_command(&args.config)));
    }
    let now = if args.now { "--now " } else { "" };
    super::say(&format!(
        "\non every other host:\n  muster join {now}--token {} {}",
        made.token,
        made.addresses.join(" ")
    ));
    super::say("(good for a day and 16 hosts; 'musterctl token create' makes another one)");
    Ok(())
}
