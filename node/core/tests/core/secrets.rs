//! Secrets, the services that name them, and the keys that they are encrypted with.

use muster_core::command::{Command, PutSecret, SealedValue, SecretWrite};
use muster_core::id::{Generation, NodeId, Revision, SecretKeyId, SecretName, TaskName};
use muster_core::refusal::{Refusal, RefusalClass};
use muster_core::spec::{Driver, Mode, ServiceSpec};

use super::world::{World, name, slot, spec};

const FIRST: SecretKeyId = SecretKeyId([1; 16]);
const SECOND: SecretKeyId = SecretKeyId([2; 16]);

fn password() -> SecretName {
    SecretName::new("db-password").unwrap()
}

fn put(key: SecretKeyId, how: SecretWrite) -> Command {
    Command::PutSecret(PutSecret { name: password(), key, sealed: SealedValue([key.0[0]].into()), how })
}

fn remove(forced: bool) -> Command {
    Command::RemoveSecret { name: password(), forced }
}

fn hold(node: u64, key: SecretKeyId) -> Command {
    Command::HoldSecretKey { node: NodeId(node), key }
}

/// A service whose only task names the secret.
fn user_of_it(service: &str) -> ServiceSpec {
    let mut spec = spec(service, Mode::Exclusive);
    let Driver::Exec(exec) = &mut spec.tasks[0].driver;
    exec.secrets.insert("PASSWORD".to_owned(), password());
    spec
}

/// Three voters that all hold the first key.
fn world() -> World {
    let mut world = World::new(3, 3);
    world.must(Command::OfferSecretKey { key: FIRST });
    let nodes: Vec<u64> = world.state.nodes.keys().map(|id| id.0).collect();
    for node in nodes {
        world.must(hold(node, FIRST));
    }
    world
}

fn refusal(world: &mut World, command: Command) -> Refusal {
    world.apply(command).reply.unwrap_err()
}

#[test]
fn a_key_counts_once_a_majority_of_the_voters_has_it() {
    let mut world = World::new(4, 3);
    let nodes: Vec<u64> = world.state.nodes.keys().map(|id| id.0).collect();
    world.must(Command::OfferSecretKey { key: FIRST });
    assert_eq!(refusal(&mut world, put(FIRST, SecretWrite::Create)), Refusal::StaleSecretKey);
    // One who doesn't vote is no part of the majority.
    world.must(hold(nodes[3], FIRST));
    world.must(hold(nodes[0], FIRST));
    assert!(!world.must(hold(nodes[0], FIRST)).reply.unwrap().changed);
    assert_eq!(world.state.sealing_key(), None);
    world.must(hold(nodes[1], FIRST));
    assert_eq!(world.state.sealing_key().map(|key| key.id), Some(FIRST));
    let holds = nodes.iter().map(|id| world.state.holds_secret_keys(NodeId(*id))).collect::<Vec<_>>();
    assert_eq!(holds, [true, true, false, true]);
    assert!(matches!(refusal(&mut world, hold(99, FIRST)), Refusal::NoSuchNode(_)));
    assert!(!world.must(hold(nodes[0], SECOND)).reply.unwrap().changed, "nobody offers that one");
}

#[test]
fn an_offer_that_nobody_took_is_replaced_by_the_next_one() {
    let mut world = World::new(3, 3);
    world.must(Command::OfferSecretKey { key: FIRST });
    world.must(Command::OfferSecretKey { key: SECOND });
    let keys: Vec<_> = world.state.secret_keys.iter().map(|key| key.id).collect();
    assert_eq!(keys, [SECOND]);
}

#[test]
fn a_secret_is_made_once_changed_and_removed() {
    let mut world = world();
    assert_eq!(refusal(&mut world, put(FIRST, SecretWrite::Set)), Refusal::NoSuchSecret(password()));
    world.must(put(FIRST, SecretWrite::Create));
    assert_eq!(refusal(&mut world, put(FIRST, SecretWrite::Create)), Refusal::SecretExists(password()));
    let made = world.state.secrets[&password()].clone();
    let outcome = world.must(put(FIRST, SecretWrite::Set));
    assert_eq!(outcome.events[0].message, "secret db-password has another value");
    let set = world.state.secrets[&password()].clone();
    assert!(set.revision > made.revision && set.created == made.created);
    world.must(remove(false));
    assert_eq!(refusal(&mut world, remove(false)).class(), RefusalClass::NotFound);
}

