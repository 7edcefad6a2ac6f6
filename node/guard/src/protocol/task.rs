//! What a task is to the guard: a command with its surroundings, and what became of it.

use std::collections::BTreeMap;

use muster_core::id::{Generation, SlotId, TaskName};
use serde::{Deserialize, Serialize};

use super::{Enforcement, EnvText};

/// How a task hangs on the lease (LEASES.md R4, R13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Binding {
    /// Needs a valid lease to start, and dies with it.
    Exclusive,
    /// Runs with or without a lease.
    Free,
    /// Free until `SetPrimary` binds it to the lease.
    Promotable,
}

/// A command and its surroundings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSpec {
    /// The command and its arguments. A name without a slash is looked up in the PATH of `env`.
    pub argv: Vec<String>,
    /// User name or number; `None`: the guard's.
    #[serde(default)]
    pub user: Option<String>,
    /// Group name or number; `None`: the user's.
    #[serde(default)]
    pub group: Option<String>,
    /// Working directory; `None`: `/`.
    #[serde(default)]
    pub directory: Option<String>,
    /// The whole environment. Without PATH a usual one is added; HOME, USER and LOGNAME follow `user`.
    #[serde(default)]
    pub env: BTreeMap<String, EnvText>,
    /// Resource limits.
    #[serde(default)]
    pub limits: Limits,
    /// The signal of an orderly stop; `None`: SIGTERM.
    #[serde(default)]
    pub stop_signal: Option<i32>,
    /// How long an orderly stop by the guard itself waits for the task, in milliseconds (the guard is told to
    /// end, or the controller asks for a release while no agent is there).
    #[serde(default)]
    pub stop_grace_ms: u64,
    /// Where its output goes; `None`: nowhere.
    #[serde(default)]
    pub log: Option<LogSpec>,
    /// Whether `RunCheck` will be asked for: what runs the checks is then started before the task.
    #[serde(default)]
    pub checks: bool,
}

/// Resource limits (soft and hard alike); `None` leaves the guard's own as it found it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Open files.
    #[serde(default)]
    pub nofile: Option<u64>,
    /// Processes of the user.
    #[serde(default)]
    pub nproc: Option<u64>,
    /// Size of a core file, in bytes.
    #[serde(default)]
    pub core_bytes: Option<u64>,
    /// Locked memory, in bytes.
    #[serde(default)]
    pub memlock_bytes: Option<u64>,
    /// Address space, in bytes.
    #[serde(default)]
    pub address_space_bytes: Option<u64>,
    /// File size, in bytes.
    #[serde(default)]
    pub file_bytes: Option<u64>,
    /// Stack, in bytes.
    #[serde(default)]
    pub stack_bytes: Option<u64>,
}

/// A log file that is rotated by size: `path`, `path.1` … `path.N`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSpec {
    /// The file; its directory is made if needed.
    pub path: String,
    /// Rotated before it grows beyond this, in bytes.
    pub max_bytes: u64,
    /// How many rotated files are kept.
    pub keep: u32,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitHow {
    /// It exited with this code.
    Code(i32),
    /// It was ended by this signal. SIGKILL is also reported for what the lease's end or a guard's order killed.
    Signal(i32),
}

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Its command was not executed yet.
    Starting,
    /// It runs.
    Running {
        /// Process id of its command, as the host sees it.
        pid: i32,
    },
    /// It was told to stop, or is being killed.
    Stopping {
        /// Process id of its command, as the host sees it; 0 when it had not started yet.
        pid: i32,
    },
    /// It ended and nothing of it is left.
    Exited {
        /// How.
        how: ExitHow,
        /// When the guard saw it, by `CLOCK_BOOTTIME`.
        at_boottime_ns: u64,
    },
}

/// A task as `ListTasks` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskReport {
    /// Its slot.
    pub slot: SlotId,
    /// Its name.
    pub task: TaskName,
    /// Its generation.
    pub generation: Generation,
    /// How it hangs on the lease.
    pub binding: Binding,
    /// Whether it holds the primary role (promotable only).
    pub primary: bool,
    /// What enforces its end.
    pub enforcement: Enforcement,
    /// Where it stands.
    pub state: TaskState,
    /// Bytes of output that were dropped because the log could not be written fast enough.
    #[serde(default)]
    pub log_dropped_bytes: u64,
}
