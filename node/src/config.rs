//! The agent's configuration: a TOML file, overridden by `MUSTER_SECTION__KEY` variables.

mod origin;
mod parse;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use muster_core::command::Role;
use muster_core::id::{NameError, NodeName};
use muster_core::time::{Timing, TimingError};
use serde::Deserialize;

use origin::Origin;
pub use parse::{load, read};

/// Where the configuration is looked for.
pub const DEFAULT_PATH: &str = "/etc/muster/agent.toml";
/// The timing of a new cluster.
const DEFAULT_PROFILE: &str = "lan";
/// The port of agents, peers and heartbeats.
pub const DEFAULT_PORT: u16 = 7420;

/// The whole file. Every key has a default.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// This host.
    pub node: NodeSection,
    /// Users, if they have listeners of their own.
    pub admin: AdminSection,
    /// Metrics and health.
    pub http: HttpSection,
    /// Used by `init` only; afterwards timing is the cluster's.
    pub timing: TimingSection,
    /// The guard.
    pub guard: GuardSection,
    /// The log.
    pub log: LogSection,
    /// Where it was read.
    #[serde(skip)]
    origin: Origin,
}

/// `[node]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeSection {
    /// Default: the host's name.
    pub name: Option<String>,
    /// Where state is kept.
    pub data_dir: PathBuf,
    /// Sockets and what may vanish at a reboot.
    pub run_dir: PathBuf,
    /// gRPC (TCP) and heartbeats (UDP).
    pub listen: Vec<SocketAddr>,
    /// What others use; default: `listen`.
    pub advertise: Vec<SocketAddr>,
    /// auto, worker or witness.
    pub role: RoleName,
    /// For placement.
    pub labels: BTreeMap<String, String>,
    /// Default: measured.
    pub capacity: CapacitySection,
}

impl Default for NodeSection {
    fn default() -> Self {
        Self {
            name: None,
            data_dir: "/var/lib/muster".into(),
            run_dir: "/run/muster".into(),
            listen: vec![SocketAddr::from(([127, 0, 0, 1], DEFAULT_PORT))],
            advertise: Vec::new(),
            role: RoleName::Auto,
            labels: BTreeMap::new(),
            capacity: CapacitySection::default(),
        }
    }
}

/// A role as it stands in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoleName {
    /// Muster decides.
    #[default]
    Auto,
    /// Never in Raft.
    Worker,
    /// Votes only.
    Witness,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Auto => Self::Auto,
            RoleName::Worker => Self::Worker,
            RoleName::Witness => Self::Witness,
        }
    }
}

/// `[node.capacity]`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CapacitySection {
    /// Thousandths of a core.
    pub cpu_millis: Option<u32>,
    /// Mebibytes.
    pub memory_mib: Option<u32>,
}

/// `[admin]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminSection {
    /// Where users are served, and they alone. Empty: on the addresses of `[node]`, with the other agents.
    pub listen: Vec<SocketAddr>,
}

/// `[http]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpSection {
    /// Empty: no HTTP.
    pub listen: Vec<SocketAddr>,
}

impl Default for HttpSection {
    fn default() -> Self {
        Self { listen: vec![SocketAddr::from(([127, 0, 0, 1], 7421))] }
    }
}

/// `[timing]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TimingSection {
    /// fast, lan, cloud or wan; default: lan.
    pub profile: Option<String>,
    /// Overrides one value of the profile.
    pub heartbeat_ms: Option<u32>,
    /// Overrides one value of the profile.
    pub lease_ttl_ms: Option<u32>,
    /// Overrides one value of the profile.
    pub kill_budget_ms: Option<u32>,
    /// Overrides one value of the profile.
    pub raft_heartbeat_ms: Option<u32>,
    /// Overrides both values of the profile.
    pub raft_election_ms: Option<[u32; 2]>,
}

/// `[guard]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuardSection {
    /// `off`; a hardware watchdog is not part of this version.
    pub watchdog: String,
}

impl Default for GuardSection {
    fn default() -> Self {
        Self { watchdog: "off".to_owned() }
    }
}

/// `[log]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSection {
    /// error, warn, info, debug, trace, or a filter such as `info,muster::raft=debug`.
    pub level: String,
    /// text or json.
    pub format: LogFormat,
}

impl Default for LogSection {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
}

/// Why a configuration is refused (exit 78).
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It can't be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It isn't what is expected there.
    #[error("{place}: {problem}{hint}")]
    Parse {
        /// File and line, or the variable.
        place: String,
        /// What is wrong.
        problem: String,
        /// The nearest known key, if one is near.
        hint: String,
    },
    /// What only the whole configuration shows to be wrong, with its place.
    #[error("{place}: {error}")]
    At {
        /// File and line, or the variable.
        place: String,
        /// What is wrong.
        error: Box<ConfigError>,
    },
    /// A value can't be used.
    #[error("{key} = {value:?}: {problem}")]
    Value {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is wrong, and the remedy.
        problem: String,
    },
    /// The name of the node.
    #[error("node.name: {0}")]
    Name(#[from] NameError),
    /// The timing violates LEASES.md's inequality.
    #[error("timing: {0}")]
    Timing(#[from] TimingError),
}

impl ConfigError {
    /// The key that it is about.
    fn key(&self) -> Option<&'static str> {
        match self {
            Self::Value { key, .. } => Some(key),
            Self::Name(_) => Some("node.name"),
            Self::Timing(_) => Some("timing"),
            Self::Read { .. } | Self::Parse { .. } | Self::At { .. } => None,
        }
    }
}

