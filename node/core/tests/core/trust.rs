//! CAs, users and certificates.

use std::time::Duration;

use muster_core::command::{
    AuthorityKey, CertificateHolder, Command, NewAuthority, NewCertificate, UserRole,
};
use muster_core::id::{CertificateId, NodeId, UserName};
use muster_core::refusal::Refusal;
use muster_core::state::apply::{LONGEST_USER_LIFE, NODE_CERTIFICATE_LIFE};

use super::world::World;

fn alice() -> UserName {
    UserName::new("alice").unwrap()
}

fn authority() -> Command {
    let key = AuthorityKey([1].into());
    Command::AddAuthority(NewAuthority { certificate: [2].into(), introduction: None, key })
}

fn for_alice(role: UserRole) -> Command {
    let life = Duration::from_secs(3600);
    Command::IssueCertificate(NewCertificate::User { name: alice(), role, life })
}

fn for_node(node: NodeId) -> Command {
    Command::IssueCertificate(NewCertificate::Node { node, token_hash: None })
}

fn refusal(world: &mut World, command: Command) -> Refusal {
    world.apply(command).reply.unwrap_err()
}

#[test]
fn a_node_has_a_certificate_from_its_first_entry_on() {
    let world = World::new(2, 1);
    for (id, node) in &world.state.nodes {
        let certificates = node.certificates;
        assert_eq!((certificates.oldest, certificates.newest), (CertificateId(id.0), CertificateId(id.0)));
        assert_eq!(certificates.ends, node.joined.plus(NODE_CERTIFICATE_LIFE));
    }
}

#[test]
fn a_renewal_keeps_the_older_certificate_and_a_revocation_ends_both() {
    let mut world = World::new(1, 1);
    world.must(for_node(NodeId(1)));
    let of = |world: &World| world.state.nodes[&NodeId(1)].certificates;
    let renewed = of(&world);
    assert_eq!(renewed.newest.0, world.state.revision.0);
    assert!(!renewed.is_revoked(CertificateId(1)) && !renewed.is_revoked(renewed.newest));
    world.must(Command::RevokeCertificates(CertificateHolder::Node(NodeId(1))));
    assert!(of(&world).is_revoked(renewed.newest));
    world.must(for_node(NodeId(1)));
    assert!(!of(&world).is_revoked(of(&world).newest));
}

#[test]
fn a_node_that_comes_back_uses_its_token_up() {
    let mut world = World::new(1, 1);
    let with =
        |hash| Command::IssueCertificate(NewCertificate::Node { node: NodeId(1), token_hash: Some(hash) });
    assert_eq!(refusal(&mut world, with([9; 32])), Refusal::TokenUnknown);
    let before = world.state.tokens["t"].uses;
    world.must(with([7; 32]));
    assert_eq!(world.state.tokens["t"].uses, before - 1);
    let nobody = Command::IssueCertificate(NewCertificate::Node { node: NodeId(99), token_hash: None });
    assert!(matches!(refusal(&mut world, nobody), Refusal::NoSuchNode(_)));
}

#[test]
fn another_role_or_another_life_of_the_same_name_ends_what_was_before() {
    let mut world = World::new(1, 1);
    let oldest = |world: &World| world.state.users[&alice()].certificates.oldest;
    world.must(for_alice(UserRole::Viewer));
    let first = oldest(&world);
    world.must(for_alice(UserRole::Viewer));
    assert_eq!(oldest(&world), first, "a renewal ends nothing");
    world.must(for_alice(UserRole::Admin));
    assert!(oldest(&world) > first);
    let admin = oldest(&world);
    world.must(Command::RemoveUser { name: alice() });
    assert_eq!(refusal(&mut world, Command::RemoveUser { name: alice() }), Refusal::NoSuchUser(alice()));
    world.must(for_alice(UserRole::Admin));
    assert!(oldest(&world) > admin);
    let holder = || Command::RevokeCertificates(CertificateHolder::User(alice()));
    world.must(holder());
    assert!(
        world.state.users[&alice()].certificates.is_revoked(world.state.users[&alice()].certificates.newest)
    );
}

#[test]
fn no_user_s_certificate_lives_longer_than_a_year() {
    let mut world = World::new(1, 1);
    let life = Duration::from_secs(u64::MAX / 1000);
    let name = alice();
    world.must(Command::IssueCertificate(NewCertificate::User { name, role: UserRole::Viewer, life }));
    assert_eq!(world.state.users[&alice()].certificates.ends, world.state.now.plus(LONGEST_USER_LIFE));
}

#[test]
fn an_old_ca_ends_when_everybody_has_left_it() {
    let mut world = World::new(2, 1);
    world.must(authority());
    assert_eq!(refusal(&mut world, Command::RetireAuthority { forced: true }), Refusal::NoRotation);
    for id in world.state.nodes.keys().copied().collect::<Vec<_>>() {
        world.must(for_node(id));
    }
    world.must(for_alice(UserRole::Viewer));
    world.must(authority());
    assert_eq!(refusal(&mut world, authority()), Refusal::RotationUnderWay);
    let early = refusal(&mut world, Command::RetireAuthority { forced: false });
    let holders = world.state.holders_of_old_certificates();
    assert_eq!((holders.len(), early), (3, Refusal::OldCertificates { holders: holders.join(", ") }));
    for id in world.state.nodes.keys().copied().collect::<Vec<_>>() {
        world.must(for_node(id));
    }
    assert_eq!(world.state.holders_of_old_certificates(), ["user alice"]);
    // A certificate that has expired holds nothing up.
    world.now = world.now.plus(Duration::from_secs(3601));
    world.must(Command::RetireAuthority { forced: false });
    assert_eq!(world.state.authorities.len(), 1);
    assert_eq!(world.state.signing_authority().map(|a| a.id), Some(world.state.authorities[0].id));
}

#[test]
fn an_old_ca_can_be_ended_for_those_who_stay_behind() {
    let mut world = World::new(1, 1);
    world.must(authority());
    world.must(authority());
    world.must(Command::RetireAuthority { forced: true });
    assert_eq!(world.state.authorities.len(), 1);
}
