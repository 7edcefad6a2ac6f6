//! Services and their instances.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::spec::file::ServiceEntry;
use muster_proto::v1 as pb;
use serde::Serialize;

use super::{some, time};
use crate::output::table::Cell;
use crate::output::{Paint, Screen, Table, View};
use crate::when;

/// A service as it is.
#[derive(Clone, Debug, Serialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    mode: String,
    /// How many instances are wanted.
    pub wanted: u32,
    /// How many run, healthy or not.
    pub running: u32,
    healthy: u32,
    /// running, degraded, starting, stopped or unplaced.
    pub state: String,
    /// Why it is not as wished.
    pub reason: Option<String>,
    revision: u64,
    rollout: u64,
    priority: u32,
    /// Where it is.
    pub instances: Vec<Instance>,
}

/// An instance of a service.
#[derive(Clone, Debug, Serialize)]
pub struct Instance {
    /// SERVICE/INDEX.
    pub id: String,
    /// Where it is.
    pub node: Option<String>,
    /// placed, starting, running, unhealthy, stopping, stopped, failed or lost.
    pub state: String,
    generation: u64,
    since: Option<String>,
    restarts: u32,
    message: Option<String>,
    reason: Option<String>,
    superseded: bool,
    #[serde(skip)]
    since_ms: u64,
}

impl From<pb::ServiceStatus> for Service {
    fn from(wire: pb::ServiceStatus) -> Self {
        Self {
            name: wire.name,
            mode: wire.mode,
            wanted: wire.wanted,
            running: wire.running,
            healthy: wire.healthy,
            state: wire.state,
            reason: some(&wire.reason),
            revision: wire.revision,
            rollout: wire.rollout,
            priority: wire.priority,
            instances: wire.instances.into_iter().map(Instance::from).collect(),
        }
    }
}

impl From<pb::InstanceStatus> for Instance {
    fn from(wire: pb::InstanceStatus) -> Self {
        Self {
            id: wire.id,
            node: some(&wire.node),
            state: wire.state,
            generation: wire.generation,
            since: time(wire.since_ms),
            restarts: wire.restarts,
            message: some(&wire.message),
            reason: some(&wire.reason),
            superseded: wire.superseded,
            since_ms: wire.since_ms,
        }
    }
}

impl Service {
    /// Whether it does what its operator wants: only an operator stops a service.
    pub fn is_as_wished(&self) -> bool {
        matches!(self.state.as_str(), "running" | "stopped")
    }

    /// Where it is, and why not elsewhere or more: for people.
    fn place(&self, screen: &Screen) -> String {
        let current = self.instances.iter().filter(|i| !i.superseded && i.state != "lost");
        let nodes: BTreeSet<&str> = current.filter_map(|i| i.node.as_deref()).collect();
        let nodes: Vec<&str> = nodes.into_iter().collect();
        let nodes = match nodes.as_slice() {
            [] => String::new(),
            [first, second, _, _, rest @ ..] if !rest.is_empty() => {
                format!("on {first}, {second} and {} more", rest.len() + 2)
            }
            few => format!("on {}", few.join(", ")),
        };
        let why = self.reason.clone().or_else(|| self.instances.iter().find_map(|i| i.message.clone()));
        let text = match why {
            Some(why) if !self.is_as_wished() && !nodes.is_empty() => format!("{nodes}: {why}"),
            Some(why) if !self.is_as_wished() => why,
            _ => nodes,
        };
        if screen.wide || text.chars().count() <= REASON_CHARS {
            return text;
        }
        let kept: String = text.chars().take(REASON_CHARS).collect();
        format!("{}… ('service explain {}')", kept.trim_end(), self.name)
    }

    fn since(&self, now_ms: u64) -> String {
        let latest = self.instances.iter().map(|instance| instance.since_ms).max().unwrap_or(0);
        if latest == 0 { String::new() } else { when::relative(latest, now_ms) }
    }

    fn count(&self) -> Cell {
        let text = format!("{}/{}", self.running, self.wanted);
        let paint = if self.running < self.wanted { Paint::Bad } else { Paint::Plain };
        Cell::painted(text, paint)
    }
}

/// Lists keep reasons to this length; `service explain` has all of it.
const REASON_CHARS: usize = 120;

