//! Rule by rule; the whole is tested in the simulation.

use super::*;
use crate::id::{BootId, ClusterId, Incarnation, MembershipId, Revision, SessionId};
use crate::lease::membership::Membership;
use crate::lease::message::{Closed, ListVersion, VoterAddresses};

const START_MS: u64 = 1_000_000;

fn at(ms: u64) -> HostInstant {
    HostInstant::both((START_MS + ms) * 1_000_000)
}

fn tenure() -> Tenure {
    Tenure { cluster: ClusterId(1), incarnation: Incarnation(1), node: NodeId(9), session: SessionId(20) }
}

fn list(membership: Membership) -> VoterList {
    let voters = membership.voters().into_iter().map(|node| VoterAddresses {
        node,
        addresses: vec![SocketAddr::from(([10, 0, 0, u8::try_from(node.0).expect("small")], 7420))],
    });
    VoterList { voters: voters.collect(), addresses_revision: Revision(1), membership }
}

fn uniform(id: u64, voters: &[u64]) -> VoterList {
    list(Membership::uniform(MembershipId(id), voters.iter().copied().map(NodeId)))
}

fn lease(voters: VoterList) -> HostLease {
    let grant = Grant { tenure: tenure(), ttl_ms: 1000, heartbeat_ms: 50, kill_budget_ms: 50, list: voters };
    HostLease::new(at(0), grant)
}

fn ack(voter: u64, seq: u64, membership: u64) -> Answer {
    Answer::Ack(Ack {
        tenure: tenure(),
        voter: NodeId(voter),
        boot: BootId(1),
        seq,
        list_version: ListVersion { membership: MembershipId(membership), addresses: Revision(1) },
        list: None,
        release: false,
    })
}

fn offer(voter: u64, seq: u64, list: &VoterList) -> Answer {
    Answer::Ack(Ack {
        tenure: tenure(),
        voter: NodeId(voter),
        boot: BootId(1),
        seq,
        list_version: list.version(),
        list: Some(Arc::new(list.clone())),
        release: false,
    })
}

fn closed() -> Answer {
    Answer::Closed(Closed { tenure: tenure(), voter: NodeId(1) })
}

/// A lease with its first heartbeat, sent at 0, acked by 1 and 2 of three voters.
fn active() -> HostLease {
    let mut lease = lease(uniform(5, &[1, 2, 3]));
    assert_eq!(lease.heartbeat(at(0), true).map(|beat| beat.seq), Some(1));
    assert!(!lease.on_answer(at(10), &ack(1, 1, 5)).renewed, "one ack is no majority");
    assert!(lease.on_answer(at(20), &ack(2, 1, 5)).renewed);
    lease
}

#[test]
fn the_deadline_counts_from_the_send_and_killing_starts_k_before_it() {
    let mut lease = active();
    assert_eq!(lease.deadline(), Some(at(1000)));
    assert_eq!(lease.kill_at(), Some(at(950)));
    assert!(lease.may_start(at(949)));
    assert_eq!(lease.remaining(at(900)), Duration::from_millis(100));
    assert_eq!(lease.phase(at(950)), Phase::Killing);
    assert_eq!(lease.heartbeat(at(951), true), None);
}

#[test]
fn votes_count_once_a_voter_and_only_from_voters_of_the_list() {
    let mut lease = lease(uniform(5, &[1, 2, 3]));
    lease.heartbeat(at(0), true);
    for voter in [1, 1, 7, 8] {
        assert_eq!(lease.on_answer(at(5), &ack(voter, 1, 5)), HostEffect::default());
    }
    assert!(!lease.may_start(at(6)));
    assert_eq!(lease.on_answer(at(7), &ack(2, 3, 5)), HostEffect::default(), "3 was never sent");
}

#[test]
fn killing_is_irrevocable_and_a_late_ack_changes_nothing() {
    let mut lease = active();
    lease.heartbeat(at(900), true);
    assert_eq!(lease.phase(at(960)), Phase::Killing);
    assert_eq!(lease.on_answer(at(961), &ack(1, 2, 5)), HostEffect::default());
    assert_eq!(lease.on_answer(at(961), &ack(3, 2, 5)), HostEffect::default());
    assert_eq!(lease.phase(at(100)), Phase::Killing, "not even a clock that ran backwards revives it");
}

#[test]
fn either_clock_ends_the_lease() {
    let mut lease = active();
    let suspended = HostInstant { boottime_ns: at(950).boottime_ns, raw_ns: at(30).raw_ns };
    assert_eq!(lease.phase(suspended), Phase::Killing);
}

#[test]
fn the_timer_is_shortened_by_what_the_clocks_diverge() {
    let mut lease = active();
    let due = lease.timer_boottime_ns(at(50)).expect("there is a lease");
    assert_eq!(
        (due - at(50).boottime_ns) / 1_000_000,
        810,
        "900 ms / 1.11: nothing is known of the clocks yet"
    );
    let due = lease.timer_boottime_ns(at(150)).expect("there is a lease");
    assert_eq!((due - at(150).boottime_ns) / 1_000_000, 792, "800 ms / 1.01");
    let slewed = HostInstant { boottime_ns: at(500).boottime_ns, raw_ns: at(540).raw_ns };
    let due = lease.timer_boottime_ns(slewed).expect("there is a lease");
    assert_eq!((due - slewed.boottime_ns) / 1_000_000, 376, "410 ms / 1.09");
}

