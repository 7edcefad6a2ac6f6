//! `muster dev`: a whole cluster of real agents on loopback, each with its own guard and storage.

mod client;
mod cluster;
mod tour;

use std::path::PathBuf;
use std::time::Duration;

use crate::command::{CommandError, Dev};
use client::Client;
use cluster::DevCluster;

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
    /// The promise was broken.
    #[error("{0}")]
    Broken(String),
}

impl DevError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// Runs the command until Ctrl-C, or until the tour is over.
///
/// # Errors
/// When the cluster does not form, or the tour finds a promise broken.
pub async fn run(args: &Dev) -> Result<(), CommandError> {
    let mut interrupted =
        signals().map_err(|source| CommandError::Io { what: "signals".to_owned(), source })?;
    let mut cluster = DevCluster::create(args.nodes, args.dir.clone())?;
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
    let context = client.create_user(DEV_USER).await?;
    invite(cluster, &context)?;
    std::future::pending().await
}

async fn form(cluster: &mut DevCluster) -> Result<Client, DevError> {
    let started = crate::clock::monotonic();
    cluster.start_first()?;
    let client = Client::new(cluster.sockets());
    client.until(FORM_TIMEOUT, "the first agent to lead", |s| !s.leader.is_empty()).await?;
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

fn invite(cluster: &DevCluster, context: &str) -> Result<(), DevError> {
    let context = cluster.write_context(context)?;
    let example = cluster.write_example()?;
    let ctl = cluster.musterctl();
    say(&format!(
        "\ntalk to it:\n  {ctl} --context {} status\n\nmetrics and health:  http://{}/\n\ntry next:",
        context.display(),
        cluster.http_address()
    ));
    say(&format!("  export MUSTER_CONTEXT={}", context.display()));
    say(&format!("  {ctl} service apply -f {}", example.display()));
    say(&format!("  {ctl} status"));
    say(&format!("  {ctl} events --follow      # in a second terminal"));
    say(&format!("  {ctl} drain n1"));
    for node in cluster.nodes() {
        say(&format!(
            "  kill -9 {}      # the agent and the guard of {}",
            node.pids().join(" "),
            node.name()
        ));
    }
    say("\nCtrl-C ends all of it.");
    Ok(())
}

/// Prints a line for the person who watches.
fn say(text: &str) {
    use std::io::Write;
    // A closed stdout is no reason to leave processes behind.
    let _written = writeln!(std::io::stdout(), "{text}");
}
