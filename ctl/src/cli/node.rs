//! `node …` and `drain`.

use std::time::Duration;

use clap::{Args, Subcommand};

use crate::when::parse_duration;

/// `node …`
#[derive(Debug, Subcommand)]
pub enum NodeVerb {
    /// All nodes
    List,
    /// One node and what runs on it
    #[command(after_help = "Example:\n  musterctl node show n1")]
    Show {
        /// Which
        node: String,
    },
    /// Set labels, or remove them with a trailing '-'
    #[command(after_help = "Examples:
  musterctl node label n1 zone=a disk=ssd
  musterctl node label n1 disk-")]
    Label {
        /// Which
        node: String,
        /// KEY=VALUE sets, KEY- removes
        #[arg(required = true, value_name = "KEY=VALUE|KEY-")]
        labels: Vec<String>,
    },
    /// Place nothing new there; what runs there stays
    #[command(after_help = "Example:\n  musterctl node cordon n1")]
    Cordon {
        /// Which
        node: String,
    },
    /// Allow new instances again
    #[command(after_help = "Example:\n  musterctl node uncordon n1")]
    Uncordon {
        /// Which
        node: String,
    },
    /// Leave what runs there running, but do not touch it
    #[command(after_help = "Examples:
  musterctl node maintenance on n1
  musterctl node maintenance off n1")]
    Maintenance {
        /// on or off
        #[arg(value_name = "on|off")]
        switch: String,
        /// Which
        node: String,
    },
    /// Remove a node for good; drain it and stop its agent and guard first
    #[command(after_help = "Example:\n  musterctl node remove n1 --yes")]
    Remove {
        /// Which
        node: String,
        /// Do not wait until it is gone
        #[arg(long)]
        detach: bool,
    },
}

/// `drain …`
#[derive(Debug, Args)]
#[command(
    after_help = "Waits until the node is empty, at most --timeout (default: --deadline and 30s more, else 10m).

Examples:
  musterctl drain n1 --dry-run
  musterctl drain n1
  musterctl drain n1 --deadline 1h --max-parallel 2
  musterctl drain n1 --detach"
)]
pub struct DrainArgs {
    /// Which node
    pub node: String,
    /// After that long, stop what could not be moved [default: it keeps running]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub deadline: Option<Duration>,
    /// Move at most so many instances at once [default: no limit]
    #[arg(long, value_name = "N")]
    pub max_parallel: Option<u32>,
    /// Only show what would move
    #[arg(long)]
    pub dry_run: bool,
    /// Do not wait
    #[arg(long)]
    pub detach: bool,
}
