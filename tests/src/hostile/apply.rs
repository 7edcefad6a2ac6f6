//! Entries of the log, as every replica takes them: bytes → wire → core → `apply` on a running cluster.
//!
//! `apply` is total; after each entry every invariant of the state holds, and a refused command has changed nothing.
//! The state that comes out is one that the scheduler can plan for and a snapshot can carry.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::OnceLock;
use std::time::Duration;

use muster_core::check::violations;
use muster_core::command::{
    AuthorityKey, CloseSession, Command, DrainWish, NewAuthority, NewCertificate, NodeChange, Observation,
    OpenSession, Proposal, SessionKey, StopCause, Stopped, UserRole,
};
use muster_core::id::{BootId, NodeId, Reopens, RequestId, Revision, SlotId, UserName};
use muster_core::scheduler;
use muster_core::spec::{Enforcement, Mode};
use muster_core::state::State;
use muster_core::state::slot::InstanceState;
use muster_core::time::Timing;
use muster_wire::{SessionKeys, StateReader};

use super::input::{Input, Output};
use super::scene;

/// The most entries of one input: more only make it slow.
const MAX_ENTRIES: usize = 24;
/// A membership entry; the lowest bits of the next byte say who votes.
const MEMBERSHIP: u8 = 1;
/// An entry without content.
const BLANK: u8 = 2;

fn cluster() -> State {
    static CLUSTER: OnceLock<State> = OnceLock::new();
    CLUSTER.get_or_init(scene::cluster).clone()
}

pub(super) fn body(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    // An agent that starts has no cluster yet.
    let mut state = if input.byte() == 0 { State::default() } else { cluster() };
    for _ in 0..MAX_ENTRIES {
        if input.is_empty() {
            break;
        }
        let at = Revision(state.revision.0 + 1);
        match input.byte() {
            MEMBERSHIP => drop(state.apply_membership(at, voters(&state, input.byte()), BTreeSet::new())),
            BLANK => state.apply_blank(at),
            _ => entry(&mut state, at, input.part()),
        }
        let found = violations(&state);
        assert!(found.is_empty(), "{found:?}");
    }
    plan(&mut state);
    carry(&state);
}

/// Raft has only nodes that are there as its members, and never none.
fn voters(state: &State, bits: u8) -> Vec<BTreeSet<NodeId>> {
    let named = state.nodes.keys().enumerate().filter(|(at, _)| *at < 8 && bits & (1 << at) != 0);
    let mut voters: BTreeSet<NodeId> = named.map(|(_, node)| *node).take(7).collect();
    if voters.is_empty() {
        voters.extend(state.nodes.keys().next());
    }
    if voters.is_empty() { Vec::new() } else { vec![voters] }
}

fn entry(state: &mut State, at: Revision, bytes: &[u8]) {
    let Ok(proposal) = muster_wire::decode_proposal(bytes) else { return };
    let written = muster_wire::encode_proposal(&proposal);
    let again = muster_wire::decode_proposal(&written).expect("what Muster wrote it can read");
    assert_eq!(again, proposal, "an entry that is written and read is another one");
    let before = state.clone();
    let outcome = state.apply(at, &proposal);
    let mut twin = before.clone();
    assert_eq!(twin.apply(at, &proposal), outcome, "the same entry, another outcome");
    assert!(twin == *state, "the same entry, another state");
    if outcome.reply.is_err() {
        let kept = State {
            revision: before.revision,
            now: before.now,
            clients: before.clients.clone(),
            // A refusal is told.
            audit: before.audit.clone(),
            ..state.clone()
        };
        assert!(kept == before, "a refused command changed something: {proposal:?}");
    }
}

/// Whatever the state is, the scheduler has a plan for it, and that breaks nothing.
fn plan(state: &mut State) {
    let plan = scheduler::plan(state, state.now);
    let sessions: Vec<_> = state.sessions.keys().copied().take(2).collect();
    for session in sessions {
        drop(scheduler::plan_after_loss(state, session, state.now));
    }
    let proposal = Proposal {
        stamp: state.now,
        request: RequestId::default(),
        actor: "hostile".into(),
        command: Command::ApplyPlan(plan),
    };
    state.apply(Revision(state.revision.0 + 1), &proposal);
    let found = violations(state);
    assert!(found.is_empty(), "{found:?} after {proposal:?}");
}

/// A snapshot brings the same state to another node.
fn carry(state: &State) {
    let mut reader = StateReader::new();
    let written: Result<(), Infallible> = muster_wire::write_state(state, SessionKeys::Include, |record| {
        reader.push(record).expect("a record that Muster wrote is legal");
        Ok(())
    });
    let Ok(()) = written;
    let read = reader.finish().expect("records that Muster wrote make a state");
    same(&read.services, &state.services);
    same(&read.slots, &state.slots);
    same(&read.nodes, &state.nodes);
    same(&read.sessions, &state.sessions);
    same(&read.clients, &state.clients);
    assert!(read == *state, "a state that went through a snapshot is another one");
}

/// Tells of a table that came out of a snapshot as another one what was read, and what was written.
fn same<T: PartialEq + std::fmt::Debug>(read: &T, written: &T) {
    assert!(read == written, "after a snapshot: {read:?}\nbefore it: {written:?}");
}

