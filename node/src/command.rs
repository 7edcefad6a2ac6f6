//! The one-shot commands of `muster`, and its command line.

pub mod init;
pub mod join;
pub mod leave;
pub(crate) mod local;
mod systemd;

use std::path::PathBuf;

use crate::node::NodeError;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// The agent and its one-shot commands.
#[derive(Debug, Parser)]
#[command(
    name = "muster",
    version,
    about = "Keeps services running on a group of hosts: about one second after a host dies they run elsewhere, \
             and an exclusive one never runs twice",
    after_help = "Try it:\n  muster dev --tour          play a failover on this machine\n  muster dev                 \
                  a cluster of three agents to play with\n\nA real cluster:\n  muster init                first \
                  host\n  muster join --token TOKEN HOST:PORT\n  muster agent               on every host"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `muster` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a cluster: this host is its first node
    #[command(
        after_help = "Example:\n  muster init && muster agent\n  muster init --now       # with systemd"
    )]
    Init(Init),
    /// Join this host to a cluster
    #[command(after_help = "Example:\n  muster join --token muster1.abc... 10.0.0.1:7420 && muster agent")]
    Join(Join),
    /// Run the agent, for ever
    Agent(Agent),
    /// Leave the cluster for good: drains this host, stops its guard, removes the node
    Leave(Leave),
    /// Run a whole cluster of real agents on this machine, for trying things out
    #[command(
        after_help = "Examples:\n  muster dev --tour                          play the main job and end\n  \
                      muster dev --nodes 5 --dir /tmp/play --keep\n  \
                      sudo muster dev --netns                    every node a host of its own\n  \
                      sudo muster dev cut n1                     ... whose cable can be pulled\n  \
                      sudo muster dev heal n1\n  \
                      sudo muster dev --tour --netns"
    )]
    Dev(Dev),
    /// The guard (internal; started by systemd or by the agent)
    #[command(hide = true, disable_help_flag = true)]
    Guard {
        /// Read by the guard itself.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Stamp the clock into a file every millisecond (the example service of `dev`)
    #[command(hide = true)]
    Stamp {
        /// Where the file goes.
        directory: PathBuf,
    },
}

/// Where the configuration is.
#[derive(Clone, Debug, Args)]
pub struct ConfigPath {
    /// The configuration [default: /etc/muster/agent.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// What starts the agent of this configuration.
fn agent_command(config: &ConfigPath) -> String {
    let file = config.config.as_ref().map(|path| format!(" --config {}", path.display()));
    format!("muster agent{}", file.unwrap_or_default())
}

/// `muster init`.
#[derive(Debug, Args)]
pub struct Init {
    /// Configuration.
    #[command(flatten)]
    pub config: ConfigPath,
    /// The cluster's name
    #[arg(long, default_value = "muster")]
    pub name: String,
    /// Write a missing configuration, enable and start the systemd units, wait until the node is in
    #[arg(long)]
    pub now: bool,
}

/// `muster join`.
#[derive(Debug, Args)]
pub struct Join {
    /// Configuration.
    #[command(flatten)]
    pub config: ConfigPath,
    /// From 'musterctl token create' or 'muster init'
    #[arg(long, env = "MUSTER_TOKEN", hide_env_values = true)]
    pub token: String,
    /// Agents of the cluster; the first that answers is used
    #[arg(required = true, value_name = "HOST:PORT")]
    pub agents: Vec<String>,
    /// Write a missing configuration, enable and start the systemd units, wait until the node is in
    #[arg(long)]
    pub now: bool,
}

/// `muster agent`.
#[derive(Debug, Args)]
pub struct Agent {
    /// Configuration.
    #[command(flatten)]
    pub config: ConfigPath,
    /// When to start a guard if none answers
    #[arg(long, value_enum, default_value_t = StartGuard::Auto)]
    pub start_guard: StartGuard,
}

/// Who starts the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StartGuard {
    /// The agent, unless systemd started it
    Auto,
    /// The agent
    Always,
    /// Somebody else
    Never,
}

/// `muster leave`.
#[derive(Debug, Args)]
pub struct Leave {
    /// Configuration.
    #[command(flatten)]
    pub config: ConfigPath,
    /// Give up after this many seconds
    #[arg(long, default_value_t = 120)]
    pub timeout: u64,
}

/// `muster dev`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Dev {
    /// An act on the cluster that runs.
    #[command(subcommand)]
    pub act: Option<CableAct>,
    /// How many agents
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub nodes: u16,
    /// Where their files go [default: a new directory under the system's temporary one]
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Keep the directory at the end
    #[arg(long)]
    pub keep: bool,
    /// Play the main job by itself, print the measured gaps, and end
    #[arg(long)]
    pub tour: bool,
    /// Make each node a network namespace of its own, so that it can be cut off (root)
    #[arg(long)]
    pub netns: bool,
}

/// What `muster dev` does to the cable of a node.
#[derive(Debug, Subcommand)]
pub enum CableAct {
    /// Pull a node's cable out: nothing reaches it, and it reaches nobody (root; for 'muster dev --netns')
    #[command(after_help = "Example:\n  sudo muster dev cut n1")]
    Cut(Cable),
    /// Plug a node's cable in again
    #[command(after_help = "Example:\n  sudo muster dev heal n1")]
    Heal(Cable),
}

