//! Random command sequences: every invariant holds after every entry, refused commands change nothing, and the
//! scheduler's plans are complete, accepted by apply, and leave nothing to plan.

use std::time::Duration;

use muster_core::command::{Command, DrainWish, NodeChange, Observation, StopCause, Stopped};
use muster_core::id::{Generation, NodeId, Revision, ServiceName, SessionId, SlotId};
use muster_core::scheduler::plan::{Action, ActionKind, Plan, Target};
use muster_core::spec::selector::{Requirement, Test};
use muster_core::spec::{Driver, Failback, Mode, Preference, ServiceSpec};
use muster_core::state::slot::{InstanceState, Placement};
use proptest::prelude::*;

use super::world::{World, name, slot, spec};

/// An operation on whatever is there: numbers pick by remainder.
#[derive(Clone, Debug)]
enum Op {
    Schedule,
    Wait(u64),
    AddNode,
    RemoveNode(usize),
    Lose(usize),
    Return { node: usize, keeps: bool },
    Agent { node: usize, gone: bool },
    Observe { placement: usize, state: usize },
    Stop(usize),
    Fail(usize),
    Put { service: usize, shape: Shape },
    Wanted(usize, bool),
    Remove(usize),
    Restart(usize),
    Scale(usize, u32),
    Rollback(usize),
    Move(usize, Option<usize>),
    ClearFailures(usize),
    Change(usize, Change),
    ForgedPlan { service: usize, index: u64, node: usize, session: u64, generation: u64, kind: u8 },
    ForgedStop { service: usize, node: usize, generation: u64 },
    Voters(usize),
}

#[derive(Clone, Debug)]
struct Shape {
    mode: u8,
    count: u32,
    require: u8,
    spread: bool,
    prefer: i32,
    relation: Option<(u8, usize)>,
    cpu: u32,
    priority: u32,
    auto: bool,
    command: u8,
}

#[derive(Clone, Debug)]
enum Change {
    Cordon(bool),
    Maintenance(bool),
    Drain(Option<u64>, u32),
    Undrain,
    Zone(Option<u8>),
}

fn shapes() -> impl Strategy<Value = Shape> {
    let first = (0..6_u8, 1..5_u32, 0..4_u8, any::<bool>(), -50..50_i32);
    let relation = proptest::option::of((0..3_u8, 0..5_usize));
    let second = (relation, 0..3000_u32, 0..3_u32, any::<bool>(), 0..2_u8);
    (first, second).prop_map(|((mode, count, require, spread, prefer), rest)| {
        let (relation, cpu, priority, auto, command) = rest;
        Shape { mode, count, require, spread, prefer, relation, cpu, priority, auto, command }
    })
}

fn changes() -> impl Strategy<Value = Change> {
    prop_oneof![
        any::<bool>().prop_map(Change::Cordon),
        any::<bool>().prop_map(Change::Maintenance),
        (proptest::option::of(0..60_u64), 0..3_u32).prop_map(|(d, p)| Change::Drain(d, p)),
        Just(Change::Undrain),
        proptest::option::of(0..3_u8).prop_map(Change::Zone),
    ]
}

fn ops() -> impl Strategy<Value = Op> {
    let n = 0..64_usize;
    prop_oneof![
        10 => Just(Op::Schedule),
        4 => (0..400_u64).prop_map(Op::Wait),
        1 => Just(Op::AddNode),
        1 => n.clone().prop_map(Op::RemoveNode),
        3 => n.clone().prop_map(Op::Lose),
        3 => (n.clone(), any::<bool>()).prop_map(|(node, keeps)| Op::Return { node, keeps }),
        3 => (n.clone(), any::<bool>()).prop_map(|(node, gone)| Op::Agent { node, gone }),
        8 => (n.clone(), 0..4_usize).prop_map(|(placement, state)| Op::Observe { placement, state }),
        6 => n.clone().prop_map(Op::Stop),
        2 => n.clone().prop_map(Op::Fail),
        5 => (n.clone(), shapes()).prop_map(|(service, shape)| Op::Put { service, shape }),
        1 => (n.clone(), any::<bool>()).prop_map(|(s, w)| Op::Wanted(s, w)),
        1 => n.clone().prop_map(Op::Remove),
        2 => n.clone().prop_map(Op::Restart),
        1 => (n.clone(), 0..6_u32).prop_map(|(s, c)| Op::Scale(s, c)),
        1 => n.clone().prop_map(Op::Rollback),
        2 => (n.clone(), proptest::option::of(n.clone())).prop_map(|(s, to)| Op::Move(s, to)),
        1 => n.clone().prop_map(Op::ClearFailures),
        4 => (n.clone(), changes()).prop_map(|(node, change)| Op::Change(node, change)),
        1 => (n.clone(), 0..4_u64, n.clone(), 0..40_u64, 0..80_u64, 0..5_u8).prop_map(
            |(service, index, node, session, generation, kind)| Op::ForgedPlan {
                service, index, node, session, generation, kind
            }
        ),
        1 => (n.clone(), n.clone(), 0..80_u64)
            .prop_map(|(service, node, generation)| Op::ForgedStop { service, node, generation }),
        1 => n.prop_map(Op::Voters),
    ]
}

