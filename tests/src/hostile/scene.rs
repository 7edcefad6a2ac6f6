//! The cluster that hostile entries meet: three voters, a worker, services of every mode that run.

use std::collections::BTreeSet;

use muster_core::command::{
    AddNode, Bootstrap, Command, NodeDescription, OpenSession, Proposal, Role, SessionKey, TokenGrant,
};
use muster_core::id::{
    BootId, ClusterId, Incarnation, NodeId, NodeName, RequestId, Revision, ServiceName, TaskName,
};
use muster_core::scheduler;
use muster_core::spec::{Driver, Enforcement, ExecSpec, Mode, Resources, ServiceSpec, TaskSpec};
use muster_core::state::State;
use muster_core::time::{Stamp, Timing};

/// The cluster.
pub(super) const CLUSTER: ClusterId = ClusterId(0x0123_4567_89ab_cdef);
/// The time at which everything happened.
pub(super) const NOW: Stamp = Stamp(1_000_000);
const TOKEN: [u8; 32] = [7; 32];
const NODES: u64 = 4;

/// Applies what a sound cluster would have in its log.
struct Founding(State);

impl Founding {
    fn next(&self) -> Revision {
        Revision(self.0.revision.0 + 1)
    }

    fn must(&mut self, command: Command) {
        let proposal = Proposal { stamp: NOW, request: RequestId::default(), actor: "scene".into(), command };
        let outcome = self.0.apply(self.next(), &proposal);
        assert!(outcome.reply.is_ok(), "{:?}", outcome.reply);
    }
}

/// The state of the cluster.
pub(super) fn cluster() -> State {
    let mut founding = Founding(State::default());
    founding.must(Command::Bootstrap(Bootstrap {
        cluster: CLUSTER,
        name: "hostile".to_owned(),
        incarnation: Incarnation(1),
        timing: Timing::LAN,
        node: description(1),
        node_name: name("n1"),
    }));
    founding.must(Command::CreateToken(TokenGrant {
        id: "t".to_owned(),
        hash: TOKEN,
        role: Role::Auto,
        expires: Stamp(u64::MAX),
        uses: u32::MAX,
    }));
    for number in 2..=NODES {
        founding.must(Command::AddNode(AddNode {
            name: name(&format!("n{number}")),
            description: description(number),
            role: if number == NODES { Role::Worker } else { Role::Auto },
            token_hash: TOKEN,
        }));
    }
    let nodes: Vec<NodeId> = founding.0.nodes.keys().copied().collect();
    for node in &nodes {
        founding.must(Command::OpenSession(OpenSession {
            node: *node,
            guard_boot: BootId(node.0),
            key: SessionKey::default(),
            inventory: Vec::new(),
            enforcement: Enforcement::Kernel,
        }));
    }
    let voters: BTreeSet<NodeId> = nodes[..3].iter().copied().collect();
    for voter in &voters {
        founding.must(Command::VoterUp { voter: *voter, boot: BootId(voter.0 + 100), replaces: None });
    }
    let at = founding.next();
    founding.0.apply_membership(at, vec![voters], BTreeSet::new());
    let modes = [("db", Mode::Exclusive), ("web", Mode::Replicated { count: 2 }), ("logs", Mode::Everywhere)];
    let services = modes.into_iter().map(|(service, mode)| spec(service, mode)).collect();
    founding.must(Command::PutServices { services, if_revision: None });
    let plan = scheduler::plan(&founding.0, NOW);
    founding.must(Command::ApplyPlan(plan));
    founding.0
}

fn name(node: &str) -> NodeName {
    NodeName::new(node).expect("a legal name")
}

fn description(number: u64) -> NodeDescription {
    NodeDescription {
        addresses: vec![format!("10.0.0.{number}:7420")],
        labels: [("zone".to_owned(), format!("z{}", number % 2))].into(),
        capacity: Resources { cpu_millis: 4000, memory_mib: 8192 },
        version: "test".to_owned(),
        features: (1, 1),
    }
}

/// A service with one task.
pub(super) fn spec(service: &str, mode: Mode) -> ServiceSpec {
    let task = TaskSpec {
        name: TaskName::new("server").expect("a legal name"),
        driver: Driver::Exec(ExecSpec { command: vec!["/bin/true".to_owned()], ..ExecSpec::default() }),
        health: None,
    };
    ServiceSpec::with_defaults(ServiceName::new(service).expect("a legal name"), mode, vec![task])
}