#[test]
fn a_service_names_only_secrets_that_are_there() {
    let mut world = world();
    let unknown = world.put(user_of_it("db")).reply.unwrap_err();
    assert_eq!((unknown.code(), unknown.class()), ("MU1061", RefusalClass::Invalid));
    world.must(put(FIRST, SecretWrite::Create));
    world.put(user_of_it("db")).reply.unwrap();
    let used: Vec<_> = world.state.users_of_secret(&password()).cloned().collect();
    assert_eq!(used, [name("db")]);
    let in_use = refusal(&mut world, remove(false));
    assert_eq!((in_use.code(), in_use.class()), ("MU1063", RefusalClass::Conflict));
    assert!(in_use.to_string().ends_with("is used by: db"), "{in_use}");
    world.must(remove(true));
}

#[test]
fn a_former_declaration_with_a_secret_that_is_gone_does_not_come_back() {
    let mut world = world();
    world.must(put(FIRST, SecretWrite::Create));
    world.put(user_of_it("db")).reply.unwrap();
    world.put(spec("db", Mode::Exclusive)).reply.unwrap();
    world.must(remove(false));
    let back = refusal(&mut world, Command::RollbackService { service: name("db") });
    assert_eq!(back, Refusal::UnknownSecret { service: name("db"), secret: password() });
}

#[test]
fn the_node_that_is_to_run_a_task_gets_its_secrets_and_no_other_node() {
    let mut world = world();
    world.must(put(FIRST, SecretWrite::Create));
    world.put(user_of_it("db")).reply.unwrap();
    world.put(spec("other", Mode::Exclusive)).reply.unwrap();
    world.schedule();
    let (slot, task) = (slot("db", 0), TaskName::new("server").unwrap());
    let placement = world.state.slots[&slot].current().unwrap().clone();
    let asked = |world: &World, node, generation, task: &TaskName| {
        world
            .state
            .secrets_for(node, &slot, generation, task)
            .map(|found| found.len())
            .map_err(|e| e.code().to_owned())
    };
    let (node, generation) = (placement.node, placement.generation);
    assert_eq!(asked(&world, node, generation, &task), Ok(1));
    let denied = Err("MU1066".to_owned());
    for other in world.state.nodes.keys().filter(|id| **id != node) {
        assert_eq!(asked(&world, *other, generation, &task), denied);
    }
    assert_eq!(asked(&world, node, Generation(generation.0 - 1), &task), denied);
    assert_eq!(asked(&world, node, generation, &TaskName::new("another").unwrap()), denied);
    let (other, its) =
        (super::world::slot("other", 0), world.state.slots[&super::world::slot("other", 0)].clone());
    let its = its.current().unwrap();
    assert_eq!(world.state.secrets_for(its.node, &other, its.generation, &task).unwrap(), []);
    // What is to end starts nothing any more.
    world.must(Command::SetServiceWanted { service: name("db"), wanted: false });
    world.schedule();
    assert_eq!(asked(&world, node, generation, &task), denied);
}

#[test]
fn another_key_takes_the_values_over_one_by_one_and_then_the_old_one_is_forgotten() {
    let mut world = world();
    world.must(put(FIRST, SecretWrite::Create));
    let value = world.state.secrets[&password()].revision;
    world.must(Command::OfferSecretKey { key: SECOND });
    world.must(hold(1, SECOND));
    assert_eq!(world.state.sealing_key().map(|key| key.id), Some(FIRST));
    let second = *world.state.nodes.keys().nth(1).unwrap();
    world.must(hold(second.0, SECOND));
    assert_eq!(world.state.sealing_key().map(|key| key.id), Some(SECOND));
    assert_eq!(refusal(&mut world, put(FIRST, SecretWrite::Set)), Refusal::StaleSecretKey);
    let third = Command::OfferSecretKey { key: SecretKeyId([3; 16]) };
    assert_eq!(refusal(&mut world, third.clone()), Refusal::SecretRotationUnderWay);

    let stale = SecretWrite::Reseal { of: Revision(value.0 - 1) };
    assert!(!world.must(put(SECOND, stale)).reply.unwrap().changed, "the value has changed meanwhile");
    assert_eq!(world.state.secret_keys.len(), 2);
    let outcome = world.must(put(SECOND, SecretWrite::Reseal { of: value }));
    assert!(outcome.events.is_empty(), "nothing that anybody would notice");
    let secret = &world.state.secrets[&password()];
    assert_eq!((secret.revision, secret.key), (value, SECOND));
    let keys: Vec<_> = world.state.secret_keys.iter().map(|key| key.id).collect();
    assert_eq!(keys, [SECOND]);
    world.must(third);
}
