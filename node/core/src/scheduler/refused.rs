//! Why a node cannot take an instance.

use std::fmt;
use std::time::Duration;

use crate::id::{NodeName, ServiceName};
use crate::state::node::LostCause;

/// One reason against one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It has no session.
    NoSession {
        /// Why, and for how long.
        lost: Option<(LostCause, Duration)>,
    },
    /// Its guard goes on, but its agent, which would start the instance, is gone.
    NoAgent {
        /// For how long.
        gone: Duration,
    },
    /// It only votes.
    Witness,
    /// It is in maintenance.
    Maintenance,
    /// It is being drained.
    Draining,
    /// Nothing new is placed there.
    Cordoned,
    /// The instance is to leave it.
    ToBeLeft,
    /// The slot has an instance there already.
    Occupied,
    /// An instance of an `everywhere` service belongs to one node.
    OtherNode(NodeName),
    /// Its labels do not satisfy the declaration.
    Requirement {
        /// What is required.
        required: String,
        /// The label's value there.
        value: Option<String>,
    },
    /// Its guard cannot end tasks by the kernel in time, or a task's driver cannot.
    Enforcement,
    /// A service that must not be on the same node is there.
    Apart(ServiceName),
    /// A service that must be on the same node is not there.
    With(ServiceName),
    /// A service of the same group could never follow there.
    Partner {
        /// Which.
        service: ServiceName,
        /// What it requires of a node.
        required: String,
    },
    /// A service that must run first does not.
    After(ServiceName),
    /// Too little of a resource is left.
    Room {
        /// CPU or memory.
        resource: Resource,
        /// What the instance needs.
        needs: u64,
        /// What is left.
        free: u64,
    },
    /// The instance failed there lately.
    Failed {
        /// How long ago.
        ago: Duration,
        /// How.
        message: String,
    },
}

/// What a node has a limited amount of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// In thousandths of a core.
    Cpu,
    /// In mebibytes.
    Memory,
}

impl Refused {
    /// A word that stays the same, for scripts and metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoSession { .. } => "no-session",
            Self::NoAgent { .. } => "no-agent",
            Self::Witness => "witness",
            Self::Maintenance => "maintenance",
            Self::Draining => "draining",
            Self::Cordoned => "cordoned",
            Self::ToBeLeft => "to-be-left",
            Self::Occupied => "occupied",
            Self::OtherNode(_) => "other-node",
            Self::Requirement { .. } => "requirement",
            Self::Enforcement => "enforcement",
            Self::Apart(_) => "apart",
            Self::With(_) => "with",
            Self::Partner { .. } => "partner",
            Self::After(_) => "after",
            Self::Room { .. } => "room",
            Self::Failed { .. } => "failed",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSession { lost: None } => write!(f, "has no session"),
            Self::NoSession { lost: Some((LostCause::Joining, _)) } => {
                write!(f, "has not opened a session yet")
            }
            Self::NoSession { lost: Some((LostCause::Silent, time)) } => write!(f, "lost {}", ago(*time)),
            Self::NoSession { lost: Some((LostCause::Fenced, time)) } => {
                write!(f, "ended its session in order {}", ago(*time))
            }
            Self::NoAgent { gone } => write!(f, "has had no agent for {}", span(*gone)),
            Self::Witness => write!(f, "is a witness: it votes and runs no services"),
            Self::Maintenance => write!(f, "in maintenance"),
            Self::Draining => write!(f, "being drained"),
            Self::Cordoned => write!(f, "cordoned"),
            Self::ToBeLeft => write!(f, "is to be left"),
            Self::Occupied => write!(f, "has this instance already"),
            Self::OtherNode(name) => write!(f, "this instance belongs to {name}"),
            Self::Requirement { required, value: Some(value) } => {
                write!(f, "requires {required}, but it is {value}")
            }
            Self::Requirement { required, value: None } => {
                write!(f, "requires {required}, but has no such label")
            }
            Self::Enforcement => write!(
                f,
                "cannot end tasks by the kernel in time; the service asks for enforcement = \"kernel\""
            ),
            Self::Apart(service) => write!(f, "runs {service}, from which it is kept apart"),
            Self::With(service) => write!(f, "does not run {service}, with which it belongs"),
            Self::Partner { service, required } => {
                write!(f, "{service}, with which it belongs, requires {required}")
            }
            Self::After(service) => write!(f, "waits for {service} to run"),
            Self::Room { resource: Resource::Cpu, needs, free } => {
                write!(f, "needs {needs} millicores, {free} are free")
            }
            Self::Room { resource: Resource::Memory, needs, free } => {
                write!(f, "needs {needs} MiB of memory, {free} are free")
            }
            Self::Failed { ago: time, message } => write!(f, "failed here {}: {message}", ago(*time)),
        }
    }
}

/// A time span as people say it: 350 ms, 12 s, 2 min, 3 h.
#[must_use]
pub fn span(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        s @ 1..120 => format!("{s} s"),
        s @ 120..7200 => format!("{} min", s / 60),
        s @ 7200..172_800 => format!("{} h", s / 3600),
        s => format!("{} d", s / 86_400),
    }
}

/// How long ago something was, as people say it.
#[must_use]
pub fn ago(time: Duration) -> String {
    if time < Duration::from_secs(1) { "just now".to_owned() } else { format!("{} ago", span(time)) }
}
