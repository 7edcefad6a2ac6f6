//! What is printed: the stable JSON shapes, and tables for people.

use serde::Serialize;

use crate::when;

pub mod audit;
pub mod cert;
pub mod event;
pub mod node;
pub mod outcome;
pub mod plan;
pub mod raft;
pub mod secret;
pub mod service;
pub mod status;
pub mod token;

/// Empty text on the wire means 'nothing': null in JSON.
fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// A time on the wire, 0 meaning 'none', as ISO 8601.
fn time(time_ms: u64) -> Option<String> {
    (time_ms > 0).then(|| when::iso(time_ms))
}

/// Reserved or available resources.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Resources {
    /// Thousandths of a core.
    pub cpu_millis: u32,
    /// Mebibytes.
    pub memory_mib: u32,
}

impl From<Option<muster_proto::v1::Resources>> for Resources {
    fn from(wire: Option<muster_proto::v1::Resources>) -> Self {
        let wire = wire.unwrap_or_default();
        Self { cpu_millis: wire.cpu_millis, memory_mib: wire.memory_mib }
    }
}
