//! The control plane's membership: 1, then 3 voters; replaced when lost; never below a majority of the old ones.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_core::command::{Command, DrainWish, NodeChange};
use muster_core::control_plane::{Facts, MembershipChange, next_change, removal_step};
use muster_core::id::{BootId, NodeId, Revision};
use muster_core::lease::membership::majority_of;
use muster_core::state::State;
use proptest::prelude::*;

use super::world::World;

/// All members answer and are up to date.
fn facts(world: &World) -> Facts {
    let members: BTreeSet<NodeId> =
        world.state.membership.voters().into_iter().chain(world.state.standbys.iter().copied()).collect();
    let alive = |id: &NodeId| world.state.nodes[id].session.is_some();
    let reachable: BTreeSet<NodeId> = members.into_iter().filter(alive).collect();
    Facts {
        caught_up: reachable.clone(),
        reachable,
        outdated: BTreeSet::new(),
        sessions_in_time: true,
        now: world.now,
    }
}

fn ids(world: &World) -> Vec<NodeId> {
    world.state.nodes.keys().copied().collect()
}

fn carry_out(world: &mut World, change: &MembershipChange) {
    match change {
        MembershipChange::AddStandby(id) => {
            let (voters, mut standbys) =
                (world.state.membership.configs.clone(), world.state.standbys.clone());
            standbys.insert(*id);
            let at = world.next();
            world.state.apply_membership(at, voters, standbys.into_iter().collect());
            // As each standby does once it runs.
            let replaces = world.state.nodes[id].boot;
            world.must(Command::VoterUp { voter: *id, boot: BootId(world.next().0 + 5000), replaces });
        }
        MembershipChange::RemoveStandby(id) => {
            let (voters, standbys) =
                (world.state.membership.configs.clone(), world.state.standbys.without(id));
            let at = world.next();
            world.state.apply_membership(at, voters, standbys.into_iter().collect());
        }
        MembershipChange::SetVoters(voters) => {
            let old = world.state.membership.voters();
            let kept = old.intersection(voters).count();
            assert!(kept >= majority_of(old.len()), "{old:?} -> {voters:?} keeps no majority");
            world.set_voters(voters.clone());
        }
        MembershipChange::UpdatePeer(_) => {}
    }
}

fn settle(world: &mut World) -> Vec<MembershipChange> {
    let mut changes = Vec::new();
    for _ in 0..40 {
        let Some(change) = next_change(&world.state, &facts(world)) else { return changes };
        carry_out(world, &change);
        changes.push(change);
    }
    panic!("it never comes to rest: {changes:?}");
}

fn lose(world: &mut World, id: NodeId) {
    let session = world.state.nodes[&id].session.unwrap();
    world.close(session);
}

#[test]
fn one_voter_becomes_three_at_once() {
    let mut world = World::new(1, 1);
    assert_eq!(settle(&mut world), []);
    let second = world.add_node();
    assert_eq!(settle(&mut world), [], "it has no session yet");
    world.open(second, Vec::new());
    assert_eq!(settle(&mut world), [MembershipChange::AddStandby(second)], "two voters are worse than one");
    let third = world.add_node();
    world.open(third, Vec::new());
    let all: BTreeSet<_> = ids(&world).into_iter().collect();
    assert_eq!(settle(&mut world), [MembershipChange::AddStandby(third), MembershipChange::SetVoters(all)]);
    let fourth = world.add_node();
    world.open(fourth, Vec::new());
    assert_eq!(settle(&mut world), [], "beyond three nodes are workers");
}

#[test]
fn a_standby_is_promoted_only_when_it_is_up_and_up_to_date() {
    let mut world = World::new(3, 1);
    let at = world.next();
    let standbys: BTreeSet<_> = ids(&world)[1..].iter().copied().collect();
    let voters = world.state.membership.configs.clone();
    world.state.apply_membership(at, voters, standbys);
    assert_eq!(next_change(&world.state, &facts(&world)), None, "no VoterUp yet");
    for id in ids(&world)[1..].to_vec() {
        world.must(Command::VoterUp { voter: id, boot: BootId(9), replaces: None });
    }
    let behind = Facts { caught_up: BTreeSet::new(), ..facts(&world) };
    assert_eq!(next_change(&world.state, &behind), None);
    let overdue = Facts { sessions_in_time: false, ..facts(&world) };
    assert_eq!(next_change(&world.state, &overdue), None);
    assert!(matches!(next_change(&world.state, &facts(&world)), Some(MembershipChange::SetVoters(_))));
}

