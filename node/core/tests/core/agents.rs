//! What is noted of agents that are gone while their guards go on.

use muster_core::command::Command;
use muster_core::event::EventKind;
use muster_core::id::SessionId;
use muster_core::refusal::Refusal;

use crate::world::World;

fn note(world: &mut World, session: SessionId, gone: bool) -> Vec<EventKind> {
    let outcome = world.apply(Command::NoteAgent { session, gone });
    outcome.reply.unwrap();
    outcome.events.into_iter().map(|event| event.kind).collect()
}

#[test]
fn an_agent_that_is_gone_is_told_once_and_with_its_time() {
    let mut world = World::new(2, 1);
    let node = *world.state.nodes.keys().next_back().unwrap();
    let session = world.state.nodes[&node].session.unwrap();
    assert_eq!(note(&mut world, session, true), [EventKind::AgentGone]);
    let since = world.state.sessions[&session].agent_gone;
    assert_eq!(since, Some(world.now));

    world.wait(std::time::Duration::from_secs(9));
    let topology = world.state.topology;
    assert_eq!(note(&mut world, session, true), [], "the entry of a former leader came first");
    assert_eq!((world.state.sessions[&session].agent_gone, world.state.topology), (since, topology));

    assert_eq!(note(&mut world, session, false), [EventKind::AgentBack]);
    assert_eq!(world.state.sessions[&session].agent_gone, None);
    assert!(world.state.topology > topology, "what waits for a host is planned anew");
}

#[test]
fn nothing_is_noted_of_a_session_that_is_over() {
    let mut world = World::new(2, 1);
    let node = *world.state.nodes.keys().next_back().unwrap();
    let session = world.state.nodes[&node].session.unwrap();
    note(&mut world, session, true);
    world.close(session);
    let refused = world.apply(Command::NoteAgent { session, gone: false }).reply;
    assert_eq!(refused.unwrap_err(), Refusal::NoSuchSession(session));
    world.open(node, Vec::new());
    let session = world.state.nodes[&node].session.unwrap();
    assert_eq!(world.state.sessions[&session].agent_gone, None, "a new session begins with an agent");
}
