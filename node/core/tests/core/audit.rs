//! The audit trail, as `apply` keeps it.

use muster_core::audit::{
    Actor, ActorRole, AuditOutcome, KEPT_CHANGES, KEPT_REFUSALS, MAX_CALLS, MAX_TEXT_BYTES, RecordedCall,
    RecordedCalls,
};
use muster_core::command::{Command, NodeChange, Proposal, UserRole};
use muster_core::id::{NodeId, RequestId, Revision, ServiceName};
use muster_core::spec::Mode;
use muster_core::state::State;
use muster_core::state::apply::Outcome;
use muster_core::time::Stamp;

use crate::world::World;

fn alice() -> Actor {
    Actor {
        name: "user alice".to_owned(),
        role: ActorRole::User(UserRole::Operator),
        from: "10.0.0.9".to_owned(),
        via: "n2".to_owned(),
    }
}

fn by(world: &mut World, actor: Actor, request: RequestId, command: Command) -> Outcome {
    let at = world.next();
    world.state.apply(at, &Proposal { stamp: world.now, request, actor, command })
}

fn cordon(node: u64) -> Command {
    Command::ChangeNode { node: NodeId(node), change: NodeChange::Cordon(true) }
}

/// What each record says: revision, before, who, what, how, code.
fn told(state: &State) -> Vec<String> {
    let line = |record: &std::sync::Arc<muster_core::audit::AuditRecord>| {
        format!("{} {} {} {}", record.verb, record.target, record.outcome.as_str(), record.code)
            .trim_end()
            .to_owned()
    };
    state.audit.records().map(line).collect()
}

fn call(verb: &str, at: u64) -> RecordedCall {
    RecordedCall {
        time: Stamp(at),
        before: Revision(3),
        actor: Actor { via: "somebody else".to_owned(), ..alice() },
        verb: verb.to_owned(),
        target: String::new(),
        refused: Some(("MU2030".to_owned(), "it needs the role admin".to_owned())),
        count: 5,
    }
}

#[test]
fn a_change_is_kept_with_who_from_where_what_and_both_revisions() {
    let mut world = World::new(1, 1);
    let (before, at) = (world.state.revision, world.next());
    let outcome = by(&mut world, alice(), RequestId::default(), cordon(1));
    let [record] = outcome.audit.as_slice() else { panic!("{:?}", outcome.audit) };
    assert_eq!((record.before, record.revision, record.time), (before, at, world.now));
    assert_eq!(
        (&record.actor, record.verb.as_str(), record.target.as_str()),
        (&alice(), "node cordon", "n1")
    );
    assert_eq!((record.outcome, record.code.as_str(), record.count), (AuditOutcome::Applied, "", 1));
    let again = by(&mut world, alice(), RequestId::default(), cordon(1)).audit;
    assert_eq!(again[0].outcome, AuditOutcome::Unchanged);
    let refused = by(&mut world, alice(), RequestId::default(), cordon(99)).audit;
    assert_eq!((refused[0].outcome, refused[0].code.as_str()), (AuditOutcome::Refused, "MU1003"));
    assert_eq!(refused[0].message, "there is no node #99");
}

#[test]
fn what_is_named_is_named_as_it_was_before_the_change() {
    let mut world = World::new(2, 1);
    let node = *world.state.nodes.keys().next_back().unwrap();
    let session = world.state.session_of(node).unwrap().id;
    let plan = muster_core::scheduler::plan::Plan { base: world.state.topology, actions: Vec::new() };
    world.must(Command::Fenced { session, plan });
    let name = world.state.name_of(node);
    let outcome = by(&mut world, alice(), RequestId::default(), Command::RemoveNode { node });
    assert!(outcome.reply.is_ok(), "{:?}", outcome.reply);
    assert_eq!(outcome.audit[0].target, name);
}

#[test]
fn a_retry_is_one_line_and_what_the_cluster_does_by_itself_is_none() {
    let mut world = World::new(1, 1);
    let request = RequestId { client: 7, seq: 1 };
    let first = by(&mut world, alice(), request, cordon(1)).audit.len();
    let retried = by(&mut world, alice(), request, cordon(1)).audit.len();
    assert_eq!((first, retried), (1, 0));
    let lines = told(&world.state);
    let founding = ["cluster init test applied", "token create t role=auto uses=4294967295 applied"];
    assert_eq!(lines[..2], founding);
    assert_eq!(lines[2..], ["node cordon n1 applied"], "no sessions, no voters, no plans");
}

