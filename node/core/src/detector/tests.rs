//! The detector's decisions; with real voters it is tested in the simulation.

use super::*;
use crate::id::MembershipId;
use crate::lease::voter::{AgeReport, AgentHeard};

const SESSION: SessionId = SessionId(20);

fn at(ms: u64) -> HostInstant {
    HostInstant::both((1_000_000 + ms) * 1_000_000)
}

fn detector() -> Detector {
    let membership = Membership::uniform(MembershipId(5), [1, 2, 3].map(NodeId));
    let mut detector = Detector::new(Timing::LAN, membership);
    (1..=3).for_each(|node| detector.voter_up_applied(NodeId(node), BootId(node * 10)));
    detector.session_opened(OpenSession {
        session: SESSION,
        node: NodeId(9),
        ttl_ms: 1000,
        reopens: Reopens(0),
    });
    detector
}

fn report(detector: &mut Detector, now_ms: u64, voter: u64, age_ms: u64, promised: Option<u64>) {
    let report = AgeReport {
        session: SESSION,
        age: Duration::from_millis(age_ms),
        promised: promised.map(Reopens),
        agent: AgentHeard::Present,
        seq: 1,
    };
    let reports = AgeReports { voter: NodeId(voter), boot: BootId(voter * 10), sessions: vec![report] };
    detector.on_ages(at(now_ms), &reports);
}

fn request() -> CloseRequest {
    CloseRequest { session: SESSION, membership: MembershipId(5), reopens: Reopens(0) }
}

fn promise(voter: u64, boot: u64) -> Promise {
    let CloseRequest { session, membership, reopens } = request();
    Promise { session, membership, reopens, voter: NodeId(voter), boot: BootId(boot) }
}

fn hears(detector: &mut Detector, voter: u64, seq: u64, agent: AgentHeard) {
    let report = AgeReport { session: SESSION, age: Duration::ZERO, promised: None, agent, seq };
    let reports = AgeReports { voter: NodeId(voter), boot: BootId(voter * 10), sessions: vec![report] };
    detector.on_ages(at(0), &reports);
}

#[test]
fn a_voter_that_knows_nothing_of_the_agent_is_not_asked_about_it() {
    let absent = |ms| AgentHeard::Absent(Duration::from_millis(ms));
    let mut detector = detector();
    let heard = |detector: &Detector| detector.health(at(0), SESSION).unwrap().agent;
    hears(&mut detector, 1, 0, AgentHeard::Nothing);
    assert_eq!(heard(&detector), AgentHeard::Nothing);
    hears(&mut detector, 2, 1200, absent(60_000));
    assert_eq!(heard(&detector), absent(60_000));
    hears(&mut detector, 1, 1204, absent(200));
    assert_eq!(heard(&detector), absent(200), "the shortest: it was restarted");
    hears(&mut detector, 3, 7, AgentHeard::Present);
    assert_eq!(
        heard(&detector),
        absent(200),
        "what was heard before it was cut off, its age reset since (R6)"
    );
    hears(&mut detector, 3, 1205, AgentHeard::Present);
    assert_eq!(heard(&detector), AgentHeard::Present, "whoever heard of it last");
}

#[test]
fn the_round_starts_the_moment_a_majority_is_at_w() {
    let mut detector = detector();
    let all = [1, 2, 3].map(NodeId).to_vec();
    assert_eq!(detector.poll(at(0)), [Request::AskAges { voters: all }]);
    report(&mut detector, 5, 1, 1000, None);
    report(&mut detector, 5, 2, 20, None);
    report(&mut detector, 5, 3, 980, None);
    assert_eq!(detector.next_wakeup(at(5)), Duration::from_millis(51), "voter 3 is the second to reach 1031");
    assert_eq!(detector.poll(at(55)), []);
    let voters = vec![NodeId(1), NodeId(3)];
    assert_eq!(detector.poll(at(56)), [Request::AskPromise { voters: voters.clone(), request: request() }]);
    assert_eq!(detector.poll(at(57)), [], "they are given time to answer");
    assert_eq!(detector.poll(at(106)), [Request::AskPromise { voters, request: request() }]);
}

#[test]
fn a_leader_that_is_cut_off_asks_nobody_not_even_itself() {
    let mut detector = detector();
    (1..=3).for_each(|voter| report(&mut detector, 0, voter, 40, None));
    // From here on only its own voter answers.
    for now in (100..5000).step_by(20) {
        report(&mut detector, now, 1, 40 + now, None);
        let asks = |request: &Request| matches!(request, Request::AskPromise { .. });
        assert!(!detector.poll(at(now)).iter().any(asks), "{now} ms");
    }
    report(&mut detector, 5000, 2, 5040, None);
    let voters = [1, 2, 3].map(NodeId).to_vec();
    assert!(detector.poll(at(5001)).contains(&Request::AskPromise { voters, request: request() }));
}