impl Config {
    /// The node's name: configured, or the host's.
    ///
    /// # Errors
    /// When it is not a valid name.
    pub fn node_name(&self) -> Result<NodeName, ConfigError> {
        let name = self.node.name.clone().unwrap_or_else(|| {
            let host = nix::unistd::gethostname().unwrap_or_default();
            host.to_string_lossy().split('.').next().unwrap_or_default().to_lowercase()
        });
        Ok(NodeName::new(&name)?)
    }

    /// What others use to reach this agent.
    ///
    /// # Errors
    /// When a wildcard address would be advertised.
    pub fn advertised(&self) -> Result<Vec<SocketAddr>, ConfigError> {
        let chosen = if self.node.advertise.is_empty() { &self.node.listen } else { &self.node.advertise };
        match chosen.iter().find(|a| a.ip().is_unspecified()) {
            Some(wildcard) => Err(ConfigError::Value {
                key: "node.advertise",
                value: wildcard.to_string(),
                problem: "nobody can reach a wildcard address; name this host's own addresses".to_owned(),
            }),
            None => Ok(chosen.clone()),
        }
    }

    /// The timing that `init` gives a new cluster.
    ///
    /// # Errors
    /// An unknown profile, or values that LEASES.md's inequality refuses.
    pub fn timing(&self) -> Result<Timing, ConfigError> {
        let section = &self.timing;
        let profile = section.profile.as_deref().unwrap_or(DEFAULT_PROFILE);
        let mut timing = Timing::named(profile).ok_or_else(|| ConfigError::Value {
            key: "timing.profile",
            value: profile.to_owned(),
            problem: "use fast, lan, cloud or wan".to_owned(),
        })?;
        timing.heartbeat_ms = section.heartbeat_ms.unwrap_or(timing.heartbeat_ms);
        timing.lease_ttl_ms = section.lease_ttl_ms.unwrap_or(timing.lease_ttl_ms);
        timing.kill_budget_ms = section.kill_budget_ms.unwrap_or(timing.kill_budget_ms);
        timing.raft_heartbeat_ms = section.raft_heartbeat_ms.unwrap_or(timing.raft_heartbeat_ms);
        if let Some([min, max]) = section.raft_election_ms {
            (timing.raft_election_min_ms, timing.raft_election_max_ms) = (min, max);
        }
        Ok(timing.validated()?)
    }

    /// What to tell the operator whose configuration asks for another timing than the cluster has.
    #[must_use]
    pub fn timing_in_vain(&self, cluster: &Timing) -> Option<String> {
        let own =
            self.timing().ok().filter(|own| self.timing != TimingSection::default() && own != cluster)?;
        let place = self.origin.of("timing").map(|place| format!("{place}: ")).unwrap_or_default();
        Some(format!(
            "{place}this timing is not used: {own}. The cluster's is {cluster}; 'musterctl cluster set timing...' \
             changes it for all nodes"
        ))
    }

    /// Checks what only the whole file can tell.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.judge().map_err(|error| match error.key().and_then(|key| self.origin.of(key)) {
            Some(place) => ConfigError::At { place, error: Box::new(error) },
            None => error,
        })
    }

    fn judge(&self) -> Result<(), ConfigError> {
        self.node_name()?;
        self.advertised()?;
        self.timing()?;
        if self.node.listen.is_empty() {
            return Err(ConfigError::Value {
                key: "node.listen",
                value: "[]".to_owned(),
                problem: "an agent needs at least one address".to_owned(),
            });
        }
        if self.guard.watchdog != "off" {
            return Err(ConfigError::Value {
                key: "guard.watchdog",
                value: self.guard.watchdog.clone(),
                problem: "hardware watchdogs are not part of this version; use \"off\"".to_owned(),
            });
        }
        Ok(())
    }

    /// What the host has: configured, or measured.
    #[must_use]
    pub fn capacity(&self) -> muster_core::spec::Resources {
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let measured_cpu = u32::try_from(cores).unwrap_or_default().saturating_mul(1000);
        muster_core::spec::Resources {
            cpu_millis: self.node.capacity.cpu_millis.unwrap_or(measured_cpu),
            memory_mib: self.node.capacity.memory_mib.unwrap_or_else(measured_memory_mib),
        }
    }

    /// The agent's Unix socket for operators on this host.
    #[must_use]
    pub fn api_socket(&self) -> PathBuf {
        self.node.run_dir.join("api.sock")
    }
}

fn measured_memory_mib() -> u32 {
    let text = std::fs::read_to_string(Path::new("/proc/meminfo")).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    let kib =
        line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or_default();
    u32::try_from(kib / 1024).unwrap_or(u32::MAX)
}