#[test]
fn fenced_is_sent_every_period_until_a_voter_says_closed() {
    let mut lease = active();
    lease.nothing_left(at(40));
    assert_eq!(lease.phase(at(41)), Phase::Active, "nothing_left means nothing while the lease lives");
    lease.end(at(50));
    assert_eq!(lease.fenced(at(51)), None, "something may still run");
    lease.nothing_left(at(60));
    assert_eq!(lease.fenced(at(60)), Some(Fenced { tenure: tenure() }));
    assert_eq!(lease.fenced(at(100)), None);
    assert!(lease.fenced(at(110)).is_some());
    lease.on_answer(at(120), &closed());
    assert_eq!(lease.phase(at(121)), Phase::Ended);
}

#[test]
fn closed_kills_at_once_and_needs_no_fence() {
    let mut lease = active();
    assert!(lease.on_answer(at(30), &closed()).kill);
    assert_eq!(lease.phase(at(30)), Phase::Killing);
    lease.nothing_left(at(40));
    assert_eq!(lease.phase(at(41)), Phase::Ended);
}

#[test]
fn an_agent_that_knows_of_the_close_ends_the_fencing() {
    let mut lease = active();
    lease.end(at(50));
    lease.nothing_left(at(60));
    assert_eq!(lease.told_closed(at(70)), HostEffect::default());
    assert_eq!(lease.phase(at(70)), Phase::Ended);
    assert!(active().told_closed(at(70)).kill);
}

#[test]
fn a_grant_that_nobody_acks_is_given_up() {
    let mut lease = lease(uniform(5, &[1, 2, 3]));
    assert_eq!(lease.phase(at(1999)), Phase::Waiting);
    assert_eq!(lease.phase(at(2000)), Phase::Killing);
}

#[test]
fn a_newer_list_needs_a_majority_of_the_list_held() {
    let mut lease = active();
    let new = uniform(8, &[2, 3, 4]);
    assert!(lease.on_answer(at(30), &offer(2, 1, &new)).targets_changed, "voter 4 is heard of");
    assert!(!lease.on_answer(at(31), &offer(4, 1, &new)).list_adopted, "4 has no say in the list held");
    assert_eq!(lease.list().membership.id, MembershipId(5));
    assert!(lease.on_answer(at(32), &offer(3, 1, &new)).list_adopted);
    assert_eq!(lease.list(), &new);
    assert!(lease.targets().iter().all(|target| target.voter != NodeId(1)));
    lease.heartbeat(at(50), true);
    assert!(!lease.on_answer(at(60), &ack(1, 2, 5)).renewed, "an ack under the old membership");
    assert!(!lease.on_answer(at(60), &ack(2, 2, 5)).renewed, "an ack under the old membership");
    lease.on_answer(at(61), &ack(2, 2, 8));
    assert!(lease.on_answer(at(62), &ack(4, 2, 8)).renewed);
}

#[test]
fn two_contents_under_one_id_need_a_majority_each() {
    let mut lease = active();
    let lie = uniform(8, &[3]);
    let truth = uniform(8, &[1, 2, 3, 4]);
    assert!(!lease.on_answer(at(30), &offer(3, 1, &lie)).list_adopted);
    assert!(!lease.on_answer(at(31), &offer(1, 1, &truth)).list_adopted);
    assert!(lease.on_answer(at(32), &offer(2, 1, &truth)).list_adopted);
    assert_eq!(lease.list(), &truth);
}

#[test]
fn a_joint_list_held_needs_both_halves() {
    let old = [1, 2, 3].map(NodeId);
    let mut lease = lease(list(Membership::joint(MembershipId(6), old, [3, 4, 5].map(NodeId))));
    lease.heartbeat(at(0), true);
    for voter in [1, 2, 3] {
        assert!(!lease.on_answer(at(5), &ack(voter, 1, 6)).renewed);
    }
    assert!(lease.on_answer(at(6), &ack(5, 1, 6)).renewed);
    let new = uniform(7, &[3, 4, 5]);
    assert!(!lease.on_answer(at(7), &offer(4, 1, &new)).list_adopted);
    assert!(!lease.on_answer(at(7), &offer(5, 1, &new)).list_adopted);
    assert!(!lease.on_answer(at(7), &offer(3, 1, &new)).list_adopted, "only one of {{1, 2, 3}}");
    assert!(lease.on_answer(at(7), &offer(2, 1, &new)).list_adopted);
}

#[test]
fn a_re_exec_changes_nothing() {
    let mut before = active();
    before.heartbeat(at(50), true);
    let mut after: HostLease = HostLease::restore(at(60), before.save());
    assert_eq!(after.save(), before.save());
    assert_eq!(after.deadline(), before.deadline());
    after.on_answer(at(70), &ack(3, 2, 5));
    assert!(after.on_answer(at(70), &ack(1, 2, 5)).renewed);
    assert_eq!(after.deadline(), Some(at(1050)));
    assert_eq!(after.heartbeat(at(100), true).map(|beat| beat.seq), Some(3));
    before.end(at(80));
    let mut killed: HostLease = HostLease::restore(at(90), before.save());
    assert_eq!(killed.phase(at(91)), Phase::Killing);
}

#[test]
fn a_wish_for_release_is_passed_on() {
    let mut lease = active();
    let Answer::Ack(plain) = ack(3, 1, 5) else { panic!("an ack") };
    assert!(lease.on_answer(at(30), &Answer::Ack(Ack { release: true, ..plain })).release);
}
