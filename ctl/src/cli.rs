//! The command line.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::context::Endpoint;
use crate::output::Format;
use crate::when::parse_duration;

pub mod node;
pub mod secret;
pub mod service;

use node::{DrainArgs, NodeVerb};
use secret::SecretVerb;
use service::{FailoverArgs, MoveArgs, ServiceVerb};

/// Operates a Muster cluster.
#[derive(Debug, Parser)]
#[command(
    name = "musterctl",
    version,
    about = "Operates a Muster cluster",
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "Examples:
  musterctl status                              one screen: what is, and what is not as wished
  musterctl service init exec > orders.toml     a service file to begin with
  musterctl service apply -f orders.toml        declare it, and wait until it runs
  musterctl drain n1                            empty a host before working on it
  musterctl simulate --survive 1                what the loss of any one host would do

Exit status: 0 done, 1 failed, 2 changes or attention, 64 usage, 69 no agent, 75 try again, 77 not allowed,
78 bad file, 105 not found, 106 no quorum, 107 refused, 108 exists, 124 timed out, 130 Ctrl-C."
)]
pub struct Cli {
    /// What holds for every verb.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What holds for every verb.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// An agent: HOST:PORT, or unix:PATH; may be repeated
    #[arg(long, global = true, value_name = "HOST:PORT", value_parser = Endpoint::parse)]
    pub endpoint: Vec<Endpoint>,
    /// A context of ~/.config/muster/config.toml, or a file with endpoints (or MUSTER_CONTEXT)
    #[arg(long, global = true, value_name = "NAME|FILE")]
    pub context: Option<String>,
    /// How to print
    #[arg(short, long, global = true, value_enum, default_value = "table", value_name = "FORMAT")]
    pub output: Format,
    /// How long to try and to wait [default: 30s]
    #[arg(long, global = true, value_name = "DURATION", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
    /// Read the asked agent's own copy, without the leader
    #[arg(long, global = true)]
    pub stale: bool,
    /// Only data and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// No colours (or NO_COLOR)
    #[arg(long, global = true)]
    pub no_color: bool,
    /// Do dangerous acts without asking
    #[arg(short, long, global = true)]
    pub yes: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// One screen: quorum, leader, nodes, services not as wished
    #[command(after_help = "Examples:
  musterctl status
  musterctl status --check -q      exit status 0: fine, 2: needs attention, 106: no quorum
  musterctl status --stale         what the asked agent knows, even without a quorum
  musterctl status -o json")]
    Status {
        /// Tell by the exit status whether all is well: 0, 2 or 106
        #[arg(long)]
        check: bool,
    },
    /// The cluster itself
    Cluster {
        /// What to do.
        #[command(subcommand)]
        verb: ClusterVerb,
    },
    /// Hosts: look at them, keep services away, remove them
    Node {
        /// What to do.
        #[command(subcommand)]
        verb: NodeVerb,
    },
    /// Move everything away from a node and wait until it is empty
    Drain(DrainArgs),
    /// End a drain: the node may be used again
    #[command(after_help = "Example:\n  musterctl undrain n1")]
    Undrain {
        /// Which node
        node: String,
    },
    /// Services: declare, look, start, stop
    Service {
        /// What to do.
        #[command(subcommand)]
        verb: ServiceVerb,
    },
    /// Move an instance to another node, in an orderly way
    Move(MoveArgs),
    /// Make an instance run elsewhere, even if its host is gone
    Failover(FailoverArgs),
    /// What would happen if hosts were lost
    Simulate(SimulateArgs),
    /// Even out where instances run, and wait until they do
    #[command(after_help = "Examples:\n  musterctl rebalance --dry-run\n  musterctl rebalance")]
    Rebalance {
        /// Only show what would move
        #[arg(long)]
        dry_run: bool,
        /// Do not wait until everything has moved
        #[arg(long)]
        detach: bool,
    },
    /// Status and last events, drawn anew again and again
    #[command(after_help = "Examples:
  musterctl top
  musterctl top --interval 5s
  musterctl top -o json                   for programs: an object a line")]
    Top(TopArgs),
    /// What happened, and what is happening
    Events(EventsArgs),
    /// Who did what: every change and every refusal, from where, and the outcome
    Audit(AuditArgs),
    /// Wait until something is so
    Wait(WaitArgs),
    /// What services may know and nobody may see: passwords, keys
    Secret {
        /// What to do.
        #[command(subcommand)]
        verb: SecretVerb,
    },
    /// Tokens with which hosts join
    Token {
        /// What to do.
        #[command(subcommand)]
        verb: TokenVerb,
    },
    /// Certificates: who has which, until when; the cluster's CA
    Cert {
        /// What to do.
        #[command(subcommand)]
        verb: CertVerb,
    },
    /// People and programs that operate the cluster from elsewhere
    User {
        /// What to do.
        #[command(subcommand)]
        verb: UserVerb,
    },
    /// The control plane
    Raft {
        /// What to do.
        #[command(subcommand)]
        verb: RaftVerb,
    },
    /// Look for what needs attention: quorum, leases, certificates, services, invariants, room for a lost host
    #[command(after_help = "Exit status: 0 nothing, 2 something needs attention, 106 no quorum.

Examples:
  musterctl check
  musterctl check -o json")]
    Check,
    /// Print the completion script of a shell
    #[command(after_help = "Example:\n  musterctl completion bash > /etc/bash_completion.d/musterctl")]
    Completion {
        /// Which shell
        #[arg(value_enum)]
        shell: Shell,
    },
}

