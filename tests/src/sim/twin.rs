//! The product's own state machine beside the simulation's small one: it gets the same log, and after every entry both
//! must say the same of sessions, voters and slots. So what R7 to R11 judge at apply is judged by the code that runs in
//! every agent, under everything that the simulation does to a log.

use std::collections::BTreeSet;

use muster_core::check;
use muster_core::command::{
    Bootstrap, CloseSession, Command, NodeDescription, OpenSession, Proposal, SessionKey, StopCause, Stopped,
};
use muster_core::id::{
    BootId, Generation, NodeId, NodeName, RequestId, Revision, ServiceName, SessionId, SlotId, TaskName,
};
use muster_core::scheduler::plan::{Action, ActionKind, Plan, Target};
use muster_core::spec::{Driver, Enforcement, ExecSpec, Mode, ServiceSpec, TaskSpec};
use muster_core::state::State;
use muster_core::state::slot::Phase;
use muster_core::time::Stamp;

use super::ledger::{Entry, Ledger, Placement, Slot};
use super::replica::{CLUSTER, INCARNATION};
use super::world::World;

/// The first number of a client: those below belong to what made the cluster.
const FIRST_CLIENT: u64 = 1;

/// The product's state machine at the last entry that any replica has applied.
pub struct Twin {
    state: State,
}

impl Twin {
    /// The state that corresponds to a ledger without sessions.
    #[must_use]
    pub fn of(ledger: &Ledger, nodes: impl IntoIterator<Item = NodeId>) -> Self {
        let mut state = State::default();
        let timing = World::timing(ledger.ttl_ms);
        let name = |node: NodeId| NodeName::new(&format!("n{node}")).expect("a letter and digits");
        let bootstrap = Command::Bootstrap(Bootstrap {
            cluster: CLUSTER,
            name: "twin".to_owned(),
            incarnation: INCARNATION,
            timing,
            node: NodeDescription::default(),
            node_name: name(NodeId(1)),
        });
        let services = Command::PutServices {
            services: ledger.slots.keys().map(|slot| service(*slot)).collect(),
            if_revision: None,
        };
        for command in [bootstrap, services] {
            let outcome = state.apply(Revision(ledger.revision), &proposal(0, command));
            assert!(outcome.reply.is_ok(), "{:?}", outcome.reply);
        }
        let first = state.nodes.get(&NodeId(1)).expect("the cluster was made with it").clone();
        for id in nodes {
            state.nodes.insert(id, muster_core::state::node::Node { id, name: name(id), ..first.clone() });
        }
        state.apply_membership(
            Revision(ledger.list.membership.id.0),
            ledger.list.membership.configs.clone(),
            BTreeSet::new(),
        );
        Self { state }
    }

    /// Applies the entry that the ledger has applied last, and tells what the two see differently.
    pub fn follow(&mut self, entry: &Entry, ledger: &Ledger) -> Option<String> {
        self.apply(Revision(ledger.revision), entry);
        self.difference(ledger)
    }

    fn apply(&mut self, at: Revision, entry: &Entry) {
        let (client, command) = match entry {
            Entry::Blank => return self.state.apply_blank(at),
            Entry::Membership(configs) => {
                self.state.apply_membership(at, configs.clone(), BTreeSet::new());
                return;
            }
            Entry::SetTtl { ttl_ms } => {
                // A TTL between the profiles may be one that operators could not set.
                self.state.apply_blank(at);
                if let Some(cluster) = &mut self.state.cluster {
                    cluster.timing = World::timing(*ttl_ms);
                }
                return;
            }
            Entry::Open { node, request, .. } => (FIRST_CLIENT + request, self.open(*node)),
            entry => (0, self.command(entry)),
        };
        // A refusal is an answer like any other: what counts is the state after it.
        let _answer = self.state.apply(at, &proposal(client, command)).reply;
    }

    fn open(&self, node: NodeId) -> Command {
        Command::OpenSession(OpenSession {
            node,
            guard_boot: BootId(node.0),
            key: SessionKey::default(),
            inventory: Vec::new(),
            enforcement: Enforcement::Kernel,
        })
    }

    fn command(&self, entry: &Entry) -> Command {
        match entry {
            Entry::VoterUp { voter, boot, replaces } => {
                Command::VoterUp { voter: *voter, boot: *boot, replaces: Some(*replaces) }
            }
            Entry::Close { close, plan } => Command::CloseSession(CloseSession {
                session: close.session,
                membership: close.membership,
                reopens: close.reopens,
                promises: close.promises.clone(),
                plan: self.plan(plan.iter().map(|(slot, session)| (*slot, self.assign(*session)))),
            }),
            Entry::Fenced { session } => Command::Fenced { session: *session, plan: self.plan([]) },
            Entry::Reopen { session, to } => Command::Reopen { session: *session, to: *to },
            Entry::Assign { slot, session } => {
                Command::ApplyPlan(self.plan([(*slot, self.assign(*session))]))
            }
            Entry::Revoke { slot, generation, target } => {
                let target = target.map(|session| self.target(session));
                let revoke = ActionKind::Revoke { generation: *generation, target };
                Command::ApplyPlan(self.plan([(*slot, revoke)]))
            }
            Entry::Stopped { slot, session, generation } => {
                Command::Stopped(self.stopped(*slot, *session, *generation))
            }
            Entry::Blank | Entry::Membership(_) | Entry::Open { .. } | Entry::SetTtl { .. } => {
                unreachable!("applied without a command of this kind")
            }
        }
    }