/// Which cable.
#[derive(Debug, Args)]
pub struct Cable {
    /// The node
    pub node: String,
    /// The cluster with its files there [default: the one that was started last]
    #[arg(long)]
    pub dir: Option<PathBuf>,
}

/// Why a one-shot command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Configuration, directory, sockets.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// Nobody could be reached.
    #[error("no agent answered ({tried}); check the addresses, and that the agents there run")]
    NobodyAnswers {
        /// Who was asked and what happened.
        tried: String,
    },
    /// The cluster said no.
    #[error("{message}")]
    Refused {
        /// The stable code.
        code: String,
        /// Why.
        message: String,
        /// What to do.
        hint: String,
        /// The exit status.
        exit: u8,
    },
    /// The token isn't one.
    #[error(
        "this is not a join token: it must read muster1.ID.SECRET.PIN, as 'musterctl token create' printed it"
    )]
    MalformedToken,
    /// An answer could not be understood.
    #[error("the agent's answer could not be understood: {0}")]
    Answer(#[from] muster_wire::DecodeError),
    /// `--now` without systemd.
    #[error(
        "--now needs systemd, which does not run this host; leave it out and start 'muster agent' yourself"
    )]
    NoSystemd,
    /// The configuration can't be written.
    #[error("cannot write {}: {source}", path.display())]
    WriteConfig {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// systemctl failed.
    #[error("systemctl could not start the units: {detail}")]
    Systemctl {
        /// What it said.
        detail: String,
    },
    /// Something took too long.
    #[error("timed out: {0}")]
    TimedOut(String),
    /// `dev` failed.
    #[error("{0}")]
    Dev(#[from] crate::dev::DevError),
    /// A file.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl CommandError {
    /// An error as the API told it.
    #[must_use]
    pub fn from_status(status: &tonic::Status) -> Self {
        let text = |key: &str| status.metadata().get(key).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let hint = text("muster-hint");
        Self::Refused {
            code: text("muster-code").to_owned(),
            message: status.message().to_owned(),
            hint: hint.to_owned(),
            exit: text("muster-exit").parse().unwrap_or(1),
        }
    }

    /// The stable exit status.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Node(error) => node_exit_status(error),
            Self::NobodyAnswers { .. } => 69,
            Self::Refused { exit, .. } => *exit,
            Self::MalformedToken => 78,
            Self::TimedOut(_) => 124,
            Self::Dev(error) => error.exit_status(),
            Self::Answer(_)
            | Self::NoSystemd
            | Self::WriteConfig { .. }
            | Self::Systemctl { .. }
            | Self::Io { .. } => 1,
        }
    }
}

fn node_exit_status(error: &NodeError) -> u8 {
    use crate::storage::directory::DirectoryError;
    match error {
        NodeError::Config(_) | NodeError::NoCluster(_) | NodeError::Credentials(_) => 78,
        NodeError::Directory(DirectoryError::Taken { .. }) => 108,
        NodeError::Directory(DirectoryError::InUse { .. } | DirectoryError::ForeignHost { .. }) => 107,
        NodeError::Directory(DirectoryError::NewerFormat { .. } | DirectoryError::Damaged { .. }) => 78,
        _ => 1,
    }
}

/// Says something to the person who runs a one-shot command.
fn say(text: &str) {
    use std::io::Write;
    // A closed stdout is no reason to fail what was done.
    let _written = writeln!(std::io::stdout(), "{text}");
}

/// Says something beside what was asked for.
fn note(text: &str) {
    use std::io::Write;
    let _written = writeln!(std::io::stderr(), "note: {text}");
}

/// Tells on stderr why a command failed, with the causes that the message does not repeat.
pub fn complain(error: &CommandError) {
    use std::io::Write;
    // A closed stderr leaves nowhere to complain.
    let _written = writeln!(std::io::stderr(), "{}", complaint(error));
}

/// As `musterctl` words it: the error, its stable code where it has one, and what to do.
fn complaint(error: &CommandError) -> String {
    let mut text = format!("error: {error}");
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let message = inner.to_string();
        if !text.contains(&message) {
            text.push_str(&format!(": {message}"));
        }
        cause = inner.source();
    }
    if let CommandError::Refused { code, hint, .. } = error {
        if !code.is_empty() {
            text.push_str(&format!(" [{code}]"));
        }
        if !hint.is_empty() {
            text.push_str(&format!("\nhint: {hint}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::status::ApiError;
    use muster_core::refusal::Refusal;

    #[test]
    fn what_the_cluster_refuses_is_told_with_its_code_and_remedy() {
        let refused = CommandError::from_status(&ApiError::from(Refusal::TokenUnknown).into());
        let text = complaint(&refused);
        assert!(text.starts_with("error: ") && text.contains(" [MU1008]\nhint: "), "{text}");
        let plain = complaint(&CommandError::TimedOut("the guard".to_owned()));
        assert_eq!(plain, "error: timed out: the guard");
    }
}
