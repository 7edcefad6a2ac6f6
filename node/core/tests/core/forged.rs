//! R7, R8, R10 and R11 of LEASES.md: whatever is forged is refused, and changes nothing.

use muster_core::command::{CloseSession, Command, OpenSession, SessionKey};
use muster_core::event::EventKind;
use muster_core::id::{BootId, MembershipId, NodeId, Reopens, SessionId};
use muster_core::lease::membership::majority_of;
use muster_core::refusal::Refusal;
use muster_core::scheduler::plan::{Action, ActionKind, Plan, Target};
use muster_core::spec::{Enforcement, Mode};
use proptest::prelude::*;

use super::world::{World, slot, spec};

/// One thing about a sound close that is wrong.
#[derive(Clone, Debug)]
enum Forgery {
    OtherSession(u64),
    OtherMembership(u64),
    OtherReopens(u64),
    TooFew(usize),
    OldBoot { promise: usize, boot: u64 },
    NamedTwice(usize),
    NoVoter { promise: usize, node: u64 },
}

fn forgeries() -> impl Strategy<Value = Forgery> {
    let n = 0..16_usize;
    prop_oneof![
        any::<u64>().prop_map(Forgery::OtherSession),
        any::<u64>().prop_map(Forgery::OtherMembership),
        any::<u64>().prop_map(Forgery::OtherReopens),
        n.clone().prop_map(Forgery::TooFew),
        (n.clone(), any::<u64>()).prop_map(|(promise, boot)| Forgery::OldBoot { promise, boot }),
        n.clone().prop_map(Forgery::NamedTwice),
        (n, any::<u64>()).prop_map(|(promise, node)| Forgery::NoVoter { promise, node }),
    ]
}

/// Five nodes, three or five voters, an exclusive service, and a session that was re-opened a few times.
fn world(voters: usize, reopens: u64) -> (World, SessionId) {
    let mut world = World::new(5, voters);
    assert!(world.put(spec("db", Mode::Exclusive)).reply.is_ok());
    world.schedule();
    let session = *world.state.sessions.keys().next().unwrap();
    for to in 1..=reopens {
        world.must(Command::Reopen { session, to: Reopens(to) });
    }
    (world, session)
}

fn sound(world: &World, session: SessionId, promises: usize) -> CloseSession {
    let voters = world.state.membership.voters();
    let promise = |id: &NodeId| (*id, world.state.nodes[id].boot.unwrap());
    CloseSession {
        session,
        membership: world.state.membership.id,
        reopens: world.state.sessions[&session].reopens,
        promises: voters.iter().take(promises).map(promise).collect(),
        plan: muster_core::scheduler::plan_after_loss(&world.state, session, world.now),
    }
}