/// The shells that completion is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Shell {
    /// GNU Bash
    Bash,
    /// Z shell
    Zsh,
    /// fish
    Fish,
}

/// `cluster …`
#[derive(Debug, Subcommand)]
pub enum ClusterVerb {
    /// Name, quorum and timing
    #[command(after_help = "Example:\n  musterctl cluster show -o json")]
    Show,
    /// Change the timing; it holds for each node from its next session on
    #[command(after_help = "Keys: timing.profile (fast, lan, cloud, wan), timing.heartbeat_ms, \
timing.lease_ttl_ms,
timing.kill_budget_ms, timing.raft_heartbeat_ms, timing.raft_election_ms (MIN-MAX).

Examples:
  musterctl cluster set timing.profile=cloud
  musterctl cluster set timing.lease_ttl_ms=2000 timing.raft_election_ms=300-600")]
    Set {
        /// What to set
        #[arg(required = true, value_name = "KEY=VALUE")]
        assignments: Vec<String>,
    },
}

/// `simulate …`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  musterctl simulate --lose n1
  musterctl simulate --lose n1 n2
  musterctl simulate --lose-zone a
  musterctl simulate --survive 1      the worst loss of any one host")]
#[group(required = true, multiple = true)]
pub struct SimulateArgs {
    /// These nodes
    #[arg(long, value_name = "NODE", num_args = 1..)]
    pub lose: Vec<String>,
    /// All nodes whose label 'zone' has one of these values
    #[arg(long, value_name = "ZONE", num_args = 1..)]
    pub lose_zone: Vec<String>,
    /// Any so many nodes; the worst case is shown
    #[arg(long, value_name = "N", conflicts_with_all = ["lose", "lose_zone"],
          value_parser = clap::value_parser!(u32).range(1..))]
    pub survive: Option<u32>,
}

/// `top …`
#[derive(Debug, Args)]
pub struct TopArgs {
    /// How long a picture stays
    #[arg(long, default_value = "1s", value_name = "DURATION", value_parser = parse_duration)]
    pub interval: Duration,
}

/// `events …`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  musterctl events                         the last 100
  musterctl events --since 1h
  musterctl events --since 2026-01-01T12:00:00Z --service orders-db
  musterctl events --since 4711            those after revision 4711
  musterctl events --follow -o json        one object a line")]
pub struct EventsArgs {
    /// Go on with new events as they happen
    #[arg(short, long)]
    pub follow: bool,
    /// Since how long ago, since when (ISO 8601, UTC), or after which revision
    #[arg(long, value_name = "SINCE")]
    pub since: Option<String>,
    /// Only those about this service
    #[arg(long)]
    pub service: Option<String>,
    /// Only those about this node
    #[arg(long)]
    pub node: Option<String>,
    /// At most so many past events [default: 100, or 10 with --follow; with --since 10000]
    #[arg(long, value_name = "N")]
    pub limit: Option<u32>,
}

/// `audit …`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  musterctl audit                          the last 100
  musterctl audit --since 24h -o json      one object a line
  musterctl audit --since 4711             those after revision 4711
  musterctl audit --follow")]
pub struct AuditArgs {
    /// Go on with new records as they come
    #[arg(short, long)]
    pub follow: bool,
    /// Since how long ago, since when (ISO 8601, UTC), or after which revision
    #[arg(long, value_name = "SINCE")]
    pub since: Option<String>,
    /// At most so many records [default: 100, or 10 with --follow, at most 1000; with --since all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
}

/// `wait …`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  musterctl wait service/orders-db --for running
  musterctl wait node/n1 --for drained --timeout 10m
  musterctl wait cluster --for quorum")]
pub struct WaitArgs {
    /// service/NAME, node/NAME or cluster
    #[arg(value_name = "WHAT")]
    pub what: String,
    /// Until it is so
    #[arg(long = "for", value_enum, value_name = "STATE")]
    pub state: WaitState,
}

/// What can be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum WaitState {
    /// A service: all instances run
    Running,
    /// A service: no instance runs
    Stopped,
    /// A service: all instances run and are healthy
    Healthy,
    /// A node: alive, with a lease
    Alive,
    /// A node: nothing is left on it
    Drained,
    /// The cluster: a leader and a majority of voters
    Quorum,
}

