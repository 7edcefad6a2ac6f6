//! Events and output of tasks: streams of lines.

use muster_proto::v1 as pb;
use serde::Serialize;
use serde_json::{Map, Value};

use super::some;
use crate::output::{Paint, Screen, View};
use crate::when;

/// One event.
#[derive(Debug, Serialize)]
pub struct Event {
    revision: u64,
    time: String,
    kind: String,
    node: Option<String>,
    service: Option<String>,
    message: String,
    detail: Map<String, Value>,
}

impl From<pb::Event> for Event {
    fn from(wire: pb::Event) -> Self {
        let mut detail = Map::new();
        if let Some(instance) = some(&wire.instance) {
            detail.insert("instance".to_owned(), Value::String(instance));
        }
        detail.insert("seq".to_owned(), Value::from(wire.seq));
        Self {
            revision: wire.revision,
            time: when::iso(wire.time_ms),
            kind: wire.kind,
            node: some(&wire.node),
            service: some(&wire.service),
            message: wire.message,
            detail,
        }
    }
}

impl View for Event {
    fn table(&self, screen: &Screen) -> String {
        let paint = match self.kind.as_str() {
            "NodeLost" | "AgentGone" | "InstanceLost" | "InstanceFailed" | "PlanRefused" => Paint::Bad,
            "NodeAlive" | "AgentBack" | "InstanceRunning" => Paint::Good,
            _ => Paint::Plain,
        };
        let time = Paint::Dim.on(&self.time, screen);
        format!("{time}  {}  {}\n", paint.on(&format!("{:<17}", self.kind), screen), self.message)
    }

    fn names(&self) -> Vec<String> {
        vec![self.revision.to_string()]
    }
}

/// One line that a task wrote.
#[derive(Debug, Serialize)]
pub struct LogLine {
    node: String,
    instance: String,
    task: String,
    line: String,
    /// Whether people are told where it came from.
    #[serde(skip)]
    pub prefixed: bool,
}

impl LogLine {
    /// A line as an agent sent it; what is no text is replaced.
    pub fn new(wire: &pb::LogLine, prefixed: bool) -> Self {
        Self {
            node: wire.node.clone(),
            instance: wire.instance.clone(),
            task: wire.task.clone(),
            line: String::from_utf8_lossy(&wire.line).trim_end_matches(['\n', '\r']).to_owned(),
            prefixed,
        }
    }
}

impl View for LogLine {
    fn table(&self, screen: &Screen) -> String {
        if !self.prefixed {
            return format!("{}\n", self.line);
        }
        let from = format!("{} {} on {}", self.instance, self.task, self.node);
        format!("{}  {}\n", Paint::Dim.on(&from, screen), self.line)
    }

    fn names(&self) -> Vec<String> {
        vec![self.line.clone()]
    }
}