/// A table of services.
pub fn table<'a>(services: impl IntoIterator<Item = &'a Service>, screen: &Screen) -> String {
    let mut table = Table::new()
        .shrinks("SERVICE")
        .fixed("MODE")
        .fixed("STATE")
        .right("RUN")
        .wide("HEALTHY")
        .wide("PRIORITY")
        .wide("REVISION")
        .fixed("SINCE")
        .wraps("WHERE");
    for service in services {
        table.row([
            service.name.as_str().into(),
            service.mode.as_str().into(),
            Cell::state(&service.state),
            service.count(),
            service.healthy.to_string().into(),
            service.priority.to_string().into(),
            service.revision.to_string().into(),
            service.since(screen.now_ms).into(),
            service.place(screen).into(),
        ]);
    }
    table.draw(screen)
}

/// A table of instances.
pub fn instances_table(instances: &[Instance], screen: &Screen) -> String {
    let mut table = Table::new()
        .shrinks("INSTANCE")
        .shrinks("NODE")
        .fixed("STATE")
        .right("GENERATION")
        .fixed("SINCE")
        .right("RESTARTS")
        .wraps("REMARK");
    for instance in instances {
        let remark = match (&instance.message, &instance.reason) {
            (Some(message), _) => message.clone(),
            (None, Some(reason)) => reason.clone(),
            (None, None) => String::new(),
        };
        let remark = if instance.superseded { format!("being replaced; {remark}") } else { remark };
        table.row([
            instance.id.as_str().into(),
            instance.node.clone().unwrap_or_default().into(),
            Cell::state(&instance.state),
            instance.generation.to_string().into(),
            when::relative(instance.since_ms, screen.now_ms).into(),
            instance.restarts.to_string().into(),
            remark.trim_end_matches("; ").into(),
        ]);
    }
    table.draw(screen)
}

/// What to do when there are no services.
pub const NO_SERVICES: &str = "no services yet; try: musterctl service init exec > orders.toml\n";

/// `service list`.
#[derive(Debug, Serialize)]
pub struct ServiceList {
    /// All services, by name.
    pub services: Vec<Service>,
}

impl View for ServiceList {
    fn table(&self, screen: &Screen) -> String {
        if self.services.is_empty() { NO_SERVICES.to_owned() } else { table(&self.services, screen) }
    }

    fn names(&self) -> Vec<String> {
        self.services.iter().map(|service| service.name.clone()).collect()
    }
}

/// `service show`: what was declared, and what is.
#[derive(Debug, Serialize)]
pub struct ServiceDetail {
    /// What is.
    #[serde(flatten)]
    pub service: Service,
    /// As in a service file; none if this version cannot read it.
    pub spec: Option<ServiceEntry>,
    /// The declaration as a file.
    #[serde(skip)]
    pub file: String,
    /// Notes.
    pub annotations: BTreeMap<String, String>,
    /// When it was declared first.
    pub created: Option<String>,
    /// How many declarations `rollback` can go back.
    pub former: u32,
}

impl View for ServiceDetail {
    fn table(&self, screen: &Screen) -> String {
        let service = &self.service;
        let mut head = Table::new().fixed("").wraps("");
        head.row(["service".into(), Cell::painted(service.name.as_str(), Paint::Bold)]);
        head.row(["state".into(), Cell::state(&service.state)]);
        if let Some(reason) = &service.reason {
            head.row(["reason".into(), reason.as_str().into()]);
        }
        let counts =
            format!("{} wanted, {} running, {} healthy", service.wanted, service.running, service.healthy);
        head.row(["instances".into(), counts.into()]);
        let revision =
            format!("{}, created {}", service.revision, self.created.as_deref().unwrap_or("before"));
        head.row(["revision".into(), revision.into()]);
        if self.former > 0 {
            let text = format!("{} (musterctl service rollback {})", self.former, service.name);
            head.row(["former".into(), text.into()]);
        }
        for (key, value) in &self.annotations {
            head.row(["annotation".into(), format!("{key} = {value}").into()]);
        }
        let mut text = head.draw(screen);
        if !service.instances.is_empty() {
            text.push('\n');
            text.push_str(&instances_table(&service.instances, screen));
        }
        if !self.file.is_empty() {
            text.push('\n');
            text.push_str(&self.file);
        }
        text
    }

    fn names(&self) -> Vec<String> {
        vec![self.service.name.clone()]
    }
}
