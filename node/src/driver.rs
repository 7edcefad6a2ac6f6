//! What runs a task. A driver is a set of verbs; what to do, and when, is decided elsewhere.

pub mod exec;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::BoxFuture;
use muster_core::id::{Generation, NodeName, SecretName, SessionId, SlotId, TaskName};
use muster_core::spec::TaskSpec;
use muster_guard::protocol::{Binding, EnvText, ExitHow};

use crate::agent::guard_link::GuardError;

/// Which task of which instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    /// The instance's slot.
    pub slot: SlotId,
    /// The task.
    pub task: TaskName,
}

impl std::fmt::Display for TaskId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.slot, self.task)
    }
}

/// An order to start a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartOrder {
    /// Which.
    pub id: TaskId,
    /// The placement; the task sees it as `MUSTER_GENERATION`, its fencing token.
    pub generation: Generation,
    /// The session under which it was placed; the task sees it as `MUSTER_SESSION`.
    pub session: SessionId,
    /// The task sees it as `MUSTER_NODE`.
    pub node: NodeName,
    /// How it hangs on the lease.
    pub binding: Binding,
    /// Whether a task that is not exclusive is killed too when the lease ends.
    pub stop_on_quorum_loss: bool,
    /// How long an orderly stop may take, when the guard itself has to stop the task.
    pub stop_timeout: Duration,
    /// As declared.
    pub spec: TaskSpec,
}

/// The values of secrets by their names; wiped from memory when they are dropped.
pub type SecretValues = BTreeMap<SecretName, EnvText>;

/// Why the secrets that a task names can't be had now, in words without any of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoSecrets(pub String);

/// Where the values come from that a task names.
pub trait SecretSource: Send + Sync {
    /// The values for this start, of which none is kept.
    fn fetch<'a>(&'a self, order: &'a StartOrder) -> BoxFuture<'a, Result<SecretValues, NoSecrets>>;
}

/// A driver. All verbs are idempotent, and how a task ends comes as an event of the guard.
pub trait Driver: Send + Sync {
    /// Starts the task; returns once it runs.
    fn start(&self, order: StartOrder) -> BoxFuture<'_, Result<(), DriverError>>;
    /// Asks the task to stop, and kills it after `grace`; returns once it was asked.
    fn stop(&self, id: TaskId, grace: Duration) -> BoxFuture<'_, Result<(), DriverError>>;
    /// Kills the task; returns once the order was given.
    fn kill(&self, id: TaskId) -> BoxFuture<'_, Result<(), DriverError>>;
    /// Runs a command beside the task; `None`: it ran out of time and was killed.
    fn check(
        &self,
        id: TaskId,
        argv: Vec<String>,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<Option<ExitHow>, DriverError>>;
}

/// Why a driver did not do what it was told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// Whether it was done is unknown; the guard's next welcome tells.
    #[error(transparent)]
    Unknown(GuardError),
    /// The lease does not allow it now: there is none, or it is another session's.
    #[error("this host has no valid lease for it")]
    NoLease,
    /// This or a higher generation was ended here for good.
    #[error("generation {0} was ended here for good")]
    Revoked(Generation),
    /// Something of the slot still runs.
    #[error("generation {0} still runs")]
    Busy(Generation),
    /// The task does not run.
    #[error("the task does not run")]
    NotRunning,
    /// The secrets that it names can't be had now.
    #[error("its secrets are not to be had yet: {0}")]
    NoSecrets(NoSecrets),
    /// The task as declared can't run on this host.
    #[error(transparent)]
    Cannot(StartProblem),
}

/// Why a task can't be started on a host, in words for its operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot start task {task}: {cause}")]
pub struct StartProblem {
    /// Which task.
    pub task: TaskName,
    /// What is in the way.
    pub cause: Cause,
}

/// What is in the way of a task's start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The program is not there.
    #[error("{0}: no such file")]
    NoSuchProgram(String),
    /// The program is not in PATH.
    #[error("{0}: not found in PATH")]
    NotInPath(String),
    /// The program has no execute permission, or its file system none.
    #[error("{0}: not executable")]
    NotExecutable(String),
    /// The user is not there.
    #[error("user {user} does not exist on {node}")]
    NoSuchUser {
        /// The user.
        user: String,
        /// The host.
        node: NodeName,
    },
    /// The group is not there.
    #[error("group {group} does not exist on {node}")]
    NoSuchGroup {
        /// The group.
        group: String,
        /// The host.
        node: NodeName,
    },
    /// The directory is not there.
    #[error("directory {0} does not exist or can't be entered")]
    NoSuchDirectory(String),
    /// The guard has no privileges.
    #[error("the guard on {node} runs without the privilege to become user {user}")]
    MayNotBecome {
        /// The user.
        user: String,
        /// The host.
        node: NodeName,
    },
    /// The stop signal is not a signal.
    #[error("{0} is no signal")]
    NoSuchSignal(String),
    /// A step of the start failed in the system.
    #[error("{step}: {error}")]
    System {
        /// The step, as a verb phrase.
        step: String,
        /// What the system said.
        error: String,
    },
    /// The guard does not do it.
    #[error("{0}")]
    Guard(String),
}
