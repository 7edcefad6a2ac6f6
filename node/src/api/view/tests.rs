//! Status over states made by `apply`, as the log would make them.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_core::command::{
    AddNode, Bootstrap, Command, DrainWish, NodeChange, NodeDescription, Observation, OpenSession, Proposal,
    Role, SessionKey, TokenGrant,
};
use muster_core::detector::SessionHealth;
use muster_core::id::{
    BootId, ClusterId, Generation, Incarnation, NodeId, NodeName, RequestId, Revision, ServiceName,
    SessionId, SlotId, TaskName,
};
use muster_core::lease::voter::AgentHeard;
use muster_core::scheduler;
use muster_core::spec::{Driver, Enforcement, ExecSpec, Mode, ServiceSpec, TaskSpec};
use muster_core::state::State;
use muster_core::state::slot::InstanceState;
use muster_core::time::{Stamp, Timing};
use muster_proto::v1;

use super::{Sight, View};

/// A state and the log that makes it.
struct Log {
    state: State,
}

impl Log {
    /// Three nodes that are alive and vote.
    fn of_three() -> Self {
        let mut log = Self { state: State::default() };
        log.write(Command::Bootstrap(Bootstrap {
            cluster: ClusterId(5),
            name: "test".into(),
            incarnation: Incarnation(1),
            timing: Timing::LAN,
            node: described("a"),
            node_name: NodeName::new("n1").unwrap(),
        }));
        let token = TokenGrant {
            id: "t".into(),
            hash: [1; 32],
            role: Role::Auto,
            expires: Stamp(u64::MAX),
            uses: 10,
        };
        log.write(Command::CreateToken(token));
        for (name, zone) in [("n2", "b"), ("n3", "c")] {
            let add = AddNode {
                name: NodeName::new(name).unwrap(),
                description: described(zone),
                role: Role::Auto,
                token_hash: [1; 32],
            };
            log.write(Command::AddNode(add));
        }
        let nodes: Vec<NodeId> = log.state.nodes.keys().copied().collect();
        let at = Revision(log.state.revision.0 + 1);
        log.state.apply_membership(at, vec![nodes.iter().copied().collect()], BTreeSet::new());
        for node in nodes {
            log.write(Command::OpenSession(OpenSession {
                node,
                guard_boot: BootId(node.0),
                key: SessionKey::default(),
                inventory: Vec::new(),
                enforcement: Enforcement::Kernel,
            }));
        }
        log
    }

    fn write(&mut self, command: Command) {
        let at = Revision(self.state.revision.0 + 1);
        let proposal = Proposal {
            stamp: Stamp(at.0 * 1000),
            request: RequestId::default(),
            actor: "test".into(),
            command,
        };
        self.state.apply(at, &proposal).reply.unwrap();
    }

    /// Declares a service and places it as the scheduler says.
    fn declare(&mut self, name: &str, mode: Mode) {
        let spec = spec(name, mode);
        self.write(Command::PutServices { services: vec![spec], if_revision: None });
        self.place();
    }

    fn place(&mut self) {
        let plan = scheduler::plan(&self.state, self.state.now);
        if !plan.actions.is_empty() {
            self.write(Command::ApplyPlan(plan));
        }
    }

    fn report(&mut self, instance: &str, state: InstanceState) {
        let slot = slot(instance);
        let (node, generation): (NodeId, Generation) = {
            let placement = self.state.slots[&slot].current().unwrap();
            (placement.node, placement.generation)
        };
        let message = (state == InstanceState::Unhealthy).then(|| "tcp: connection refused".to_owned());
        self.write(Command::Observe(Observation { slot, node, generation, state, restarts: 0, message }));
    }

    fn status(&self) -> v1::ClusterStatus {
        View::new(&self.state, &self.sight()).cluster()
    }

    /// What a leader sees when all is well.
    fn sight(&self) -> Sight {
        let health = |node| SessionHealth {
            node,
            lease_age: Some(Duration::from_millis(40)),
            headroom: Duration::from_millis(960),
            overdue: false,
            agent: AgentHeard::Present,
        };
        Sight {
            answered_by: "n1".into(),
            term: 3,
            leader: Some(NodeId(1)),
            voters_alive: self.state.membership.voters(),
            healths: self.state.sessions.values().map(|s| (s.id, health(s.node))).collect(),
            now: self.state.now,
            ..Sight::default()
        }
    }
}

fn described(zone: &str) -> NodeDescription {
    NodeDescription {
        addresses: vec!["127.0.0.1:7420".into()],
        labels: [("zone".to_owned(), zone.to_owned())].into(),
        version: "0.1.0".into(),
        ..NodeDescription::default()
    }
}

fn spec(name: &str, mode: Mode) -> ServiceSpec {
    let exec = ExecSpec { command: vec!["/bin/true".into()], ..ExecSpec::default() };
    let task = TaskSpec { name: TaskName::new("main").unwrap(), driver: Driver::Exec(exec), health: None };
    ServiceSpec::with_defaults(ServiceName::new(name).unwrap(), mode, vec![task])
}