const SERVICES: [&str; 5] = ["db", "web", "agent", "cache", "report"];

fn service(pick: usize) -> ServiceName {
    name(SERVICES[pick % SERVICES.len()])
}

fn shaped(pick: usize, shape: &Shape) -> ServiceSpec {
    let mode = match shape.mode {
        0..=2 => Mode::Exclusive,
        3 | 4 => Mode::Replicated { count: shape.count },
        _ => Mode::Everywhere,
    };
    let own = SERVICES[pick % SERVICES.len()];
    let mut spec = spec(own, mode);
    let zone = |test| Requirement { label: "zone".to_owned(), test };
    match shape.require {
        1 => spec.placement.require.push(zone(Test::In(vec!["a".to_owned(), "b".to_owned()]))),
        2 => spec.placement.require.push(zone(Test::NotIn(vec!["c".to_owned()]))),
        _ => {}
    }
    spec.placement.spread = shape.spread.then(|| "zone".to_owned());
    spec.placement.prefer =
        vec![Preference { label: zone(Test::In(vec!["b".to_owned()])), weight: shape.prefer }];
    if let Some((kind, other)) = shape.relation.filter(|(_, o)| SERVICES[*o] != own) {
        let list = match kind {
            0 => &mut spec.placement.with,
            1 => &mut spec.placement.apart,
            _ => &mut spec.placement.after,
        };
        list.push(name(SERVICES[other]));
    }
    spec.resources.cpu_millis = shape.cpu;
    spec.priority = shape.priority;
    spec.failback = if shape.auto { Failback::Auto } else { Failback::Manual };
    let Driver::Exec(exec) = &mut spec.tasks[0].driver;
    exec.command.push(shape.command.to_string());
    spec
}

fn node(world: &World, pick: usize) -> NodeId {
    let ids: Vec<_> = world.state.nodes.keys().copied().collect();
    ids[pick % ids.len()]
}

fn placement(world: &World, pick: usize, keep: impl Fn(&Placement) -> bool) -> Option<(SlotId, Placement)> {
    let all: Vec<_> = world
        .state
        .slots
        .iter()
        .flat_map(|(id, s)| s.placements.iter().map(move |p| (id.clone(), p.clone())))
        .filter(|(_, p)| p.session.is_some() && keep(p))
        .collect();
    (!all.is_empty()).then(|| all[pick % all.len()].clone())
}

fn end(world: &mut World, slot: SlotId, p: &Placement, why: StopCause) {
    let (node, session, generation) = (p.node, p.session, p.generation);
    world.must(Command::Stopped(Stopped { slot, node, session, generation, why }));
}

fn run(world: &mut World, op: &Op) {
    match op.clone() {
        Op::Schedule => world.schedule(),
        Op::Wait(seconds) => world.wait(Duration::from_secs(seconds)),
        Op::AddNode if world.state.nodes.len() < 8 => {
            world.add_node();
        }
        Op::AddNode => {}
        Op::RemoveNode(pick) => {
            let node = node(world, pick);
            world.apply(Command::RemoveNode { node });
        }
        Op::Lose(pick) => {
            if let Some(session) = world.state.nodes[&node(world, pick)].session {
                world.close(session);
            }
        }
        Op::Return { node: pick, keeps } => give_back(world, pick, keeps),
        Op::Agent { node: pick, gone } => {
            if let Some(session) = world.state.nodes[&node(world, pick)].session {
                world.must(Command::NoteAgent { session, gone });
            }
        }
        Op::Observe { placement: pick, state } => observe(world, pick, state),
        Op::Stop(pick) => {
            if let Some((slot, p)) = placement(world, pick, Placement::is_revoking) {
                end(world, slot, &p, StopCause::Revoked);
            }
        }
        Op::Fail(pick) => {
            if let Some((slot, p)) = placement(world, pick, |_| true) {
                end(world, slot, &p, StopCause::Failed { message: "exit status 1".to_owned() });
            }
        }
        Op::Put { service, shape } => {
            world.put(shaped(service, &shape));
        }
        Op::ForgedPlan { service: s, index, node: n, session, generation, kind } => {
            forged_plan(world, s, index, n, session, generation, kind);
        }
        Op::ForgedStop { service: s, node: n, generation } => {
            let (slot, node) = (slot(SERVICES[s % SERVICES.len()], 0), node(world, n));
            let generation = Generation(generation);
            let why = StopCause::Revoked;
            world.apply(Command::Stopped(Stopped { slot, node, session: None, generation, why }));
        }
        Op::Voters(pick) => {
            let node = node(world, pick);
            world.set_voters([node].into());
        }
        Op::Wanted(..)
        | Op::Remove(_)
        | Op::Restart(_)
        | Op::Scale(..)
        | Op::Rollback(_)
        | Op::Move(..)
        | Op::ClearFailures(_)
        | Op::Change(..) => operate(world, op),
    }
}

