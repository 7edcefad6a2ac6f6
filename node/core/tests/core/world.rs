//! A cluster in memory: a log of proposals applied to one state, checked after every entry.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_core::check::violations;
use muster_core::command::{
    AddNode, Bootstrap, Command, NodeDescription, OpenSession, Proposal, Role, SessionKey, TokenGrant,
};
use muster_core::event::EventKind;
use muster_core::id::{
    BootId, ClusterId, Generation, Incarnation, NodeId, NodeName, RequestId, Revision, ServiceName,
    SessionId, SlotId, TaskName,
};
use muster_core::scheduler;
use muster_core::spec::{Driver, Enforcement, ExecSpec, Mode, Resources, ServiceSpec, TaskSpec};
use muster_core::state::State;
use muster_core::state::apply::Outcome;
use muster_core::time::{Stamp, Timing};

const TOKEN: [u8; 32] = [7; 32];

pub struct World {
    pub state: State,
    pub now: Stamp,
}

impl World {
    /// A cluster of `nodes` nodes with sessions, of which the first `voters` vote.
    pub fn new(nodes: u64, voters: usize) -> Self {
        let mut world = Self { state: State::default(), now: Stamp(1_000_000) };
        world.must(Command::Bootstrap(Bootstrap {
            cluster: ClusterId(1),
            name: "test".to_owned(),
            incarnation: Incarnation(1),
            timing: Timing::LAN,
            node: description(1),
            node_name: NodeName::new("n1").unwrap(),
        }));
        world.must(Command::CreateToken(TokenGrant {
            id: "t".to_owned(),
            hash: TOKEN,
            role: Role::Auto,
            expires: Stamp(u64::MAX),
            uses: u32::MAX,
        }));
        for _ in 1..nodes {
            world.add_node();
        }
        let ids: Vec<NodeId> = world.state.nodes.keys().copied().collect();
        for id in &ids {
            world.open(*id, Vec::new());
        }
        for id in &ids[..voters] {
            world.must(Command::VoterUp { voter: *id, boot: BootId(id.0 + 100), replaces: None });
        }
        world.set_voters(ids[..voters].iter().copied().collect());
        world
    }

    pub fn next(&self) -> Revision {
        Revision(self.state.revision.0 + 1)
    }

    /// Applies a command and checks all invariants.
    pub fn apply(&mut self, command: Command) -> Outcome {
        let (before, at) = (self.state.clone(), self.next());
        let planned = matches!(command, Command::ApplyPlan(_));
        let proposal =
            Proposal { stamp: self.now, request: RequestId::default(), actor: "test".into(), command };
        let outcome = self.state.apply(at, &proposal);
        let found = violations(&self.state);
        assert!(found.is_empty(), "{found:?}\nafter {proposal:?}\non {:#?}", before.slots);
        if outcome.reply.is_err() {
            let kept = State {
                revision: before.revision,
                now: before.now,
                audit: before.audit.clone(),
                ..self.state.clone()
            };
            assert_eq!(kept, before, "a refused command changed something: {proposal:?}");
        }
        if planned && outcome.reply.is_ok() {
            let refused = outcome.events.iter().find(|e| e.kind == EventKind::PlanRefused);
            assert!(
                refused.is_none() || !self.is_own_plan(&before, &proposal),
                "{refused:?} of {proposal:?}"
            );
        }
        outcome
    }

    fn is_own_plan(&self, before: &State, proposal: &Proposal) -> bool {
        matches!(&proposal.command, Command::ApplyPlan(p) if *p == scheduler::plan(before, self.now))
    }

    pub fn must(&mut self, command: Command) -> Outcome {
        let outcome = self.apply(command);
        assert!(outcome.reply.is_ok(), "{:?}", outcome.reply);
        outcome
    }

    pub fn add_node(&mut self) -> NodeId {
        self.add(Role::Auto)
    }

    pub fn add_worker(&mut self) -> NodeId {
        self.add(Role::Worker)
    }

    fn add(&mut self, role: Role) -> NodeId {
        let id = NodeId(self.next().0);
        self.must(Command::AddNode(AddNode {
            name: NodeName::new(&format!("n{id}")).unwrap(),
            description: description(id.0),
            role,
            token_hash: TOKEN,
        }));
        id
    }

    pub fn open(&mut self, node: NodeId, inventory: Vec<(SlotId, Generation)>) -> Outcome {
        self.apply(Command::OpenSession(OpenSession {
            node,
            guard_boot: BootId(1),
            key: SessionKey::default(),
            inventory,
            enforcement: Enforcement::Kernel,
        }))
    }

    pub fn set_voters(&mut self, voters: BTreeSet<NodeId>) {
        let at = self.next();
        let standbys = self.state.standbys.iter().copied().filter(|s| !voters.contains(s)).collect();
        self.state.apply_membership(at, vec![voters], standbys);
    }

    /// Plans and applies; then there is nothing left to plan. Only what belongs with a service that moved in the
    /// same plan may follow it in a plan of its own.
    pub fn schedule(&mut self) {
        let follows = self.state.services.values().any(|s| !s.spec.placement.with.is_empty());
        for round in 0.. {
            let plan = scheduler::plan(&self.state, self.now);
            assert_eq!(plan, scheduler::plan(&self.state.clone(), self.now), "the same state, another plan");
            if round > 0 && plan.actions.is_empty() {
                break;
            }
            assert!(
                round == 0 || (follows && round < 4),
                "there is still {plan:#?}\non {:#?}",
                self.state.slots
            );
            self.must(Command::ApplyPlan(plan));
        }
    }

    pub fn close(&mut self, session: SessionId) {
        let plan = scheduler::plan_after_loss(&self.state, session, self.now);
        let outcome = self.must(Command::Fenced { session, plan });
        let refused = outcome.events.iter().find(|e| e.kind == EventKind::PlanRefused);
        assert_eq!(refused, None);
    }

    pub fn wait(&mut self, time: Duration) {
        self.now = self.now.plus(time);
    }

    pub fn put(&mut self, spec: ServiceSpec) -> Outcome {
        self.apply(Command::PutServices { services: vec![spec], if_revision: None })
    }
}

fn description(id: u64) -> NodeDescription {
    let zone = ["a", "b", "c"][usize::try_from(id % 3).unwrap()];
    NodeDescription {
        addresses: vec![format!("10.0.0.{id}:7420")],
        labels: [("zone".to_owned(), zone.to_owned())].into(),
        capacity: Resources { cpu_millis: 4000, memory_mib: 8192 },
        version: "test".to_owned(),
        features: (1, 1),
    }
}

pub fn name(service: &str) -> ServiceName {
    ServiceName::new(service).unwrap()
}

pub fn slot(service: &str, index: u64) -> SlotId {
    SlotId { service: name(service), index }
}

pub fn spec(service: &str, mode: Mode) -> ServiceSpec {
    let task = TaskSpec {
        name: TaskName::new("server").unwrap(),
        driver: Driver::Exec(ExecSpec { command: vec!["/bin/true".to_owned()], ..ExecSpec::default() }),
        health: None,
    };
    ServiceSpec::with_defaults(name(service), mode, vec![task])
}