    fn stopped(&self, slot: Slot, session: SessionId, generation: Generation) -> Stopped {
        let slot = slot_id(slot);
        let held = self.state.slots.get(&slot).and_then(|known| known.placement(generation));
        let node = held.map_or(NodeId(0), |placement| placement.node);
        // Both ways in which an instance ends free its slot; which one it is decides the generation.
        let failed = StopCause::Failed { message: "it ended".to_owned() };
        let why = if generation.0.is_multiple_of(2) { StopCause::Revoked } else { failed };
        Stopped { slot, node, session: Some(session), generation, why }
    }

    /// A plan that was made from the state as it is: that stale ones are refused has tests of its own.
    fn plan(&self, steps: impl IntoIterator<Item = (Slot, ActionKind)>) -> Plan {
        let action = |(slot, kind)| Action { slot: slot_id(slot), kind, reason: String::new() };
        Plan { base: self.state.topology, actions: steps.into_iter().map(action).collect() }
    }

    fn assign(&self, session: SessionId) -> ActionKind {
        ActionKind::Assign(self.target(session))
    }

    fn target(&self, session: SessionId) -> Target {
        let node = self.state.sessions.get(&session).map_or(NodeId(0), |known| known.node);
        Target { node, session: Some(session) }
    }

    fn difference(&self, ledger: &Ledger) -> Option<String> {
        if let Some(violation) = check::violations(&self.state).first() {
            return Some(violation.to_string());
        }
        let membership = (&self.state.membership, &ledger.list.membership);
        if membership.0 != membership.1 {
            return Some(format!("membership {membership:?}"));
        }
        let here = self.state.sessions.values();
        let here = here.map(|known| (known.id, known.node, known.timing.lease_ttl_ms, known.reopens));
        let there = ledger.sessions.values().map(|known| known.open);
        let there = there.map(|open| (open.session, open.node, open.ttl_ms, open.reopens));
        let sessions: (Vec<_>, Vec<_>) = (here.collect(), there.collect());
        if sessions.0 != sessions.1 {
            return Some(format!("sessions {sessions:?}"));
        }
        let boot = |voter: &NodeId| self.state.nodes.get(voter).and_then(|node| node.boot);
        if let Some((voter, newest)) =
            ledger.boots.iter().find(|(voter, newest)| boot(voter) != Some(**newest))
        {
            return Some(format!("voter {voter} in boot {newest}, or {:?}", boot(voter)));
        }
        ledger.slots.iter().find_map(|(slot, held)| {
            let (here, there) = (self.holder(*slot), held.map(holder));
            (here != there).then(|| format!("slot {slot} of {here:?}, or {there:?}"))
        })
    }

    fn holder(&self, slot: Slot) -> Option<Holder> {
        let placements = &self.state.slots.get(&slot_id(slot))?.placements;
        let placement = placements.first()?;
        let revoking = match placement.phase {
            Phase::Revoking { target, .. } => Some(target.and_then(|target| target.session)),
            Phase::Active | Phase::Adrift { .. } => None,
        };
        let session = placement.session?;
        Some(Holder { node: placement.node, session, generation: placement.generation, revoking })
    }
}

/// What both say of a held slot.
#[derive(Debug, PartialEq)]
struct Holder {
    node: NodeId,
    session: SessionId,
    generation: Generation,
    revoking: Option<Option<SessionId>>,
}

fn holder(held: Placement) -> Holder {
    let Placement { node, session, generation, revoking } = held;
    Holder { node, session, generation, revoking }
}

fn proposal(client: u64, command: Command) -> Proposal {
    Proposal { stamp: Stamp(1), request: RequestId { client, seq: 1 }, actor: "simulation".into(), command }
}

fn service_name(slot: Slot) -> ServiceName {
    ServiceName::new(&format!("s{slot}")).expect("a letter and digits")
}

fn slot_id(slot: Slot) -> SlotId {
    SlotId { service: service_name(slot), index: 0 }
}

fn service(slot: Slot) -> ServiceSpec {
    let task = TaskSpec {
        name: TaskName::new("task").expect("letters"),
        driver: Driver::Exec(ExecSpec { command: vec!["/bin/true".to_owned()], ..ExecSpec::default() }),
        health: None,
    };
    ServiceSpec::with_defaults(service_name(slot), Mode::Exclusive, vec![task])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::sound;

    const HOSTS: [NodeId; 2] = [NodeId(101), NodeId(102)];

    fn played(entries: &[Entry], twin_misses: Option<usize>) -> Option<String> {
        let mut ledger = Ledger::new(1, 1000);
        ledger.revision = 1;
        let mut twin = Twin::of(&ledger, HOSTS);
        (2..).zip(entries).enumerate().find_map(|(number, (index, entry))| {
            ledger.apply(index, entry, &sound());
            if twin_misses == Some(number) { None } else { twin.follow(entry, &ledger) }
        })
    }

    #[test]
    fn what_one_of_the_two_does_not_do_is_noticed() {
        let open = |node: NodeId| Entry::Open { node, request: node.0, key: 0 };
        let entries = [
            open(HOSTS[0]),
            open(HOSTS[1]),
            Entry::Assign { slot: 0, session: SessionId(2) },
            Entry::Assign { slot: 0, session: SessionId(3) },
            Entry::Revoke { slot: 0, generation: Generation(4), target: Some(SessionId(3)) },
            Entry::Stopped { slot: 0, session: SessionId(2), generation: Generation(4) },
            Entry::Fenced { session: SessionId(3) },
            Entry::Blank,
        ];
        assert_eq!(played(&entries, None), None);
        // The fourth is refused by both: missing it makes no difference.
        for missed in [0, 1, 2, 4, 5, 6] {
            assert!(
                played(&entries, Some(missed)).is_some(),
                "nobody noticed that {:?} is missing",
                entries[missed]
            );
        }
    }
}
