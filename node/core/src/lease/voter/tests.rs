//! Rule by rule; the whole is tested in the simulation.

use super::*;
use crate::lease::membership::Membership;
use crate::lease::message::ListVersion;

const SESSION: SessionId = SessionId(20);
const BOOT: BootId = BootId(77);
const W_MS: u64 = 1031;

fn at(ms: u64) -> HostInstant {
    HostInstant::both((1_000_000 + ms) * 1_000_000)
}

fn list(id: u64, voters: &[u64]) -> Arc<VoterList> {
    let membership = Membership::uniform(MembershipId(id), voters.iter().copied().map(NodeId));
    Arc::new(VoterList { membership, ..VoterList::default() })
}

fn open(reopens: u64) -> OpenSession {
    OpenSession { session: SESSION, node: NodeId(9), ttl_ms: 1000, reopens: Reopens(reopens) }
}

fn applied() -> Applied {
    Applied {
        revision: Revision(30),
        list: list(5, &[1, 2, 3]),
        sessions: vec![open(0)],
        own_boot: BOOT,
        pending: BTreeSet::new(),
    }
}

fn identity() -> VoterIdentity {
    VoterIdentity { cluster: ClusterId(1), incarnation: Incarnation(1), node: NodeId(1), boot: BOOT }
}

fn voter() -> VoterLease {
    VoterLease::new(at(0), identity(), applied())
}

fn beat(session: SessionId, seq: u64) -> Heartbeat {
    let tenure = Tenure { cluster: ClusterId(1), incarnation: Incarnation(1), node: NodeId(9), session };
    Heartbeat { tenure, seq, list: ListVersion::default(), agent_present: true }
}

fn request() -> CloseRequest {
    CloseRequest { session: SESSION, membership: MembershipId(5), reopens: Reopens(0) }
}

/// Lets time pass without a stall.
fn pass(voter: &mut VoterLease, from_ms: u64, to_ms: u64) {
    (from_ms..=to_ms).step_by(10).for_each(|ms| voter.tick(at(ms)));
}

#[test]
fn an_open_session_is_acked_with_the_list_if_the_guard_has_an_older_one() {
    let mut voter = voter();
    let Some(Answer::Ack(ack)) = voter.on_heartbeat(at(10), &beat(SESSION, 1)) else { panic!("no ack") };
    assert_eq!((ack.voter, ack.boot, ack.seq), (NodeId(1), BOOT, 1));
    assert_eq!(ack.list.as_deref(), Some(&**voter.list()));
    let current = Heartbeat { list: ack.list_version, ..beat(SESSION, 2) };
    let Some(Answer::Ack(ack)) = voter.on_heartbeat(at(20), &current) else { panic!("no ack") };
    assert_eq!(ack.list, None);
}

#[test]
fn a_repeated_number_is_answered_and_does_not_count() {
    let mut voter = voter();
    voter.on_heartbeat(at(10), &beat(SESSION, 5));
    assert!(voter.on_heartbeat(at(40), &beat(SESSION, 5)).is_some());
    assert!(voter.on_heartbeat(at(40), &beat(SESSION, 4)).is_some());
    assert_eq!(voter.age(at(50), SESSION), Some(Duration::from_millis(40)));
}

#[test]
fn a_closed_session_is_answered_so_and_an_unknown_one_not_at_all() {
    let mut voter = voter();
    assert!(matches!(voter.on_heartbeat(at(1), &beat(SessionId(12), 1)), Some(Answer::Closed(_))));
    assert_eq!(voter.on_heartbeat(at(1), &beat(SessionId(31), 1)), None);
    voter.session_closed(SESSION);
    assert!(matches!(voter.on_heartbeat(at(1), &beat(SESSION, 1)), Some(Answer::Closed(_))));
    let mut foreign = beat(SESSION, 2);
    foreign.tenure.incarnation = Incarnation(2);
    assert_eq!(voter.on_heartbeat(at(1), &foreign), None);
}

#[test]
fn nothing_is_acked_or_promised_between_append_and_apply_of_a_membership() {
    let mut voter = voter();
    pass(&mut voter, 0, 2000);
    voter.membership_appended(MembershipId(31));
    assert_eq!(voter.on_heartbeat(at(2001), &beat(SESSION, 1)), None);
    assert_eq!(voter.promise(at(2001), request()), Err(Refusal::MembershipPending));
    voter.log_truncated(31);
    assert!(voter.promise(at(2001), request()).is_ok());
    voter.membership_appended(MembershipId(33));
    voter.list_applied(at(2002), list(33, &[1, 2, 4]));
    assert_eq!(voter.readiness(), Ok(()));
    assert_eq!(voter.age(at(2003), SESSION), Some(Duration::from_millis(1)), "R6");
}

