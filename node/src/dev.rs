//! `muster dev`: a whole cluster of real agents, each with its own guard and storage, on loopback or on hosts made of
//! network namespaces.

mod cable;
mod client;
mod cluster;
mod netns;
mod node;
mod paths;
mod registry;
mod tour;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::command::{CommandError, Dev};
use client::Client;
use cluster::DevCluster;
use node::DevNode;

/// How long the cluster may take to form.
const FORM_TIMEOUT: Duration = Duration::from_secs(30);

/// The user whose context is written.
const DEV_USER: &str = "dev";

/// Why a development cluster failed.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// A file or process.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// An agent ended by itself.
    #[error("agent {node} ended ({status}); the end of its log {}:\n{tail}", log.display())]
    AgentEnded {
        /// Which.
        node: String,
        /// How.
        status: String,
        /// Its log.
        log: PathBuf,
        /// The last lines.
        tail: String,
    },
    /// Something did not happen in time.
    #[error("waited {waited_s} s in vain for {what}")]
    TimedOut {
        /// For what.
        what: String,
        /// How long.
        waited_s: u64,
    },
    /// The API said no.
    #[error("{what}: {message}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// The answer.
        message: String,
    },
    /// Not root.
    #[error("{what} needs root: use sudo")]
    NeedsRoot {
        /// What was asked.
        what: &'static str,
    },
    /// No iproute2.
    #[error(
        "network namespaces are made with the command 'ip', which is not here: install the package iproute2"
    )]
    NoIpTool,
    /// `ip` failed.
    #[error("'ip {line}' failed: {detail}")]
    Ip {
        /// Its arguments.
        line: String,
        /// What it said.
        detail: String,
    },
    /// Nothing to act on.
    #[error("no development cluster of root runs {}: start one with 'muster dev --netns'", place(.dir.as_deref()))]
    NoCluster {
        /// The directory that was named.
        dir: Option<PathBuf>,
    },
    /// Its nodes have no cables.
    #[error(
        "the development cluster in {} runs on loopback, where no cable can be pulled: end it and start it with \
         'muster dev --netns'",
        dir.display()
    )]
    NotNamespaces {
        /// Its directory.
        dir: PathBuf,
    },
    /// No node of that name.
    #[error("there is no node {name} in the development cluster; there are {nodes}")]
    NoNode {
        /// What was asked for.
        name: String,
        /// All that there are.
        nodes: String,
    },
    /// The promise was broken.
    #[error("{0}")]
    Broken(String),
}

impl DevError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// The stable exit status.
    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            Self::NeedsRoot { .. } => 77,
            Self::NoCluster { .. } | Self::NoNode { .. } => 105,
            Self::NotNamespaces { .. } => 107,
            Self::TimedOut { .. } => 124,
            _ => 1,
        }
    }
}

fn place(dir: Option<&Path>) -> String {
    dir.map_or_else(|| "here".to_owned(), |dir| format!("in {}", dir.display()))
}

/// Runs the command until Ctrl-C, or until the tour is over; or pulls or plugs a cable of the cluster that runs.
///
/// # Errors
/// When the cluster does not form, or the tour finds a promise broken; without such a cluster or node.
pub async fn run(args: &Dev) -> Result<(), CommandError> {
    if let Some(act) = &args.act {
        return cable::run(act).map_err(CommandError::from);
    }
    let mut interrupted =
        signals().map_err(|source| CommandError::Io { what: "signals".to_owned(), source })?;
    let mut cluster = DevCluster::create(args)?;
    let outcome = tokio::select! {
        result = play(&mut cluster, args) => result,
        _ = interrupted.recv() => Ok(()),
    };
    let stopped = cluster.stop().await;
    if args.keep || (outcome.is_err() && !args.tour) {
        say(&format!("the files stay in {}", cluster.dir().display()));
    } else if let Err(error) = cluster.remove_files() {
        say(&error.to_string());
    }
    outcome.and(stopped).map_err(CommandError::from)
}