/// `token …`
#[derive(Debug, Subcommand)]
pub enum TokenVerb {
    /// Make one; it is shown this once
    #[command(after_help = "Examples:
  musterctl token create
  musterctl token create --role worker --uses 10 --ttl 2h
  TOKEN=$(musterctl -q token create)")]
    Create {
        /// What the host may become
        #[arg(long, value_enum, default_value = "auto")]
        role: TokenRole,
        /// How long it is valid
        #[arg(long, default_value = "1h", value_name = "DURATION", value_parser = parse_duration)]
        ttl: Duration,
        /// How many hosts may use it
        #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        uses: u32,
    },
    /// List them, without their secrets
    List,
    /// End one
    #[command(after_help = "Example:\n  musterctl token revoke ID")]
    Revoke {
        /// Which, as 'token list' names it
        id: String,
    },
}

/// What a host that joins with a token may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TokenRole {
    /// Whatever the control plane needs
    Auto,
    /// Never a voter
    Worker,
    /// A voter that runs no services
    Witness,
}

/// `cert …`
#[derive(Debug, Subcommand)]
pub enum CertVerb {
    /// The CAs, and the certificates of nodes and users
    #[command(after_help = "Example:\n  musterctl cert show -o json")]
    Show,
    /// Renew your own certificate; nodes do that by themselves
    #[command(after_help = "Examples:
  musterctl cert renew                    writes the context file anew that MUSTER_CONTEXT names
  musterctl cert renew --out me.toml")]
    Renew {
        /// Where the new context goes [default: the file that the old one came from]
        #[arg(long, value_name = "FILE")]
        out: Option<std::path::PathBuf>,
    },
    /// End all certificates of a node or user at once
    #[command(after_help = "Examples:
  musterctl cert revoke user/alice
  musterctl cert revoke node/n4          it can only come back as a new node")]
    Revoke {
        /// node/NAME or user/NAME
        #[arg(value_name = "HOLDER")]
        holder: String,
    },
    /// Replace the cluster's CA: both are trusted until everybody has a certificate of the new one
    #[command(after_help = "Examples:
  musterctl cert rotate-ca                begins, and waits until all nodes have renewed; then ends the old CA
  musterctl cert rotate-ca --detach       begins only
  musterctl cert rotate-ca --finish       ends the old CA
  musterctl cert rotate-ca --finish --force --yes   although somebody still has a certificate of it")]
    RotateCa {
        /// Begin only
        #[arg(long, conflicts_with = "finish")]
        detach: bool,
        /// End the trust in the old CA
        #[arg(long)]
        finish: bool,
        /// Although somebody still has a certificate of the old CA, who is shut out then
        #[arg(long, requires = "finish")]
        force: bool,
    },
}

/// `user …`
#[derive(Debug, Subcommand)]
pub enum UserVerb {
    /// Make a user, or give one another certificate: writes a context file with the key
    #[command(after_help = "Examples:
  musterctl user create alice --role operator
  musterctl user create prometheus --role viewer --ttl 365d --out /etc/muster/viewer.toml
  musterctl --context alice.toml status")]
    Create {
        /// Its name
        name: String,
        /// What it may do; another role than before ends the older certificates
        #[arg(long, value_enum)]
        role: Role,
        /// How long the certificate holds, at most a year
        #[arg(long, default_value = "90d", value_name = "DURATION", value_parser = parse_duration)]
        ttl: Duration,
        /// Where the context goes; '-' is stdout [default: NAME.toml]
        #[arg(long, value_name = "FILE")]
        out: Option<std::path::PathBuf>,
    },
    /// List them
    List,
    /// Take one out; its certificates end at once
    #[command(after_help = "Example:\n  musterctl user remove alice")]
    Remove {
        /// Its name
        name: String,
    },
}

/// What a user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// Look at everything that is no secret
    Viewer,
    /// Also run services and look after nodes
    Operator,
    /// Also decide who belongs
    Admin,
}

/// `raft …`
#[derive(Debug, Subcommand)]
pub enum RaftVerb {
    /// Members, leader and how far they are
    #[command(after_help = "Examples:
  musterctl raft status
  musterctl raft status --stale --endpoint n2:7420    as n2 sees it")]
    Status,
    /// Hand the leadership over
    #[command(after_help = "Example:\n  musterctl raft transfer-leader --to n2")]
    TransferLeader {
        /// To which node [default: the best follower]
        #[arg(long, value_name = "NODE")]
        to: Option<String>,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_that_takes_arguments_shows_an_example() {
        fn visit(command: &clap::Command, path: &str, missing: &mut Vec<String>) {
            let path = format!("{path} {}", command.get_name());
            let takes = command.get_arguments().any(|a| !a.is_global_set() && a.get_id() != "help");
            if !command.has_subcommands() && takes && command.get_after_help().is_none() {
                missing.push(path.clone());
            }
            command.get_subcommands().for_each(|sub| visit(sub, &path, missing));
        }
        let mut missing = Vec::new();
        visit(&Cli::command(), "", &mut missing);
        assert!(missing.is_empty(), "{missing:?}");
    }
}
