//! The cluster at a glance.

use muster_proto::v1 as pb;
use serde::Serialize;

use super::node::{self, Node};
use super::service::{self, NO_SERVICES, Service};
use super::some;
use crate::output::{Paint, Screen, View, table};

/// `status`.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The cluster itself.
    pub cluster: Cluster,
    /// All nodes, by name.
    pub nodes: Vec<Node>,
    /// All services, by name.
    pub services: Vec<Service>,
}

/// The cluster itself.
#[derive(Debug, Serialize)]
pub struct Cluster {
    id: String,
    /// Its name.
    pub name: String,
    /// How far its history is.
    pub revision: u64,
    term: u64,
    /// The leader, if one is known.
    pub leader: Option<String>,
    /// How safe it is from losing its voters.
    pub quorum: Quorum,
    timing: Option<Timing>,
    answered_by: Option<String>,
    stale: bool,
    /// What the agents want their operators to know.
    pub warnings: Vec<String>,
}

/// The control plane's voters.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Quorum {
    /// How many there are.
    pub voters: u32,
    /// How many are alive.
    pub alive: u32,
    /// How many may still fail; negative: the quorum is lost.
    pub margin: i32,
}

/// The cluster's timing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Timing {
    profile: &'static str,
    heartbeat_ms: u32,
    lease_ttl_ms: u32,
    kill_budget_ms: u32,
    raft_heartbeat_ms: u32,
    raft_election_ms: [u32; 2],
}

impl From<&pb::Timing> for Timing {
    fn from(wire: &pb::Timing) -> Self {
        Self {
            profile: muster_wire::timing_from_proto(wire).profile_name(),
            heartbeat_ms: wire.heartbeat_ms,
            lease_ttl_ms: wire.lease_ttl_ms,
            kill_budget_ms: wire.kill_budget_ms,
            raft_heartbeat_ms: wire.raft_heartbeat_ms,
            raft_election_ms: [wire.raft_election_min_ms, wire.raft_election_max_ms],
        }
    }
}

impl From<pb::ClusterStatus> for Status {
    fn from(mut wire: pb::ClusterStatus) -> Self {
        wire.nodes.sort_by(|a, b| a.name.cmp(&b.name));
        wire.services.sort_by(|a, b| a.name.cmp(&b.name));
        let cluster = Cluster {
            id: wire.id,
            name: wire.name,
            revision: wire.revision,
            term: wire.term,
            leader: some(&wire.leader),
            quorum: Quorum { voters: wire.voters, alive: wire.voters_alive, margin: wire.margin },
            timing: wire.timing.as_ref().map(Timing::from),
            answered_by: some(&wire.answered_by),
            stale: wire.stale,
            warnings: wire.warnings,
        };
        Self {
            cluster,
            nodes: wire.nodes.into_iter().map(Node::from).collect(),
            services: wire.services.into_iter().map(Service::from).collect(),
        }
    }
}

/// So many services that are fine are listed one by one; more are summed up.
const LISTED: usize = 12;

impl Status {
    /// The name of the leader, or nothing.
    pub fn leader(&self) -> &str {
        self.cluster.leader.as_deref().unwrap_or_default()
    }

    /// Whether the control plane can act.
    pub fn has_quorum(&self) -> bool {
        self.cluster.quorum.margin >= 0
    }

    fn headline(&self, screen: &Screen) -> String {
        let cluster = &self.cluster;
        let Quorum { voters, alive, margin } = cluster.quorum;
        let (quorum, paint) = match margin {
            ..0 => (format!("quorum LOST ({alive}/{voters} voters)"), Paint::Bad),
            0 if voters > 1 => (format!("quorum {alive}/{voters}, none may fail"), Paint::Warn),
            0 => ("1 voter, no redundancy".to_owned(), Paint::Warn),
            1 => (format!("quorum {alive}/{voters}, 1 may fail"), Paint::Good),
            more => (format!("quorum {alive}/{voters}, {more} may fail"), Paint::Good),
        };
        let leader = match &cluster.leader {
            Some(leader) => format!("leader {leader}"),
            None => Paint::Bad.on("no leader", screen),
        };
        let name = Paint::Bold.on(&cluster.name, screen);
        let numbers = format!("term {}, revision {}", cluster.term, cluster.revision);
        let line = format!("{name}: {}; {leader}; {numbers}\n", paint.on(&quorum, screen));
        if line.chars().count() <= 80 || screen.colour {
            line
        } else {
            format!("{name}\n  {}; {leader}; {numbers}\n", paint.on(&quorum, screen))
        }
    }