fn signals() -> std::io::Result<tokio::sync::mpsc::Receiver<()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (tell, told) = tokio::sync::mpsc::channel(1);
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let (mut stream, tell) = (signal(kind)?, tell.clone());
        tokio::spawn(async move {
            stream.recv().await;
            // The first signal is enough; nobody listens for more.
            let _told = tell.send(()).await;
        });
    }
    Ok(told)
}

async fn play(cluster: &mut DevCluster, args: &Dev) -> Result<(), DevError> {
    say(&format!("starting {} agents under {}", args.nodes, cluster.dir().display()));
    let client = form(cluster).await?;
    if args.tour {
        return tour::play(cluster, &client).await;
    }
    let context = match cluster.network() {
        None => client.create_user(DEV_USER).await?,
        Some(_) => through_sockets(&cluster.sockets()),
    };
    invite(cluster, &context)?;
    std::future::pending().await
}

async fn form(cluster: &mut DevCluster) -> Result<Client, DevError> {
    let started = crate::clock::monotonic();
    cluster.prepare()?;
    cluster.start_first()?;
    let client = Client::new(cluster.sockets());
    client.until(FORM_TIMEOUT, "the first agent to lead", |s| !s.leader.is_empty()).await?;
    client.until_there_is_a_token(FORM_TIMEOUT).await?;
    cluster.start_others().await?;
    let nodes = cluster.size();
    let voters = if nodes >= 3 { 3 } else { 1 };
    client
        .until(FORM_TIMEOUT, "all agents to be in", |s| {
            let alive = s.nodes.iter().filter(|n| n.state == "alive").count();
            alive == nodes && s.voters == voters && s.voters_alive == voters
        })
        .await?;
    let took_ms = (crate::clock::monotonic() - started).as_millis();
    say(&format!("{nodes} agents, {voters} of them voters, are up after {took_ms} ms"));
    Ok(client)
}

/// A context without addresses: the host has no way into the namespaces, but all of them share its files. One agent
/// that is cut off leaves the others.
fn through_sockets(sockets: &[PathBuf]) -> String {
    let endpoints: Vec<String> = sockets.iter().map(|socket| format!("unix:{}", socket.display())).collect();
    format!("endpoints = {endpoints:?}\n")
}

fn invite(cluster: &DevCluster, context: &str) -> Result<(), DevError> {
    let context = cluster.write_context(context)?;
    let example = cluster.write_example()?;
    let ctl = paths::musterctl(cluster.exe());
    say(&format!(
        "\ntalk to it:\n  {ctl} --context {} status\n\nmetrics and health:  {}\n\ntry next:",
        context.display(),
        metrics(&cluster.nodes()[0])
    ));
    say(&format!("  export MUSTER_CONTEXT={}", context.display()));
    say(&format!("  {ctl} service apply -f {}", example.display()));
    say(&format!("  {ctl} status"));
    say(&format!("  {ctl} events --follow      # in a second terminal"));
    if cluster.network().is_some() {
        let dev = format!("{} dev", cluster.exe().display());
        let dir = cluster.dir().display();
        say(&format!("  {dev} cut n1 --dir {dir}      # pull the cable of n1"));
        say(&format!("  {dev} heal n1 --dir {dir}"));
    }
    say(&format!("  {ctl} drain n1"));
    for node in cluster.nodes() {
        say(&format!(
            "  kill -9 {}      # the agent and the guard of {}",
            node.pids().join(" "),
            node.name()
        ));
    }
    if let Some(network) = cluster.network() {
        let middle = network.middle();
        say(&format!("  ip netns exec {middle} bash      # a shell where the cluster's clients are"));
    }
    say("\nCtrl-C ends all of it.");
    Ok(())
}

fn metrics(node: &DevNode) -> String {
    let address = node.http_address();
    match node.namespace() {
        None => format!("http://{address}/"),
        Some(namespace) => format!("ip netns exec {namespace} curl -s http://{address}/metrics"),
    }
}

/// Prints a line for the person who watches.
fn say(text: &str) {
    use std::io::Write;
    // A closed stdout is no reason to leave processes behind.
    let _written = writeln!(std::io::stdout(), "{text}");
}
