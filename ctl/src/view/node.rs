//! Nodes.

use std::collections::BTreeMap;

use muster_proto::v1 as pb;
use serde::Serialize;

use super::{Resources, some, time};
use crate::output::table::Cell;
use crate::output::{Paint, Screen, Table, View};
use crate::when;

/// A node.
#[derive(Clone, Debug, Serialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    id: String,
    role: String,
    wanted_role: Option<String>,
    /// joining, alive, suspect, lost or left.
    pub state: String,
    session: Option<u64>,
    /// Whether nothing new is placed there.
    pub cordoned: bool,
    /// Whether what runs there is left alone.
    pub maintenance: bool,
    /// Whether, and how far, it is being emptied.
    pub drain: Option<Drain>,
    /// up, down or unknown.
    pub agent: String,
    labels: BTreeMap<String, String>,
    addresses: Vec<String>,
    version: String,
    /// Its lease.
    pub lease: Lease,
    instances: u32,
    capacity: Resources,
    used: Resources,
    enforcement: Option<String>,
    joined: Option<String>,
    certificate_ends: Option<String>,
    #[serde(skip)]
    certificate_ends_ms: u64,
    lost_since: Option<String>,
    #[serde(skip)]
    joined_ms: u64,
    #[serde(skip)]
    lost_since_ms: Option<u64>,
}

/// The node's lease.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Lease {
    /// Time to live.
    pub ttl_ms: u32,
    /// How much of it was left when the status was made; none: not known here.
    pub headroom_ms: Option<i64>,
}

/// A drain under way.
#[derive(Clone, Debug, Serialize)]
pub struct Drain {
    since: Option<String>,
    deadline: Option<String>,
    /// How many instances are still there.
    pub remaining: u32,
    /// What keeps it from being done.
    pub blocked: Vec<Blocked>,
}

/// An instance that cannot leave.
#[derive(Clone, Debug, Serialize)]
pub struct Blocked {
    /// Which.
    pub instance: String,
    /// Why.
    pub reason: String,
}

impl From<pb::NodeStatus> for Node {
    fn from(wire: pb::NodeStatus) -> Self {
        Self {
            name: wire.name,
            id: wire.id,
            role: wire.role,
            wanted_role: some(&wire.wanted_role),
            state: wire.state,
            session: wire.session,
            cordoned: wire.cordoned,
            maintenance: wire.maintenance,
            drain: wire.drain.map(Drain::from),
            agent: wire.agent,
            labels: wire.labels.into_iter().collect(),
            addresses: wire.addresses,
            version: wire.version,
            lease: Lease { ttl_ms: wire.lease_ttl_ms, headroom_ms: wire.lease_headroom_ms },
            instances: wire.instances,
            capacity: wire.capacity.into(),
            used: wire.used.into(),
            enforcement: some(&wire.enforcement),
            joined: time(wire.joined_ms),
            certificate_ends: wire.certificate_ends_ms.and_then(time),
            certificate_ends_ms: wire.certificate_ends_ms.unwrap_or_default(),
            lost_since: wire.lost_since_ms.and_then(time),
            joined_ms: wire.joined_ms,
            lost_since_ms: wire.lost_since_ms,
        }
    }
}

impl From<pb::DrainStatus> for Drain {
    fn from(wire: pb::DrainStatus) -> Self {
        let blocked = |b: pb::BlockedInstance| Blocked { instance: b.instance, reason: b.reason };
        Self {
            since: time(wire.since_ms),
            deadline: wire.deadline_ms.and_then(time),
            remaining: wire.remaining,
            blocked: wire.blocked.into_iter().map(blocked).collect(),
        }
    }
}

impl Node {
    /// What is special about it, for people.
    fn flags(&self) -> String {
        let mut flags = Vec::new();
        if let Some(drain) = &self.drain {
            let left = drain.remaining;
            flags.push(if left == 0 { "drained".to_owned() } else { format!("draining {left}") });
        }
        if self.cordoned {
            flags.push("cordoned".to_owned());
        }
        if self.maintenance {
            flags.push("maintenance".to_owned());
        }
        if self.enforcement.as_deref() == Some("user") {
            flags.push("user-enforced".to_owned());
        }
        flags.join(", ")
    }

    /// Below a quarter of its time to live, a lease is about to end.
    pub fn lease_is_short(&self) -> bool {
        self.lease.headroom_ms.is_some_and(|left| left * 4 < i64::from(self.lease.ttl_ms))
    }

    fn lease_cell(&self) -> Cell {
        let Some(left) = self.lease.headroom_ms else { return Cell::default() };
        let paint = if self.lease_is_short() { Paint::Bad } else { Paint::Plain };
        Cell::painted(format!("{left}/{} ms", self.lease.ttl_ms), paint)
    }