fn slot(instance: &str) -> SlotId {
    let (service, index) = instance.split_once('/').unwrap();
    SlotId { service: ServiceName::new(service).unwrap(), index: index.parse().unwrap() }
}

fn service<'a>(status: &'a v1::ClusterStatus, name: &str) -> &'a v1::ServiceStatus {
    status.services.iter().find(|s| s.name == name).unwrap()
}

#[test]
fn a_healthy_cluster_has_a_margin_and_headroom() {
    let mut log = Log::of_three();
    log.declare("db", Mode::Exclusive);
    let status = log.status();
    assert_eq!((status.voters, status.voters_alive, status.margin), (3, 3, 1));
    assert_eq!((status.leader.as_str(), status.term), ("n1", 3));
    for node in &status.nodes {
        assert_eq!((node.state.as_str(), node.role.as_str(), node.agent.as_str()), ("alive", "voter", "up"));
        assert_eq!((node.lease_ttl_ms, node.lease_headroom_ms), (1000, Some(960)));
    }
    assert_eq!(service(&status, "db").state, "starting");
}

#[test]
fn the_state_of_a_service_follows_its_instances() {
    let mut log = Log::of_three();
    log.declare("web", Mode::Replicated { count: 2 });
    log.report("web/0", InstanceState::Running);
    assert_eq!(service(&log.status(), "web").state, "starting");
    log.report("web/1", InstanceState::Running);
    let status = log.status();
    let web = service(&status, "web");
    assert_eq!((web.state.as_str(), web.wanted, web.running, web.healthy), ("running", 2, 2, 2));
    assert_eq!(web.reason, "");

    log.report("web/1", InstanceState::Unhealthy);
    let status = log.status();
    let web = service(&status, "web");
    assert_eq!((web.state.as_str(), web.running, web.healthy), ("degraded", 2, 1));
    assert!(web.reason.contains("connection refused"), "{}", web.reason);

    log.write(Command::SetServiceWanted { service: ServiceName::new("web").unwrap(), wanted: false });
    log.place();
    let status = log.status();
    let web = service(&status, "web");
    assert_eq!((web.state.as_str(), web.reason.as_str()), ("degraded", "it is being stopped"));
    assert!(web.instances.iter().all(|i| i.state == "stopping"));
}

#[test]
fn what_has_no_place_says_why() {
    let mut log = Log::of_three();
    for node in [NodeId(1), NodeId(3), NodeId(4)] {
        log.write(Command::ChangeNode { node, change: NodeChange::Cordon(true) });
    }
    log.declare("db", Mode::Exclusive);
    let status = log.status();
    let db = service(&status, "db");
    assert_eq!((db.state.as_str(), db.wanted, db.running), ("unplaced", 1, 0));
    assert_eq!(db.reason, "none of 3 nodes can take it: n1 cordoned; n2 cordoned; n3 cordoned");
}

#[test]
fn suspects_lost_nodes_and_silent_agents_are_told_apart() {
    let mut log = Log::of_three();
    let [first, second, third] = log.state.sessions.keys().copied().collect::<Vec<SessionId>>()[..] else {
        panic!("three sessions")
    };
    let mut sight = log.sight();
    sight.healths.get_mut(&first).unwrap().overdue = true;
    sight.healths.get_mut(&second).unwrap().agent = AgentHeard::Absent(Duration::from_secs(1));
    log.state = log.state.without_session(third);
    let status = View::new(&log.state, &sight).cluster();
    let seen: Vec<_> = status.nodes.iter().map(|n| (n.state.as_str(), n.agent.as_str())).collect();
    assert_eq!(seen, [("suspect", "unknown"), ("alive", "down"), ("lost", "unknown")]);
    assert!(status.nodes[2].lost_since_ms.is_some());
}

#[test]
fn a_drain_counts_what_is_left_and_names_what_is_stuck() {
    let mut log = Log::of_three();
    log.declare("db", Mode::Exclusive);
    log.report("db/0", InstanceState::Running);
    let home = log.state.slots[&slot("db/0")].current().unwrap().node;
    for node in log.state.nodes.keys().copied().collect::<Vec<_>>() {
        if node != home {
            log.write(Command::ChangeNode { node, change: NodeChange::Cordon(true) });
        }
    }
    let wish = DrainWish { deadline: Some(Duration::from_secs(60)), max_parallel: 0 };
    log.write(Command::ChangeNode { node: home, change: NodeChange::Drain(wish) });
    let status = log.status();
    let node = status.nodes.iter().find(|n| n.drain.is_some()).unwrap();
    let drain = node.drain.as_ref().unwrap();
    assert_eq!((drain.remaining, drain.deadline_ms), (1, Some(drain.since_ms + 60_000)));
    assert_eq!(drain.blocked[0].instance, "db/0");
    assert!(drain.blocked[0].reason.contains("cordoned"), "{}", drain.blocked[0].reason);
}