    fn remarks(&self, screen: &Screen) -> String {
        let mut text = String::new();
        if self.cluster.stale {
            let by = self.cluster.answered_by.as_deref().unwrap_or("one agent");
            let note = format!("this is {by}'s own copy; it may be old");
            text.push_str(&format!("{}\n", Paint::Warn.on(&note, screen)));
            if !self.has_quorum() {
                let note = "exclusive services have stopped on every host whose lease ran out";
                text.push_str(&format!("{}\n", Paint::Warn.on(note, screen)));
            }
        }
        for warning in &self.cluster.warnings {
            for line in table::wrap(&format!("warning: {warning}"), 78) {
                text.push_str(&format!("{}\n", Paint::Warn.on(&line, screen)));
            }
        }
        text
    }

    fn services_text(&self, screen: &Screen) -> String {
        if self.services.is_empty() {
            return NO_SERVICES.to_owned();
        }
        let (fine, not): (Vec<&Service>, Vec<&Service>) =
            self.services.iter().partition(|s| s.is_as_wished());
        let mut text = String::new();
        if !not.is_empty() {
            let title = format!("{} of {} services not as wished", not.len(), self.services.len());
            text.push_str(&format!("{}\n", Paint::Bad.on(&title, screen)));
            text.push_str(&service::table(not.iter().copied(), screen));
        }
        if !fine.is_empty() {
            if !not.is_empty() {
                text.push('\n');
            }
            text.push_str(&Self::fine_text(&fine, screen));
        }
        text
    }

    fn fine_text(fine: &[&Service], screen: &Screen) -> String {
        let stopped = fine.iter().filter(|service| service.state == "stopped").count();
        let aside = if stopped == 0 { String::new() } else { format!(" ({stopped} of them stopped)") };
        let noun = if fine.len() == 1 { "service" } else { "services" };
        let title = format!("{} {noun} as wished{aside}", fine.len());
        let title = Paint::Good.on(&title, screen);
        if fine.len() <= LISTED {
            format!("{title}\n{}", service::table(fine.iter().copied(), screen))
        } else {
            format!("{title}; 'musterctl service list' shows them\n")
        }
    }
}

impl View for Status {
    fn table(&self, screen: &Screen) -> String {
        let nodes = node::table(&self.nodes, self.leader(), screen);
        format!("{}{}\n{nodes}\n{}", self.headline(screen), self.remarks(screen), self.services_text(screen))
    }

    fn names(&self) -> Vec<String> {
        vec![self.cluster.name.clone()]
    }
}

/// `cluster show`.
#[derive(Debug, Serialize)]
pub struct ClusterDetail {
    /// The cluster.
    pub cluster: Cluster,
}

impl View for ClusterDetail {
    fn table(&self, screen: &Screen) -> String {
        let cluster = &self.cluster;
        let mut table = crate::output::Table::new().fixed("").wraps("");
        table.row(["name".into(), table::Cell::painted(cluster.name.as_str(), Paint::Bold)]);
        table.row(["id".into(), cluster.id.as_str().into()]);
        table.row(["leader".into(), cluster.leader.clone().unwrap_or_else(|| "none".to_owned()).into()]);
        let Quorum { voters, alive, margin } = cluster.quorum;
        table.row(["voters".into(), format!("{alive} of {voters} alive, margin {margin}").into()]);
        table.row(["term".into(), cluster.term.to_string().into()]);
        table.row(["revision".into(), cluster.revision.to_string().into()]);
        if let Some(timing) = cluster.timing {
            let [min, max] = timing.raft_election_ms;
            for (key, value) in [
                ("timing.profile", timing.profile.to_owned()),
                ("timing.heartbeat_ms", timing.heartbeat_ms.to_string()),
                ("timing.lease_ttl_ms", timing.lease_ttl_ms.to_string()),
                ("timing.kill_budget_ms", timing.kill_budget_ms.to_string()),
                ("timing.raft_heartbeat_ms", timing.raft_heartbeat_ms.to_string()),
                ("timing.raft_election_ms", format!("[{min}, {max}]")),
            ] {
                table.row([key.into(), value.into()]);
            }
        }
        table.draw(screen)
    }

    fn names(&self) -> Vec<String> {
        vec![self.cluster.name.clone()]
    }
}