#[test]
fn only_a_voter_whose_start_is_committed_acks() {
    let mut voter: VoterLease =
        VoterLease::new(at(0), identity(), Applied { own_boot: BootId(76), ..applied() });
    assert_eq!(voter.readiness(), Err(Refusal::NotUp));
    assert_eq!(voter.on_heartbeat(at(1), &beat(SESSION, 1)), None);
    voter.voter_up_applied(NodeId(2), BOOT);
    assert_eq!(voter.readiness(), Err(Refusal::NotUp));
    voter.voter_up_applied(NodeId(1), BOOT);
    assert_eq!(voter.readiness(), Ok(()));
    voter.list_applied(at(2), list(33, &[2, 3, 4]));
    assert_eq!(voter.readiness(), Err(Refusal::NotVoter));
}

#[test]
fn a_promise_needs_the_age_and_ends_the_acks_for_good() {
    let mut voter = voter();
    pass(&mut voter, 0, 1000);
    let wait = Duration::from_millis(31);
    assert_eq!(voter.promise(at(1000), request()), Err(Refusal::TooYoung { wait }));
    assert_eq!(voter.promise_possible_in(at(1000), SESSION), Some(wait));
    let promise = voter.promise(at(W_MS), request()).expect("the age is W");
    assert_eq!((promise.voter, promise.boot, promise.membership), (NodeId(1), BOOT, MembershipId(5)));
    assert_eq!(voter.on_heartbeat(at(W_MS + 1), &beat(SESSION, 1)), None);
    assert_eq!(voter.promise(at(W_MS + 2), request()), Ok(promise), "asked again, it promises again");
    assert_eq!(voter.ages(at(W_MS + 3)).sessions[0].promised, Some(Reopens(0)));
}

#[test]
fn a_promise_is_only_for_the_voters_own_applied_state() {
    let mut voter = voter();
    pass(&mut voter, 0, 2000);
    let other = CloseRequest { membership: MembershipId(4), ..request() };
    assert_eq!(voter.promise(at(2000), other), Err(Refusal::OtherMembership { own: MembershipId(5) }));
    let other = CloseRequest { reopens: Reopens(1), ..request() };
    assert_eq!(voter.promise(at(2000), other), Err(Refusal::OtherReopens { own: Reopens(0) }));
    let other = CloseRequest { session: SessionId(19), ..request() };
    assert_eq!(voter.promise(at(2000), other), Err(Refusal::NotOpen));
}

#[test]
fn a_reopen_forgets_only_older_promises() {
    let mut voter = voter();
    pass(&mut voter, 0, 2000);
    voter.promise(at(2000), request()).expect("old enough");
    voter.session_reopened(at(2000), SESSION, Reopens(1));
    assert!(voter.on_heartbeat(at(2001), &beat(SESSION, 1)).is_some());
    pass(&mut voter, 2001, 4000);
    let again = CloseRequest { reopens: Reopens(1), ..request() };
    voter.promise(at(4000), again).expect("old enough");
    voter.session_reopened(at(4000), SESSION, Reopens(1));
    assert_eq!(voter.on_heartbeat(at(4001), &beat(SESSION, 2)), None, "the promise is of this count");
}

#[test]
fn a_snapshot_resets_the_ages_and_keeps_the_promises() {
    let mut voter = voter();
    pass(&mut voter, 0, 2000);
    voter.promise(at(2000), request()).expect("old enough");
    let later = OpenSession { session: SessionId(40), ..open(0) };
    let sessions = vec![open(0), later];
    voter.snapshot_installed(at(2010), Applied { revision: Revision(50), sessions, ..applied() });
    assert_eq!(voter.age(at(2010), SESSION), Some(Duration::ZERO));
    assert_eq!(voter.on_heartbeat(at(2011), &beat(SESSION, 1)), None, "promised");
    assert!(voter.on_heartbeat(at(2011), &beat(SessionId(40), 1)).is_some());
    voter.snapshot_installed(
        at(2020),
        Applied { revision: Revision(60), sessions: vec![open(1)], ..applied() },
    );
    assert!(voter.on_heartbeat(at(2021), &beat(SESSION, 2)).is_some(), "re-opened since");
    assert!(matches!(voter.on_heartbeat(at(2021), &beat(SessionId(40), 2)), Some(Answer::Closed(_))));
}

#[test]
fn a_stall_of_the_voter_is_not_held_against_the_hosts() {
    let mut voter = voter();
    pass(&mut voter, 0, 500);
    assert!(matches!(voter.promise(at(1600), request()), Err(Refusal::TooYoung { .. })));
    assert_eq!(voter.age(at(1600), SESSION), Some(Duration::from_millis(500)));
}