#[test]
fn a_session_of_the_former_timing_is_given_up_at_w_all_the_same() {
    let mut detector = detector();
    detector.timing_applied(Timing::WAN);
    detector.poll(at(0));
    (1..=3).for_each(|voter| report(&mut detector, 0, voter, 0, None));
    let asks = |requests: Vec<Request>| requests.iter().any(|r| matches!(r, Request::AskPromise { .. }));
    assert!(!asks(detector.poll(at(1030))));
    assert!(asks(detector.poll(at(1031))), "polls are further apart than its W");
}

#[test]
fn fresh_leases_are_asked_about_before_they_could_be_overdue() {
    let mut detector = detector();
    detector.poll(at(0));
    (1..=3).for_each(|voter| report(&mut detector, 0, voter, 40, None));
    assert_eq!(detector.next_wakeup(at(0)), Duration::from_millis(210), "40 ms now, 250 ms then");
    assert_eq!(detector.poll(at(209)), []);
    assert_eq!(detector.poll(at(210)).len(), 1);
    assert_eq!(detector.next_wakeup(at(210)), Duration::from_millis(125), "no longer fresh: the usual pace");
}

#[test]
fn a_majority_of_promises_of_current_boots_is_a_close() {
    let mut detector = detector();
    detector.poll(at(0));
    detector.on_promise(promise(1, 10));
    detector.on_promise(promise(2, 19));
    detector.on_promise(Promise { membership: MembershipId(4), ..promise(3, 30) });
    assert_eq!(detector.poll(at(1)), [], "one is of an old boot, one of an old membership");
    detector.on_promise(promise(3, 30));
    let promises = vec![(NodeId(1), BootId(10)), (NodeId(3), BootId(30))];
    let close = CloseSession { session: SESSION, membership: MembershipId(5), reopens: Reopens(0), promises };
    assert_eq!(detector.poll(at(2)), [Request::Close(close.clone())]);
    assert_eq!(detector.poll(at(3)), []);
    let again = detector.poll(at(2 + 500));
    assert!(again.contains(&Request::Close(close)), "until it is applied");
    detector.session_closed(SESSION);
    assert!(detector.health(at(600), SESSION).is_none());
}

#[test]
fn a_change_of_membership_voids_the_promises() {
    let mut detector = detector();
    detector.poll(at(0));
    detector.on_promise(promise(1, 10));
    detector.on_promise(promise(3, 30));
    detector.membership_applied(Membership::uniform(MembershipId(6), [1, 2, 3].map(NodeId)));
    assert_eq!(detector.poll(at(1)), []);
}

#[test]
fn who_was_given_up_by_a_minority_is_taken_back() {
    let mut detector = detector();
    detector.poll(at(0));
    report(&mut detector, 0, 1, 1500, Some(0));
    report(&mut detector, 0, 2, 10, None);
    assert_eq!(detector.poll(at(1)), [], "two voters are not heard of yet");
    report(&mut detector, 1, 3, 30, None);
    assert_eq!(detector.poll(at(2)), [Request::Reopen { session: SESSION, to: Reopens(1) }]);
    assert_eq!(detector.poll(at(3)), []);
    detector.session_reopened(SESSION, Reopens(1));
    assert_eq!(detector.poll(at(4)), []);
}

#[test]
fn a_refusal_corrects_the_age() {
    let mut detector = detector();
    detector.poll(at(0));
    (1..=3).for_each(|voter| report(&mut detector, 0, voter, 1031, None));
    assert_eq!(detector.poll(at(0)).len(), 1);
    let wait = Duration::from_millis(1000);
    (1..=2).for_each(|voter| {
        detector.on_refusal(at(1), NodeId(voter), SESSION, Refusal::TooYoung { wait });
    });
    assert_eq!(detector.poll(at(60)), []);
    assert!(!detector.overdue(at(60), SESSION));
}

#[test]
fn a_session_is_overdue_from_a_third_of_its_ttl() {
    let mut detector = detector();
    assert!(!detector.membership_change_allowed(at(0)), "nothing is known yet");
    for (voter, age_ms) in [(1, 40), (2, 60), (3, 900)] {
        report(&mut detector, 0, voter, age_ms, None);
    }
    let health = detector.health(at(100), SESSION).expect("open");
    assert_eq!(health.lease_age, Some(Duration::from_millis(160)));
    assert_eq!(health.headroom, Duration::from_millis(840));
    assert!(detector.membership_change_allowed(at(100)));
    assert!(detector.overdue(at(300), SESSION));
    assert!(!detector.membership_change_allowed(at(300)));
}