#[test]
fn a_lost_voter_is_replaced_after_a_while() {
    let mut world = World::new(4, 3);
    let (lost, spare) = (ids(&world)[1], ids(&world)[3]);
    lose(&mut world, lost);
    assert_eq!(settle(&mut world), [], "it may come back");
    world.wait(Duration::from_secs(30));
    let changes = settle(&mut world);
    assert_eq!(changes[0], MembershipChange::AddStandby(spare));
    let voters = world.state.membership.voters();
    assert!(voters.contains(&spare) && !voters.contains(&lost) && voters.len() == 3, "{changes:?}");
    world.open(lost, Vec::new());
    assert_eq!(settle(&mut world), [], "it is a worker now");
}

#[test]
fn without_a_spare_a_lost_voter_stays() {
    let mut world = World::new(3, 3);
    let lost = ids(&world)[2];
    lose(&mut world, lost);
    world.wait(Duration::from_secs(3600));
    assert_eq!(settle(&mut world), []);
}

#[test]
fn a_removed_voter_gives_its_vote_away_or_leaves_two() {
    let mut world = World::new(3, 3);
    let gone = ids(&world)[2];
    lose(&mut world, gone);
    let step = removal_step(&world.state, &facts(&world), gone).unwrap();
    assert_eq!(step, MembershipChange::SetVoters(ids(&world)[..2].iter().copied().collect()));
    carry_out(&mut world, &step);
    assert_eq!(removal_step(&world.state, &facts(&world), gone), None);
    world.must(Command::RemoveNode { node: gone });
    let next = world.add_node();
    world.open(next, Vec::new());
    settle(&mut world);
    assert_eq!(world.state.membership.voters().len(), 3, "the next node takes the vote");
}

#[test]
fn a_membership_left_joint_is_finished() {
    let mut world = World::new(3, 1);
    let all: BTreeSet<_> = ids(&world).into_iter().collect();
    let at = world.next();
    let old = world.state.membership.voters();
    world.state.apply_membership(at, vec![old, all.clone()], BTreeSet::new());
    assert_eq!(next_change(&world.state, &facts(&world)), Some(MembershipChange::SetVoters(all)));
}

#[test]
fn a_membership_before_the_cluster_is_no_event() {
    let founder = BTreeSet::from([NodeId(1)]);
    let mut state = State::default();
    assert_eq!(state.apply_membership(Revision(1), vec![founder.clone()], BTreeSet::new()), []);
    assert_eq!(state.membership.voters(), founder);
    let mut world = World::new(1, 1);
    let (at, voters) = (world.next(), world.state.membership.configs.clone());
    assert_eq!(world.state.apply_membership(at, voters, BTreeSet::new()).len(), 1);
}

#[test]
fn changed_addresses_reach_raft() {
    let world = World::new(3, 3);
    let outdated: BTreeSet<_> = [ids(&world)[1], NodeId(999)].into();
    let facts = Facts { outdated, ..facts(&world) };
    assert_eq!(next_change(&world.state, &facts), Some(MembershipChange::UpdatePeer(ids(&world)[1])));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is lost, drained and returns: each step keeps a majority, and it comes to rest.
    #[test]
    fn every_step_keeps_a_majority(nodes in 1..7_u64, script in proptest::collection::vec((0..5_u8, 0..8_usize), 0..30)) {
        let mut world = World::new(nodes, 1);
        settle(&mut world);
        for (what, pick) in script {
            let id = ids(&world)[pick % ids(&world).len()];
            match what {
                0 if world.state.nodes[&id].session.is_some() => lose(&mut world, id),
                0 | 1 => { world.open(id, Vec::new()); }
                2 => world.wait(Duration::from_secs(31)),
                3 => {
                    let wish = DrainWish { deadline: None, max_parallel: 0 };
                    world.must(Command::ChangeNode { node: id, change: NodeChange::Drain(wish) });
                }
                _ => { world.must(Command::ChangeNode { node: id, change: NodeChange::Undrain }); }
            }
            if let Some(step) = next_change(&world.state, &facts(&world)) {
                carry_out(&mut world, &step);
            }
        }
        for id in ids(&world) {
            world.must(Command::ChangeNode { node: id, change: NodeChange::Undrain });
            world.open(id, Vec::new());
        }
        settle(&mut world);
        let voters = world.state.membership.voters().len();
        prop_assert!(voters == 3 || (nodes < 3 && voters <= 2), "{voters} voters of {nodes} nodes");
    }
}
