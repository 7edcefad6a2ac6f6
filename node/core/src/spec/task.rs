//! A task: one thing that a driver runs on a node.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Enforcement;
use crate::id::{SecretName, TaskName};

/// One task of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskSpec {
    /// Unique in its service.
    pub name: TaskName,
    /// Who runs it, and what.
    pub driver: Driver,
    /// How its health is judged. Without a check, running is healthy.
    pub health: Option<HealthSpec>,
}

/// The driver and its own settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Driver {
    /// A process of the host.
    Exec(ExecSpec),
}

impl Driver {
    /// The driver's name in files.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Exec(_) => "exec",
        }
    }

    /// The best enforcement that this driver can give.
    #[must_use]
    pub fn enforcement(&self) -> Enforcement {
        match self {
            Self::Exec(_) => Enforcement::Kernel,
        }
    }
}

/// A process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecSpec {
    /// The program (absolute, or found in PATH) and its arguments. Never empty.
    pub command: Vec<String>,
    /// Default: the guard's user.
    pub user: Option<String>,
    /// Default: the user's own group.
    pub group: Option<String>,
    /// Default: `/`.
    pub directory: Option<String>,
    /// Added to a small base environment (PATH, LANG, HOME, USER and Muster's variables).
    pub env: BTreeMap<String, String>,
    /// Variables whose values are secrets. None of them stands in `env` too.
    pub secrets: BTreeMap<String, SecretName>,
    /// Resource limits.
    pub limits: Limits,
    /// What asks it to stop: a signal's name such as TERM (default), INT, QUIT.
    pub stop_signal: Option<String>,
}

/// Resource limits (setrlimit); none: the system's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Open files.
    pub open_files: Option<u64>,
    /// Processes of the user.
    pub processes: Option<u64>,
    /// Size of a core dump in bytes.
    pub core_bytes: Option<u64>,
    /// Address space in bytes.
    pub address_space_bytes: Option<u64>,
    /// Locked memory in bytes.
    pub locked_memory_bytes: Option<u64>,
}

/// How a task's health is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthSpec {
    /// What is tried.
    pub check: Check,
    /// Time between two tries.
    pub interval: Duration,
    /// A try that takes longer has failed.
    pub timeout: Duration,
    /// So many failures in a row make it unhealthy.
    pub failures: u32,
}

/// What is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// Connecting to HOST:PORT succeeds.
    Tcp(String),
    /// GET of the URL answers with 200 to 399.
    Http(String),
    /// The command, run beside the task, exits with 0.
    Exec(Vec<String>),
}