fn operate(world: &mut World, op: &Op) {
    let command = match op.clone() {
        Op::Wanted(s, wanted) => Command::SetServiceWanted { service: service(s), wanted },
        Op::Remove(s) => Command::RemoveService { service: service(s) },
        Op::Restart(s) => Command::RestartService { service: service(s) },
        Op::Scale(s, count) => Command::ScaleService { service: service(s), count },
        Op::Rollback(s) => Command::RollbackService { service: service(s) },
        Op::Move(s, to) => {
            let slot = slot(SERVICES[s % SERVICES.len()], 0);
            Command::MoveInstance { slot, to: to.map(|n| node(world, n)) }
        }
        Op::ClearFailures(s) => Command::ClearFailures { service: service(s) },
        Op::Change(n, change) => {
            let change = match change {
                Change::Cordon(on) => NodeChange::Cordon(on),
                Change::Maintenance(on) => NodeChange::Maintenance(on),
                Change::Drain(deadline, max_parallel) => {
                    let deadline = deadline.map(Duration::from_secs);
                    NodeChange::Drain(DrainWish { deadline, max_parallel })
                }
                Change::Undrain => NodeChange::Undrain,
                Change::Zone(zone) => NodeChange::Label {
                    key: "zone".to_owned(),
                    value: zone.map(|z| ["a", "b", "c"][usize::from(z)].to_owned()),
                },
            };
            Command::ChangeNode { node: node(world, n), change }
        }
        other => unreachable!("{other:?} is no operator's act"),
    };
    world.apply(command);
}

fn give_back(world: &mut World, pick: usize, keeps: bool) {
    let node = node(world, pick);
    let inventory = world.state.placements_on(node).map(|(slot, p)| (slot.clone(), p.generation));
    let inventory: Vec<_> = inventory.filter(|_| keeps).collect();
    world.open(node, inventory);
}

fn observe(world: &mut World, pick: usize, state: usize) {
    let Some((slot, p)) = placement(world, pick, |_| true) else { return };
    let state =
        [InstanceState::Running, InstanceState::Running, InstanceState::Starting, InstanceState::Unhealthy]
            [state];
    let (node, generation) = (p.node, p.generation);
    world.must(Command::Observe(Observation { slot, node, generation, state, restarts: 0, message: None }));
}

fn forged_plan(world: &mut World, s: usize, index: u64, n: usize, session: u64, generation: u64, kind: u8) {
    let target = Target { node: node(world, n), session: Some(SessionId(session)) };
    let generation = Generation(generation);
    let kind = match kind {
        0 => ActionKind::Assign(target),
        1 => ActionKind::Revoke { generation, target: Some(target) },
        2 => ActionKind::Revoke { generation, target: None },
        3 => ActionKind::Abandon { generation },
        _ => ActionKind::Keep { generation },
    };
    let action =
        Action { slot: slot(SERVICES[s % SERVICES.len()], index), kind, reason: "forged".to_owned() };
    world.apply(Command::ApplyPlan(Plan { base: world.state.topology, actions: vec![action] }));
    let stale = Plan { base: Revision(world.state.topology.0 + 1), actions: Vec::new() };
    assert!(world.apply(Command::ApplyPlan(stale)).reply.is_err());
}

/// Everything is healed and everything works: then every service that can be placed is placed and stays.
fn comes_to_rest(world: &mut World) {
    for id in world.state.nodes.keys().copied().collect::<Vec<_>>() {
        for change in [NodeChange::Cordon(false), NodeChange::Maintenance(false), NodeChange::Undrain] {
            world.must(Command::ChangeNode { node: id, change });
        }
        if world.state.nodes[&id].session.is_none() {
            give_back(world, usize::try_from(id.0).unwrap(), true);
            world.open(id, Vec::new());
        }
        if let Some(session) = world.state.nodes[&id].session {
            world.must(Command::NoteAgent { session, gone: false });
        }
    }
    for _ in 0..200 {
        world.wait(Duration::from_secs(400));
        world.schedule();
        if let Some((slot, p)) = placement(world, 0, Placement::is_revoking) {
            end(world, slot, &p, StopCause::Revoked);
        } else if let Some(pick) =
            placement(world, 0, |p| !p.is_revoking() && p.observed.state != InstanceState::Running)
        {
            let (slot, p) = pick;
            let (node, generation, state) = (p.node, p.generation, InstanceState::Running);
            let seen = Observation { slot, node, generation, state, restarts: 0, message: None };
            world.must(Command::Observe(seen));
        } else {
            return;
        }
    }
    panic!("it never comes to rest: {:#?}", world.state.slots);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_and_plans_are_complete(ops in proptest::collection::vec(ops(), 1..60), nodes in 1..6_u64) {
        let mut world = World::new(nodes, 1);
        for op in &ops {
            run(&mut world, op);
        }
        comes_to_rest(&mut world);
    }
}
