//! `service …`, `move` and `failover`.

use clap::{Args, Subcommand};

/// `service …`
#[derive(Debug, Subcommand)]
pub enum ServiceVerb {
    /// All services
    List,
    /// One service: state, instances, declaration
    #[command(after_help = "Examples:
  musterctl service show orders-db
  musterctl service show orders-db -o json")]
    Show {
        /// Which
        service: String,
    },
    /// Print a service file to begin with
    #[command(after_help = "Example:\n  musterctl service init exec > orders.toml")]
    Init {
        /// What runs the service: exec (a process)
        #[arg(value_name = "DRIVER")]
        driver: String,
        /// The service's name
        #[arg(default_value = "orders")]
        name: String,
    },
    /// Check service files without a cluster
    #[command(after_help = "Examples:
  musterctl service validate -f orders.toml
  musterctl service validate -f services/*.toml")]
    Validate(FileArgs),
    /// Declare services; those that are there already are changed
    #[command(after_help = "Applying the same file twice changes nothing. Waits until the services run.

Examples:
  musterctl service apply -f orders.toml
  musterctl service apply -f a.toml b.toml --detach
  musterctl service apply -f - < orders.toml
  musterctl service apply -f orders.toml --if-revision 42    only if nobody changed them since")]
    Apply {
        /// The files.
        #[command(flatten)]
        files: FileArgs,
        /// Refuse if a service was changed after this revision (of 'plan')
        #[arg(long, value_name = "REVISION")]
        if_revision: Option<u64>,
        /// Do not wait until the services run
        #[arg(long)]
        detach: bool,
    },
    /// Show what 'apply' would do: exit status 0 nothing, 2 changes
    #[command(after_help = "Example:\n  musterctl service plan -f orders.toml")]
    Plan(FileArgs),
    /// Change a service's declaration in an editor (VISUAL or EDITOR)
    #[command(after_help = "Example:\n  EDITOR=vim musterctl service edit orders-db")]
    Edit(WaitingArgs),
    /// Go back to the declaration before the last one
    #[command(after_help = "Example:\n  musterctl service rollback orders-db")]
    Rollback(WaitingArgs),
    /// Stop a service and forget it
    #[command(after_help = "Example:\n  musterctl service remove orders-db --yes")]
    Remove(WaitingArgs),
    /// Start a stopped service
    #[command(after_help = "Example:\n  musterctl service start orders-db")]
    Start(WaitingArgs),
    /// Stop a service; its declaration stays
    #[command(after_help = "Example:\n  musterctl service stop orders-db")]
    Stop(WaitingArgs),
    /// Start all instances anew, and forget their failures
    #[command(after_help = "Example:\n  musterctl service restart web")]
    Restart(WaitingArgs),
    /// Change the number of instances of a replicated service
    #[command(after_help = "Example:\n  musterctl service scale web 5")]
    Scale {
        /// Which
        service: String,
        /// How many
        count: u32,
        /// Do not wait
        #[arg(long)]
        detach: bool,
    },
    /// What the tasks wrote
    #[command(after_help = "Examples:
  musterctl service logs orders-db
  musterctl service logs web/2 --task server -f --tail 10
  musterctl service logs orders-db --all-hosts      also where it ran before a failover")]
    Logs {
        /// SERVICE or SERVICE/INSTANCE
        instance: String,
        /// Only this task
        #[arg(long)]
        task: Option<String>,
        /// Go on with new lines, wherever it runs
        #[arg(short, long)]
        follow: bool,
        /// Also from hosts where it ran before, as far as they are alive
        #[arg(long)]
        all_hosts: bool,
        /// So many last lines of each task
        #[arg(long, default_value_t = 100, value_name = "N")]
        tail: u32,
    },
    /// Why it runs where it does, and what every other node says
    #[command(
        after_help = "Examples:\n  musterctl service explain orders-db\n  musterctl service explain web/2"
    )]
    Explain {
        /// SERVICE or SERVICE/INSTANCE
        instance: String,
    },
    /// What happened to it
    #[command(after_help = "Example:\n  musterctl service history orders-db")]
    History {
        /// Which
        service: String,
        /// At most so many events
        #[arg(long, default_value_t = 1000, value_name = "N")]
        limit: u32,
    },
    /// Set notes on a service, or remove them with a trailing '-'
    #[command(after_help = "Examples:
  musterctl service annotate orders-db owner=shop-team
  musterctl service annotate orders-db owner-")]
    Annotate {
        /// Which
        service: String,
        /// KEY=VALUE sets, KEY- removes
        #[arg(required = true, value_name = "KEY=VALUE|KEY-")]
        annotations: Vec<String>,
    },
}

/// Files with services.
#[derive(Debug, Args)]
pub struct FileArgs {
    /// TOML, JSON or YAML files with services; '-' reads stdin
    #[arg(short, long = "file", required = true, num_args = 1.., value_name = "FILE")]
    pub files: Vec<String>,
}

/// One service, and whether to wait.
#[derive(Debug, Args)]
pub struct WaitingArgs {
    /// Which
    pub service: String,
    /// Do not wait until it is done
    #[arg(long)]
    pub detach: bool,
}

/// `move …`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  musterctl move orders-db --to n2
  musterctl move web/3 --to n1 --detach")]
pub struct MoveArgs {
    /// SERVICE or SERVICE/INSTANCE
    pub instance: String,
    /// To which node
    #[arg(long, value_name = "NODE")]
    pub to: String,
    /// Do not wait until it runs there
    #[arg(long)]
    pub detach: bool,
}

/// `failover …`
#[derive(Debug, Args)]
#[command(after_help = "The old copy is always known to be dead first.

Examples:
  musterctl failover orders-db
  musterctl failover web/3 --to n1")]
pub struct FailoverArgs {
    /// SERVICE or SERVICE/INSTANCE
    pub instance: String,
    /// To which node [default: the best one]
    #[arg(long, value_name = "NODE")]
    pub to: Option<String>,
    /// Do not wait until it runs
    #[arg(long)]
    pub detach: bool,
}
