//! The service file's structure, the same in TOML, JSON and YAML. The tables hold what was written; [`read`] makes
//! a [`ServiceSpec`](super::ServiceSpec) of them and [`print`] goes back, leaving out what is the default.

pub mod env;
pub mod print;
pub mod read;
mod table;

use std::collections::BTreeMap;

use super::duration::{Time, TimeRange};
use super::selector::Requirement;
use super::{Enforcement, Failback, OnQuorumLoss};
use crate::id::{ServiceName, TaskName};
pub use env::{EnvEntry, SecretEntry};
use table::table;
pub use table::{Choice, Named, nearest_known_key};

table!(
    /// A whole file.
    ServiceFile, "service file" {
        /// Its services.
        service: Vec<ServiceEntry>,
    }
);

table!(
    /// `[[service]]`.
    ServiceEntry, "service" {
        /// Must be there.
        name: Option<ServiceName>,
        /// Default: exclusive.
        mode: Option<Choice<ModeName>>,
        /// Of a replicated service; default: 1.
        count: Option<u32>,
        /// Default: 50.
        priority: Option<u32>,
        /// Default: 30s.
        stop_timeout: Option<Time>,
        /// Default: stop for exclusive services, continue for others.
        on_quorum_loss: Option<Choice<OnQuorumLoss>>,
        /// Of an exclusive service; default: kernel.
        enforcement: Option<Choice<Enforcement>>,
        /// Default: 5s.
        replace_after: Option<Time>,
        /// Default: manual.
        failback: Option<Choice<Failback>>,
        /// Default: no target.
        rto: Option<Time>,
        /// `[service.placement]`.
        placement: PlacementEntry,
        /// `[service.resources]`.
        resources: ResourcesEntry,
        /// `[service.restart]`.
        restart: RestartEntry,
        /// `[[service.task]]`.
        task: Vec<TaskEntry>,
    }
);

/// The modes by name; the count stands beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ModeName {
    /// One, never two.
    #[default]
    Exclusive,
    /// `count` instances.
    Replicated,
    /// One on each eligible node.
    Everywhere,
}

impl Named for ModeName {
    const KEY: &'static str = "mode";
    const NAMES: &'static [&'static str] = &["exclusive", "replicated", "everywhere"];
    const VALUES: &'static [Self] = &[Self::Exclusive, Self::Replicated, Self::Everywhere];
}

impl Named for OnQuorumLoss {
    const KEY: &'static str = "on_quorum_loss";
    const NAMES: &'static [&'static str] = &["stop", "continue"];
    const VALUES: &'static [Self] = &[Self::Stop, Self::Continue];
}

impl Named for Enforcement {
    const KEY: &'static str = "enforcement";
    const NAMES: &'static [&'static str] = &["kernel", "user"];
    const VALUES: &'static [Self] = &[Self::Kernel, Self::User];
}

impl Named for Failback {
    const KEY: &'static str = "failback";
    const NAMES: &'static [&'static str] = &["manual", "auto"];
    const VALUES: &'static [Self] = &[Self::Manual, Self::Auto];
}

table!(
    /// `[service.placement]`.
    PlacementEntry, "placement" {
        /// Conditions that must hold.
        require: Vec<Requirement>,
        /// Wishes with weights.
        prefer: Vec<PreferEntry>,
        /// A label.
        spread: Option<String>,
        /// Services on the same node.
        with: Vec<ServiceName>,
        /// Services never on the same node.
        apart: Vec<ServiceName>,
        /// Services that must run first.
        after: Vec<ServiceName>,
    }
);

table!(
    /// One of `prefer`.
    PreferEntry, "prefer" {
        /// Must be there.
        label: Option<Requirement>,
        /// Must be there; -100 to 100.
        weight: Option<i32>,
    }
);

table!(
    /// `[service.resources]`.
    ResourcesEntry, "resources" {
        /// Thousandths of a core; 0: none reserved.
        cpu_millis: u32,
        /// Mebibytes; 0: none reserved.
        memory_mib: u32,
    }
);

table!(
    /// `[service.restart]`.
    RestartEntry, "restart" {
        /// Default: 3.
        attempts: Option<u32>,
        /// Default: 5m.
        window: Option<Time>,
        /// Default: 1s..30s.
        backoff: Option<TimeRange>,
    }
);

table!(
    /// `[[service.task]]`: the name of the driver's table is the driver.
    TaskEntry, "task" {
        /// Must be there.
        name: Option<TaskName>,
        /// `[service.task.exec]`.
        exec: Option<ExecEntry>,
        /// `[service.task.health]`.
        health: Option<HealthEntry>,
    }
);

table!(
    /// `[service.task.exec]`.
    ExecEntry, "exec" {
        /// Program and arguments; must be there.
        command: Vec<String>,
        /// Default: the guard's user.
        user: Option<String>,
        /// Default: the user's group.
        group: Option<String>,
        /// Default: `/`.
        directory: Option<String>,
        /// Default: TERM.
        stop_signal: Option<String>,
        /// Environment variables: texts, or `{ secret = "NAME" }`.
        env: BTreeMap<String, EnvEntry>,
        /// Resource limits.
        limits: LimitsEntry,
    }
);

table!(
    /// `limits` of a driver; default: the system's.
    LimitsEntry, "limits" {
        /// Open files.
        open_files: Option<u64>,
        /// Processes of the user.
        processes: Option<u64>,
        /// Size of a core dump.
        core_bytes: Option<u64>,
        /// Address space.
        address_space_bytes: Option<u64>,
        /// Locked memory.
        locked_memory_bytes: Option<u64>,
    }
);

table!(
    /// `[service.task.health]`: exactly one of `tcp`, `http` and `exec`.
    HealthEntry, "health" {
        /// HOST:PORT.
        tcp: Option<String>,
        /// A URL.
        http: Option<String>,
        /// A command.
        exec: Option<Vec<String>>,
        /// Default: 1s.
        interval: Option<Time>,
        /// Default: 1s.
        timeout: Option<Time>,
        /// Default: 3.
        failures: Option<u32>,
    }
);