pub(super) fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut seeds: Vec<(String, Vec<u8>)> =
        commands().into_iter().map(|(name, commands)| (name.to_owned(), entries(&commands))).collect();
    let membership = Output(vec![1]).byte(MEMBERSHIP).byte(0b1011).byte(BLANK).0;
    seeds.push(("membership".to_owned(), membership));
    // One of each kind, as the golden bytes have them.
    for (number, line) in include_str!("../../../node/wire/tests/wire/golden.txt").lines().enumerate() {
        if let Some((name, hex)) = line.split_once(' ') {
            let founded = if name == "bootstrap" { 0 } else { 1 };
            seeds.push((
                format!("golden-{number:02}-{name}"),
                Output(vec![founded, 0]).part(&bytes_of(hex)).0,
            ));
        }
    }
    seeds
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks_exact(2);
    pairs.filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

fn entries(commands: &[Command]) -> Vec<u8> {
    let mut out = Output(vec![1]);
    for (seq, command) in (1..).zip(commands) {
        let request = RequestId { client: 9, seq };
        let (stamp, actor) = (scene::NOW, "seed".into());
        let proposal = Proposal { stamp, request, actor, command: command.clone() };
        out = out.byte(0).part(&muster_wire::encode_proposal(&proposal));
    }
    out.0
}

/// What belongs to the cluster of the scene: entries that are carried out, so that changes of them go deep.
fn commands() -> Vec<(&'static str, Vec<Command>)> {
    let state = cluster();
    let (slot, held) = state.slots.iter().find(|(id, _)| id.service.as_str() == "db").expect("it is placed");
    let placement = held.placements.first().expect("it is placed").clone();
    let (slot, node, session) = (slot.clone(), placement.node, placement.session);
    let lost = session.expect("it is exclusive");
    let service = slot.service.clone();
    let elsewhere = state.nodes.keys().copied().find(|id| *id != node);
    let promises = state.membership.voters().into_iter().map(|id| (id, BootId(id.0 + 100))).collect();
    let plan = scheduler::plan_after_loss(&state, lost, state.now);
    let close = CloseSession {
        session: lost,
        membership: state.membership.id,
        reopens: Reopens(0),
        promises,
        plan: plan.clone(),
    };
    let open = OpenSession {
        node,
        guard_boot: BootId(77),
        key: SessionKey([3; 32]),
        inventory: vec![(slot.clone(), placement.generation)],
        enforcement: Enforcement::Kernel,
    };
    let seen = Observation {
        slot: slot.clone(),
        node,
        generation: placement.generation,
        state: InstanceState::Running,
        restarts: 1,
        message: Some("up".to_owned()),
    };
    let stopped = |why| Stopped { slot: slot.clone(), node, session, generation: placement.generation, why };
    let failed = StopCause::Failed { message: "exit 1".to_owned() };
    let drain = DrainWish { deadline: Some(Duration::from_secs(5)), max_parallel: 1 };
    let timing = Timing { lease_ttl_ms: 3000, ..Timing::LAN };
    vec![
        ("close", vec![Command::CloseSession(close), Command::OpenSession(open)]),
        (
            "fenced",
            vec![Command::Reopen { session: lost, to: Reopens(1) }, Command::Fenced { session: lost, plan }],
        ),
        ("observe", vec![Command::Observe(seen), Command::Stopped(stopped(failed))]),
        (
            "move",
            vec![
                Command::MoveInstance { slot: slot.clone(), to: elsewhere },
                Command::Stopped(stopped(StopCause::Revoked)),
            ],
        ),
        (
            "drain",
            vec![
                Command::ChangeNode { node, change: NodeChange::Drain(drain) },
                Command::RemoveNode { node },
            ],
        ),
        ("services", services(&service, &slot)),
        ("timing", vec![Command::SetTiming(timing)]),
        ("trust", trust(node)),
    ]
}

fn services(service: &muster_core::id::ServiceName, slot: &SlotId) -> Vec<Command> {
    let service = || service.clone();
    let annotation = |value: Option<&str>| Command::AnnotateService {
        service: service(),
        key: "owner".to_owned(),
        value: value.map(ToOwned::to_owned),
    };
    let replicated = scene::spec(service().as_str(), Mode::Replicated { count: 3 });
    vec![
        Command::PutServices { services: vec![replicated], if_revision: None },
        Command::ScaleService { service: service(), count: 1 },
        Command::RestartService { service: service() },
        annotation(Some("me")),
        annotation(None),
        Command::ClearFailures { service: service() },
        Command::RollbackService { service: service() },
        Command::MoveInstance { slot: slot.clone(), to: None },
        Command::SetServiceWanted { service: service(), wanted: false },
        Command::RemoveService { service: service() },
    ]
}

fn trust(node: NodeId) -> Vec<Command> {
    let authority = |byte: u8| {
        Command::AddAuthority(NewAuthority {
            certificate: [byte; 8].into(),
            introduction: Some([byte; 4].into()),
            key: AuthorityKey([byte; 4].into()),
        })
    };
    let name = UserName::new("root").expect("a legal name");
    let life = Duration::from_secs(3600);
    vec![
        authority(1),
        Command::IssueCertificate(NewCertificate::Node { node, token_hash: None }),
        Command::IssueCertificate(NewCertificate::User { name: name.clone(), role: UserRole::Admin, life }),
        authority(2),
        Command::RetireAuthority { forced: true },
        Command::RemoveUser { name },
    ]
}
