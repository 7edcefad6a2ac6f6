//! The cluster of a scenario: a state, and a clock that only `wait` moves.

use std::time::Duration;

use muster_core::command::{
    AddNode, Bootstrap, Command, NodeDescription, Observation, OpenSession, Proposal, Role, SessionKey,
    StopCause, Stopped, TokenGrant,
};
use muster_core::event::Event;
use muster_core::id::{
    BootId, ClusterId, Generation, Incarnation, NodeId, NodeName, RequestId, Revision, ServiceName, SlotId,
};
use muster_core::refusal::Refusal;
use muster_core::spec::{Enforcement, Labels, Resources};
use muster_core::state::State;
use muster_core::state::slot::{InstanceState, Placement};
use muster_core::time::{Stamp, Timing};

const TOKEN: [u8; 32] = [1; 32];

pub struct Cluster {
    pub state: State,
    pub now: Stamp,
}

/// How a node of a scenario differs from a plain one.
#[derive(Default)]
pub struct NodeTraits {
    pub labels: Labels,
    pub capacity: Resources,
    pub role: Role,
    pub by_user: bool,
    pub joining: bool,
}

impl Cluster {
    pub fn new() -> Self {
        let mut cluster = Self { state: State::default(), now: Stamp(1_000_000) };
        cluster.must(Command::Bootstrap(Bootstrap {
            cluster: ClusterId(1),
            name: "scenario".to_owned(),
            incarnation: Incarnation(1),
            timing: Timing::LAN,
            node: NodeDescription::default(),
            node_name: NodeName::new("founder").expect("a name"),
        }));
        // The founder leaves, so that a scenario has the nodes that it names and no other.
        cluster.must(Command::RemoveNode { node: NodeId(1) });
        cluster.must(Command::CreateToken(TokenGrant {
            id: "t".to_owned(),
            hash: TOKEN,
            role: Role::Auto,
            expires: Stamp(u64::MAX),
            uses: u32::MAX,
        }));
        cluster
    }

    pub fn apply(&mut self, command: Command) -> Result<Vec<Event>, Refusal> {
        let at = Revision(self.state.revision.0 + 1);
        let proposal =
            Proposal { stamp: self.now, request: RequestId::default(), actor: "test".into(), command };
        let outcome = self.state.apply(at, &proposal);
        outcome.reply.map(|_| outcome.events)
    }

    pub fn must(&mut self, command: Command) -> Vec<Event> {
        self.apply(command).expect("the act is accepted")
    }

    pub fn wait(&mut self, time: Duration) {
        self.now = self.now.plus(time);
    }

    pub fn node(&self, name: &str) -> NodeId {
        self.state.node_named(name).unwrap_or_else(|| panic!("there is no node {name}")).id
    }

    pub fn join(&mut self, name: &str, traits: NodeTraits) {
        let description = NodeDescription {
            labels: traits.labels,
            capacity: traits.capacity,
            ..NodeDescription::default()
        };
        self.must(Command::AddNode(AddNode {
            name: NodeName::new(name).expect("a name"),
            description,
            role: traits.role,
            token_hash: TOKEN,
        }));
        if !traits.joining {
            let by = if traits.by_user { Enforcement::User } else { Enforcement::Kernel };
            self.open(self.node(name), Vec::new(), by);
        }
    }

    pub fn open(&mut self, node: NodeId, inventory: Vec<(SlotId, Generation)>, enforcement: Enforcement) {
        self.must(Command::OpenSession(OpenSession {
            node,
            guard_boot: BootId(1),
            key: SessionKey::default(),
            inventory,
            enforcement,
        }));
    }

    /// The placements of a slot that a host can hear of.
    pub fn reachable(&self, slot: &SlotId) -> Vec<Placement> {
        let placements = self.state.slots.get(slot).map_or(&[][..], |s| &s.placements);
        placements.iter().filter(|p| p.session.is_some()).cloned().collect()
    }

    pub fn ended(&mut self, slot: &SlotId, placement: &Placement, why: StopCause) {
        self.must(Command::Stopped(Stopped {
            slot: slot.clone(),
            node: placement.node,
            session: placement.session,
            generation: placement.generation,
            why,
        }));
    }

    pub fn observed(&mut self, slot: &SlotId, placement: &Placement, state: InstanceState) {
        self.must(Command::Observe(Observation {
            slot: slot.clone(),
            node: placement.node,
            generation: placement.generation,
            state,
            restarts: 0,
            message: None,
        }));
    }

    /// Every host does what is asked of it. Whether there was anything.
    pub fn obey(&mut self) -> bool {
        let slots: Vec<SlotId> = self.state.slots.keys().cloned().collect();
        let mut busy = false;
        for slot in slots {
            for placement in self.reachable(&slot) {
                if placement.is_revoking() {
                    self.ended(&slot, &placement, StopCause::Revoked);
                    busy = true;
                } else if !placement.is_running() {
                    self.observed(&slot, &placement, InstanceState::Running);
                    busy = true;
                }
            }
        }
        busy
    }
}

pub fn service(name: &str) -> ServiceName {
    ServiceName::new(name).unwrap_or_else(|e| panic!("{e}"))
}

/// `SERVICE/INDEX`, or `SERVICE` for its first slot.
pub fn slot(text: &str) -> SlotId {
    let (name, index) = text.split_once('/').unwrap_or((text, "0"));
    SlotId { service: service(name), index: index.parse().expect("an index") }
}