    fn state_cell(&self, screen: &Screen) -> Cell {
        match self.lost_since_ms {
            Some(since) if self.state == "lost" => {
                let text = format!("lost {}", when::relative(since, screen.now_ms));
                Cell::painted(text, Paint::Bad)
            }
            _ => Cell::state(&self.state),
        }
    }

    fn load(&self) -> String {
        if self.capacity.cpu_millis == 0 && self.capacity.memory_mib == 0 {
            return String::new();
        }
        let (used, all) = (self.used, self.capacity);
        format!("{}/{} m, {}/{} MiB", used.cpu_millis, all.cpu_millis, used.memory_mib, all.memory_mib)
    }

    fn labels(&self) -> String {
        let labels: Vec<String> = self.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        labels.join(",")
    }
}

/// A table of nodes; the leader's role is marked.
pub fn table(nodes: &[Node], leader: &str, screen: &Screen) -> String {
    let mut table = Table::new()
        .shrinks("NODE")
        .fixed("ROLE")
        .fixed("STATE")
        .wide("SESSION")
        .fixed("LEASE LEFT")
        .fixed("AGENT")
        .right("INST")
        .wide("USED")
        .wide("VERSION")
        .wide("ADDRESSES")
        .wide("LABELS")
        .wraps("FLAGS");
    for node in nodes {
        let role = if node.name == leader { format!("{}, leader", node.role) } else { node.role.clone() };
        table.row([
            node.name.as_str().into(),
            role.into(),
            node.state_cell(screen),
            node.session.map(|session| session.to_string()).unwrap_or_default().into(),
            node.lease_cell(),
            Cell::state(&node.agent),
            node.instances.to_string().into(),
            node.load().into(),
            node.version.as_str().into(),
            node.addresses.join(",").into(),
            node.labels().into(),
            Cell::painted(node.flags(), Paint::Warn),
        ]);
    }
    table.draw(screen)
}

/// `node list`.
#[derive(Debug, Serialize)]
pub struct NodeList {
    /// All nodes, by name.
    pub nodes: Vec<Node>,
    /// The leader's name, or nothing.
    #[serde(skip)]
    pub leader: String,
}

impl View for NodeList {
    fn table(&self, screen: &Screen) -> String {
        if self.nodes.is_empty() {
            return "no nodes yet; on the first host try: muster init\n".to_owned();
        }
        table(&self.nodes, &self.leader, screen)
    }

    fn names(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.name.clone()).collect()
    }
}

/// `node show`: the node and what runs on it.
#[derive(Debug, Serialize)]
pub struct NodeDetail {
    /// The node.
    #[serde(flatten)]
    pub node: Node,
    /// What is placed there.
    pub placements: Vec<super::service::Instance>,
}

impl View for NodeDetail {
    fn table(&self, screen: &Screen) -> String {
        let node = &self.node;
        let mut table = Table::new().fixed("").wraps("");
        let role = match &node.wanted_role {
            Some(wanted) => format!("{} (wanted: {wanted})", node.role),
            None => node.role.clone(),
        };
        table.row(["node".into(), Cell::painted(node.name.as_str(), Paint::Bold)]);
        table.row(["state".into(), node.state_cell(screen)]);
        table.row(["role".into(), role.into()]);
        let session = node.session.map_or_else(|| "none".to_owned(), |session| session.to_string());
        let enforcement = node.enforcement.as_ref().map(|e| format!(", {e} enforcement")).unwrap_or_default();
        table.row(["session".into(), format!("{session}{enforcement}").into()]);
        table.row(["lease left".into(), node.lease_cell()]);
        table.row(["agent".into(), format!("{}, version {}", node.agent, node.version).into()]);
        table.row(["addresses".into(), node.addresses.join(", ").into()]);
        table.row(["labels".into(), node.labels().into()]);
        table.row(["used".into(), node.load().into()]);
        table.row(["joined".into(), when::relative(node.joined_ms, screen.now_ms).into()]);
        if node.certificate_ends_ms > 0 {
            let ends = when::relative(node.certificate_ends_ms, screen.now_ms);
            table.row(["certificate ends".into(), ends.into()]);
        }
        let flags = node.flags();
        if !flags.is_empty() {
            table.row(["flags".into(), Cell::painted(flags, Paint::Warn)]);
        }
        for blocked in node.drain.iter().flat_map(|drain| &drain.blocked) {
            table.row(["blocked".into(), format!("{}: {}", blocked.instance, blocked.reason).into()]);
        }
        let mut text = table.draw(screen);
        text.push('\n');
        if self.placements.is_empty() {
            text.push_str("nothing runs there\n");
        } else {
            text.push_str(&super::service::instances_table(&self.placements, screen));
        }
        text
    }

    fn names(&self) -> Vec<String> {
        vec![self.node.name.clone()]
    }
}
