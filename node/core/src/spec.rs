//! What operators declare: a service, its tasks, where it may run. Values here have been validated.
//!
//! The file format (TOML, JSON, YAML) is [`file`]; the grammar of `require` and `prefer` is [`selector`].

pub mod duration;
pub mod file;
pub mod selector;
pub mod task;
pub mod validate;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::id::{SecretName, ServiceName};
use selector::Requirement;
pub use task::{Check, Driver, ExecSpec, HealthSpec, Limits, TaskSpec};

/// A service as declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Its name, unique in the cluster.
    pub name: ServiceName,
    /// How many instances, and whether two may ever overlap.
    pub mode: Mode,
    /// Higher is placed first when room is short; 0 to 100.
    pub priority: u32,
    /// How long an orderly stop may take before the instance is killed.
    pub stop_timeout: Duration,
    /// What happens to instances on hosts that lose the quorum. Exclusive services always stop.
    pub on_quorum_loss: OnQuorumLoss,
    /// What must stand behind a placement of an exclusive slot.
    pub enforcement: Enforcement,
    /// Replicated: how long an instance on a lost host may still come back before it is replaced.
    pub replace_after: Duration,
    /// Whether an instance returns by itself to a better node that came back.
    pub failback: Failback,
    /// The recovery time that its operator aims for; kept with the service.
    pub rto: Option<Duration>,
    /// Where it may and should run.
    pub placement: PlacementSpec,
    /// What it needs of a node.
    pub resources: Resources,
    /// What happens when a task ends by itself.
    pub restart: RestartPolicy,
    /// Started in order, stopped in reverse order. Never empty.
    pub tasks: Vec<TaskSpec>,
}

/// How a service runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One instance, never two.
    Exclusive,
    /// That many instances.
    Replicated {
        /// How many.
        count: u32,
    },
    /// One on each eligible node.
    Everywhere,
}

impl Mode {
    /// The name in files and output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exclusive => "exclusive",
            Self::Replicated { .. } => "replicated",
            Self::Everywhere => "everywhere",
        }
    }

    /// Whether two instances of one slot may never overlap.
    #[must_use]
    pub fn is_exclusive(self) -> bool {
        matches!(self, Self::Exclusive)
    }
}

/// What an instance does when its host loses the quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnQuorumLoss {
    /// It is killed at the lease's end.
    Stop,
    /// It runs on.
    Continue,
}

/// What stands behind a placement (LEASES.md, Enforcement).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Enforcement {
    /// A process of Muster ends the task in time, if it is not itself stopped.
    User,
    /// The kernel ends the task in time, whatever happens to Muster's processes.
    Kernel,
}

impl Enforcement {
    /// The name in files and output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Kernel => "kernel",
        }
    }
}

/// Whether instances return by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failback {
    /// Only by an operator's wish.
    Manual,
    /// As soon as a better node is there.
    Auto,
}

/// Where a service may and should run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlacementSpec {
    /// All must hold.
    pub require: Vec<Requirement>,
    /// Each adds its weight where it holds.
    pub prefer: Vec<Preference>,
    /// The label over whose values instances are spread.
    pub spread: Option<String>,
    /// On the same node as these.
    pub with: Vec<ServiceName>,
    /// Never on the same node as these.
    pub apart: Vec<ServiceName>,
    /// Placed only once these are running.
    pub after: Vec<ServiceName>,
}

/// A wish with a weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preference {
    /// What should hold.
    pub label: Requirement,
    /// How much it counts, −100 to 100.
    pub weight: i32,
}

/// What an instance needs of a node. 0: nothing reserved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Thousandths of a core.
    pub cpu_millis: u32,
    /// Mebibytes of memory.
    pub memory_mib: u32,
}

/// What happens when a task ends by itself. The first restart is immediate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartPolicy {
    /// So many restarts on the same node within `window`; then the instance goes elsewhere.
    pub attempts: u32,
    /// Over which failures are counted.
    pub window: Duration,
    /// The wait before the second restart; doubled each time.
    pub backoff_min: Duration,
    /// The longest wait.
    pub backoff_max: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            attempts: 3,
            window: Duration::from_secs(300),
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_secs(30),
        }
    }
}

impl ServiceSpec {
    /// A service with one task and defaults everywhere else.
    #[must_use]
    pub fn with_defaults(name: ServiceName, mode: Mode, tasks: Vec<TaskSpec>) -> Self {
        Self {
            name,
            mode,
            priority: 50,
            stop_timeout: Duration::from_secs(30),
            on_quorum_loss: if mode.is_exclusive() { OnQuorumLoss::Stop } else { OnQuorumLoss::Continue },
            enforcement: Enforcement::Kernel,
            replace_after: Duration::from_secs(5),
            failback: Failback::Manual,
            rto: None,
            placement: PlacementSpec::default(),
            resources: Resources::default(),
            restart: RestartPolicy::default(),
            tasks,
        }
    }

    /// The secrets that its tasks name.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretName> {
        self.tasks.iter().flat_map(|task| {
            let Driver::Exec(exec) = &task.driver;
            exec.secrets.values()
        })
    }

    /// Whether going from `self` to `new` needs its instances to be started anew. Placement wishes, counts and
    /// timeouts do not.
    #[must_use]
    pub fn needs_rollout(&self, new: &Self) -> bool {
        self.tasks != new.tasks || self.mode.is_exclusive() != new.mode.is_exclusive()
    }
}

/// Labels of a node.
pub type Labels = BTreeMap<String, String>;