#[test]
fn arguments_are_kept_and_secrets_are_not() {
    let mut world = World::new(1, 1);
    let db = ServiceName::new("db").unwrap();
    world.put(crate::world::spec("db", Mode::Exclusive));
    let key = "owner".to_owned();
    let note = |value| Command::AnnotateService { service: db.clone(), key: key.clone(), value };
    by(&mut world, alice(), RequestId::default(), note(Some("hunter2".to_owned())));
    by(&mut world, alice(), RequestId::default(), note(None));
    let text = format!("{:?}", world.state.audit);
    assert!(!text.contains("hunter2"), "{text}");
    let lines = told(&world.state);
    let last = &lines[lines.len() - 3..];
    assert_eq!(
        last,
        [
            "service apply db applied",
            "service annotate db owner= applied",
            "service annotate db owner- applied"
        ]
    );
}

#[test]
fn both_rings_are_bounded_and_refusals_push_no_change_out() {
    let mut world = World::new(1, 1);
    by(&mut world, alice(), RequestId::default(), cordon(1));
    for _ in 0..2 * KEPT_REFUSALS {
        by(&mut world, alice(), RequestId::default(), cordon(99));
    }
    assert!(told(&world.state).contains(&"node cordon n1 applied".to_owned()));
    let (changes, refusals) = world.state.audit.totals();
    assert_eq!(refusals, 2 * KEPT_REFUSALS as u64);
    assert_eq!(world.state.audit.records().count() as u64, changes + KEPT_REFUSALS as u64);
    for _ in 0..2 * KEPT_CHANGES {
        by(&mut world, alice(), RequestId::default(), cordon(1));
    }
    assert_eq!(world.state.audit.records().count(), KEPT_CHANGES + KEPT_REFUSALS);
}

#[test]
fn what_an_agent_hands_in_is_bounded_and_bears_its_name() {
    let mut world = World::new(1, 1);
    let long = RecordedCall { target: "ä".repeat(10_000), time: Stamp(u64::MAX), ..call("token create", 5) };
    let mut calls = vec![call("drain", 5), long];
    calls.extend((0..MAX_CALLS).map(|_| call("drain", 6)));
    let told = Command::RecordCalls(RecordedCalls { node: NodeId(1), calls: calls.clone() });
    let outcome = by(&mut world, Actor::agent("n1"), RequestId::default(), told);
    let records = outcome.audit;
    assert_eq!(records.len(), MAX_CALLS);
    assert!(records.iter().enumerate().all(|(at, record)| record.sequence as usize == at));
    assert!(records.iter().all(|record| record.actor.via == "n1" && record.actor.name == "user alice"));
    assert_eq!((records[0].time, records[0].before, records[0].count), (Stamp(5), Revision(3), 5));
    assert_eq!(records[1].time, world.now, "no clock puts a call into the future");
    assert!(records[1].target.len() <= MAX_TEXT_BYTES);
    // What was done without a command is a change.
    let done = RecordedCall { refused: None, ..call("raft transfer-leader", 5) };
    let told = Command::RecordCalls(RecordedCalls { node: NodeId(1), calls: vec![done] });
    let outcome = by(&mut world, Actor::agent("n1"), RequestId::default(), told);
    assert_eq!(outcome.audit[0].outcome, AuditOutcome::Applied);
    // A worker does nothing for others: no change is taken from it.
    let worker = world.add_worker();
    let done = RecordedCall { refused: None, ..call("raft transfer-leader", 5) };
    let told = Command::RecordCalls(RecordedCalls { node: worker, calls: vec![done, call("drain", 5)] });
    let outcome = by(&mut world, Actor::agent("w"), RequestId::default(), told);
    assert_eq!(outcome.audit.len(), 1);
    assert_eq!((outcome.audit[0].outcome, outcome.audit[0].verb.as_str()), (AuditOutcome::Refused, "drain"));
    // A node that has left has no say.
    let told = Command::RecordCalls(RecordedCalls { node: NodeId(77), calls });
    let outcome = by(&mut world, Actor::agent("n77"), RequestId::default(), told);
    assert!(outcome.reply.is_err() && outcome.audit.is_empty());
}