#[test]
fn the_age_is_that_of_the_slowest_clock() {
    let mut voter = voter();
    let suspended = HostInstant { boottime_ns: at(5000).boottime_ns, raw_ns: at(40).raw_ns };
    assert_eq!(voter.age(suspended, SESSION), Some(Duration::ZERO), "and it was a stall");
}

#[test]
fn fenced_is_forwarded_while_open_and_answered_when_closed() {
    let mut voter = voter();
    let fenced = |session| Fenced { tenure: beat(session, 1).tenure };
    assert_eq!(voter.on_fenced(&fenced(SESSION)), FencedEffect::Forward(SESSION));
    assert_eq!(voter.on_fenced(&fenced(SessionId(31))), FencedEffect::Ignore);
    voter.session_closed(SESSION);
    assert!(matches!(voter.on_fenced(&fenced(SESSION)), FencedEffect::Answer(_)));
}

#[test]
fn release_and_the_agents_absence_are_passed_on() {
    let mut voter = voter();
    voter.set_release(SESSION, true);
    let absent = Heartbeat { agent_present: false, ..beat(SESSION, 1) };
    let Some(Answer::Ack(ack)) = voter.on_heartbeat(at(40), &absent) else { panic!("no ack") };
    assert!(ack.release);
    assert_eq!(voter.ages(at(50)).sessions[0].agent, AgentHeard::Absent(Duration::ZERO));
}

#[test]
fn what_is_heard_of_an_agent_comes_from_heartbeats_alone() {
    let mut voter = voter();
    let heard = |voter: &mut VoterLease, ms| voter.ages(at(ms)).sessions[0].agent;
    let beats = |voter: &mut VoterLease, ms, agent_present| {
        assert!(voter.on_heartbeat(at(ms), &Heartbeat { agent_present, ..beat(SESSION, ms) }).is_some());
    };
    assert_eq!(heard(&mut voter, 30), AgentHeard::Nothing, "a voter that has just started");
    beats(&mut voter, 40, true);
    assert_eq!(heard(&mut voter, 60), AgentHeard::Present);
    for ms in [70, 80, 90] {
        beats(&mut voter, ms, false);
    }
    assert_eq!(heard(&mut voter, 100), AgentHeard::Absent(Duration::from_millis(20)), "by heartbeats alone");
    beats(&mut voter, 110, true);
    assert_eq!(heard(&mut voter, 120), AgentHeard::Present);
}

#[test]
fn an_agent_that_is_back_ends_the_wish_for_a_release() {
    let mut voter = voter();
    let released = |voter: &mut VoterLease, seq, agent_present| {
        let beat = Heartbeat { agent_present, ..beat(SESSION, seq) };
        matches!(voter.on_heartbeat(at(seq), &beat), Some(Answer::Ack(Ack { release: true, .. })))
    };
    voter.set_release(SESSION, true);
    assert!(released(&mut voter, 1, false));
    assert!(!released(&mut voter, 2, true));
    assert!(!released(&mut voter, 3, false), "its next restart is no reason");
}

#[test]
fn a_copy_of_a_heartbeat_is_answered_shortly_and_changes_nothing() {
    let mut voter = voter();
    voter.list_applied(at(0), list(33, &[1, 2, 4]));
    voter.set_release(SESSION, true);
    let absent = |seq| Heartbeat { agent_present: false, ..beat(SESSION, seq) };
    let mut acked = |ms, heartbeat: &Heartbeat| match voter.judge_heartbeat(at(ms), heartbeat) {
        Ok(Answer::Ack(ack)) => Ok((ack.list.is_some(), ack.release)),
        Ok(other) => panic!("{other:?}"),
        Err(why) => Err(why),
    };
    assert_eq!(acked(10, &absent(7)), Ok((true, true)));
    // However often: over each of the voter's addresses, and again where a network doubles what it carries.
    for _ in 0..100 {
        assert_eq!(acked(40, &absent(7)), Ok((false, true)));
    }
    assert_eq!(
        acked(50, &beat(SESSION, 3)),
        Ok((false, true)),
        "late over a slower link, of an agent that is gone since"
    );
    assert_eq!(acked(60, &absent(71)), Ok((true, true)));
    assert_eq!(acked(70, &absent(7)), Err(NoAnswer::Replayed), "older than any lease");
    assert_eq!(
        voter.age(at(70), SESSION),
        Some(Duration::from_millis(10)),
        "none of them makes anything younger"
    );
}