/// The forged close, unless the forgery happens to name what is true.
fn forge(close: &CloseSession, world: &World, forgery: &Forgery) -> Option<CloseSession> {
    let mut forged = close.clone();
    let pick = |n: usize| n % close.promises.len();
    match *forgery {
        Forgery::OtherSession(id) => forged.session = SessionId(id),
        Forgery::OtherMembership(id) => forged.membership = MembershipId(id),
        Forgery::OtherReopens(count) => forged.reopens = Reopens(count),
        Forgery::TooFew(count) => forged.promises.truncate(pick(count)),
        Forgery::OldBoot { promise, boot } => forged.promises[pick(promise)].1 = BootId(boot),
        // The last one gives way, so that the count still looks like a majority.
        Forgery::NamedTwice(promise) => {
            let twice = forged.promises[pick(promise)];
            *forged.promises.last_mut()? = twice;
        }
        Forgery::NoVoter { promise, node } => forged.promises[pick(promise)].0 = NodeId(node),
    }
    let open = world.state.sessions.contains_key(&forged.session) && forged.session != close.session;
    (forged != *close && !open).then_some(forged)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_forged_close_is_refused(
        five in any::<bool>(), reopens in 0..3_u64, forgery in forgeries()
    ) {
        let voters = if five { 5 } else { 3 };
        let (mut world, session) = world(voters, reopens);
        let close = sound(&world, session, majority_of(voters));
        if let Some(forged) = forge(&close, &world, &forgery) {
            let before = world.state.clone();
            let outcome = world.apply(Command::CloseSession(forged));
            prop_assert!(
                matches!(outcome.reply, Err(Refusal::CloseRefused { .. })), "{:?}", outcome.reply
            );
            prop_assert_eq!(&world.state.slots, &before.slots);
            prop_assert_eq!(&world.state.sessions, &before.sessions);
        }
        // The sound one is accepted, once, and its plan is carried out in the same apply.
        let held = world.state.slots[&slot("db", 0)].placements[0].clone();
        world.must(Command::CloseSession(close.clone()));
        let now = &world.state.slots[&slot("db", 0)].placements;
        prop_assert_eq!(now.len(), 1);
        prop_assert!(held.session != Some(session) || now[0].generation > held.generation);
        prop_assert!(world.apply(Command::CloseSession(close)).reply.is_err());
    }

    #[test]
    fn a_voter_that_restarted_voids_its_promise(voter in 0..3_usize) {
        let (mut world, session) = world(3, 0);
        let close = sound(&world, session, 2);
        let ids: Vec<_> = world.state.membership.voters().into_iter().collect();
        let boot = world.state.nodes[&ids[voter]].boot;
        world.must(Command::VoterUp { voter: ids[voter], boot: BootId(7777), replaces: boot });
        let promised = close.promises.iter().any(|(id, _)| *id == ids[voter]);
        prop_assert_eq!(world.apply(Command::CloseSession(close)).reply.is_err(), promised);
    }

    #[test]
    fn a_late_voter_up_is_refused(boot in 1..u64::MAX, replaces in proptest::option::of(any::<u64>())) {
        let mut world = World::new(3, 3);
        let voter = *world.state.nodes.keys().next().unwrap();
        let current = world.state.nodes[&voter].boot;
        let replaces = replaces.map(BootId);
        let outcome = world.apply(Command::VoterUp { voter, boot: BootId(boot), replaces });
        prop_assert_eq!(outcome.reply.is_ok(), replaces == current);
    }

    /// R10: an Assign does nothing unless its session is open, its node's, and the slot is free.
    #[test]
    fn every_forged_assign_is_refused(node in 0..6_usize, session in 0..40_u64, index in 0..3_u64, free in any::<bool>()) {
        let mut world = World::new(5, 3);
        prop_assert!(world.put(spec("db", Mode::Exclusive)).reply.is_ok());
        if !free {
            world.schedule();
        }
        let ids: Vec<_> = world.state.nodes.keys().copied().chain([NodeId(999)]).collect();
        let target = Target { node: ids[node], session: Some(SessionId(session)) };
        let right = world.state.sessions.get(&SessionId(session)).is_some_and(|s| s.node == target.node);
        let action = Action { slot: slot("db", index), kind: ActionKind::Assign(target), reason: String::new() };
        let before = world.state.slots.clone();
        let plan = Plan { base: world.state.topology, actions: vec![action] };
        let outcome = world.must(Command::ApplyPlan(plan));
        let refused = outcome.events.iter().any(|e| e.kind == EventKind::PlanRefused);
        prop_assert_eq!(refused, !(right && free && index == 0));
        prop_assert_eq!(refused, world.state.slots == before);
    }
}

/// R11: opening a session never implies that the old one ended.
#[test]
fn a_second_session_is_refused_until_the_first_is_closed() {
    let (mut world, session) = world(3, 0);
    let node = world.state.sessions[&session].node;
    let open = Command::OpenSession(OpenSession {
        node,
        guard_boot: BootId(2),
        key: SessionKey::default(),
        inventory: Vec::new(),
        enforcement: Enforcement::Kernel,
    });
    assert_eq!(world.apply(open.clone()).reply, Err(Refusal::SessionOpen { node, session }));
    world.close(session);
    assert!(world.apply(open).reply.is_ok());
}

/// R10: only the guard's own report frees a slot; nobody else's, no other generation's, no other session's.
#[test]
fn only_the_holder_frees_a_slot() {
    use muster_core::command::{StopCause, Stopped};
    use muster_core::id::Generation;
    let (mut world, _) = world(3, 0);
    let id = slot("db", 0);
    let held = world.state.slots[&id].placements[0].clone();
    let right = Stopped {
        slot: id.clone(),
        node: held.node,
        session: held.session,
        generation: held.generation,
        why: StopCause::Revoked,
    };
    let forged = [
        Stopped { node: NodeId(999), ..right.clone() },
        Stopped { session: None, ..right.clone() },
        Stopped { session: Some(SessionId(999)), ..right.clone() },
        Stopped { generation: Generation(held.generation.0 + 1), ..right.clone() },
    ];
    for stopped in forged {
        assert!(world.apply(Command::Stopped(stopped)).reply.is_err());
    }
    world.must(Command::Stopped(right));
    assert!(world.state.slots[&id].placements.is_empty());
    assert_eq!(world.state.slots[&id].vacant_since, Some(world.now));
}
