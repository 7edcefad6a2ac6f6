//! Requests of operators and agents: protobuf → core → validation, and what the planner makes of them.
//!
//! The first byte says which message the others are. How the server itself takes messages over a connection is tested
//! in `node/tests/api/hostile.rs`, with the same bytes.

use std::sync::OnceLock;
use std::time::Duration;

use muster_core::scheduler::{drain_preview, explain_service, plan_for_services, survive};
use muster_core::spec::{Mode, ServiceSpec};
use muster_core::state::State;
use muster_proto::v1;
use prost::Message;

use super::scene;

fn cluster() -> &'static State {
    static CLUSTER: OnceLock<State> = OnceLock::new();
    CLUSTER.get_or_init(scene::cluster)
}

/// The message of that kind, if the bytes are one.
fn decode<M: Message + Default + PartialEq>(bytes: &[u8]) -> Option<M> {
    let message = M::decode(bytes).ok()?;
    let again = M::decode(message.encode_to_vec().as_slice()).expect("what was written can be read");
    // A message with a NaN in it would differ from itself; there are no floats in Muster's.
    assert!(again == message, "a message that is written and read is another one");
    Some(message)
}

pub(super) fn body(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 8 {
        0 => drop(decode::<v1::ApplyRequest>(bytes).map(declare)),
        1 => drop(decode::<v1::SetTimingRequest>(bytes).map(|request| {
            request.timing.map(|timing| {
                let timing = muster_wire::timing_from_proto(&timing);
                let known = timing.validated();
                drop(known.map_err(|error| error.to_string()));
            })
        })),
        2 => drop(decode::<v1::DrainRequest>(bytes).map(|request| drain(&request))),
        3 => drop(decode::<v1::SimulateRequest>(bytes).map(|request| lose(&request))),
        4 => drop(decode::<v1::ForwardRequest>(bytes).map(|request| {
            passed_on(&request.proposal);
        })),
        5 => drop(decode::<v1::JoinRequest>(bytes).map(|request| {
            let _pin = muster::token::pin(&request.token);
            request.description.map(muster_wire::description_from_proto)
        })),
        6 => drop(decode::<v1::AppendRequest>(bytes)),
        _ => drop(decode::<v1::ActOnNodeRequest>(bytes)),
    }
}

/// What an agent outside Raft gets to see of an entry: all but keys.
fn passed_on(entry: &[u8]) {
    use v1::proposal::Command;
    let hidden = muster_wire::redact_proposal(entry);
    if muster_wire::decode_proposal(entry).is_ok() {
        let seen = v1::Proposal::decode(hidden).expect("what is hidden does not make it unreadable");
        match seen.command {
            Some(Command::OpenSession(open)) => assert!(open.key.is_empty(), "a session's key is passed on"),
            Some(Command::AddAuthority(new)) => assert!(new.key.is_empty(), "a CA's key is passed on"),
            _ => {}
        }
    }
}

fn declare(request: v1::ApplyRequest) {
    let mut specs: Vec<ServiceSpec> = Vec::new();
    for message in request.services {
        let Ok(spec) = muster_wire::spec_from_proto(message) else { return };
        assert_eq!(
            muster_wire::spec_from_proto(muster_wire::spec_to_proto(&spec)).ok().as_ref(),
            Some(&spec)
        );
        if let Err(error) = muster_core::spec::validate::check(&spec) {
            assert!(!error.to_string().is_empty() && !error.remedy.is_empty());
            return;
        }
        specs.push(spec);
    }
    let state = cluster();
    if plan_for_services(state, &specs, scene::NOW).is_ok() {
        for spec in &specs {
            drop(explain_service(state, &spec.name, scene::NOW));
        }
    }
}

fn drain(request: &v1::DrainRequest) {
    let node = cluster().nodes.values().find(|node| node.name.as_str() == request.node);
    if let Some(node) = node {
        drop(drain_preview(cluster(), node.id, scene::NOW));
    }
}

fn lose(request: &v1::SimulateRequest) {
    let count = usize::try_from(request.survive).unwrap_or(usize::MAX);
    let survival = survive(cluster(), count, scene::NOW);
    assert!(survival.lost.len() <= cluster().nodes.len());
}

/// One of each kind, named by its method.
#[must_use]
pub(super) fn seeds() -> Vec<(String, Vec<u8>)> {
    let service = |name, mode| muster_wire::spec_to_proto(&scene::spec(name, mode));
    let request = Some(v1::RequestId { client: 4, seq: 1 });
    let apply = v1::ApplyRequest {
        request,
        services: vec![service("db", Mode::Exclusive), service("app", Mode::Replicated { count: 2 })],
        if_revision: None,
        dry_run: true,
    };
    let timing = muster_wire::timing_to_proto(&muster_core::time::Timing::LAN);
    let drain = v1::DrainRequest {
        request,
        node: "n2".to_owned(),
        deadline_ms: Some(u64::try_from(Duration::from_secs(9).as_millis()).unwrap_or(0)),
        max_parallel: 1,
        dry_run: true,
    };
    let simulate =
        v1::SimulateRequest { lose_nodes: vec!["n1".to_owned()], survive: 1, ..Default::default() };
    let join = v1::JoinRequest {
        token: "muster1.abcdefgh.abcdefghijkmnpqrstuvwxyz23456789.00112233445566778899aabbccddeeff"
            .to_owned(),
        name: "n9".to_owned(),
        certificate_request: vec![0x30, 0x82, 1, 2].into(),
        ..Default::default()
    };
    let id = Some(v1::RaftLogId { term: 1, index: 2 });
    let append = v1::AppendRequest {
        vote: Some(v1::RaftVote { term: 1, node: 2, committed: true }),
        previous: id,
        committed: id,
        entries: vec![v1::RaftEntry { id, payload: None }],
    };
    let open = muster_core::command::OpenSession {
        node: muster_core::id::NodeId(1),
        guard_boot: muster_core::id::BootId(2),
        key: muster_core::command::SessionKey([3; 32]),
        inventory: Vec::new(),
        enforcement: muster_core::spec::Enforcement::Kernel,
    };
    let proposal = muster_wire::encode_proposal(&muster_core::command::Proposal {
        stamp: scene::NOW,
        request: muster_core::id::RequestId { client: 4, seq: 2 },
        actor: "seed".into(),
        command: muster_core::command::Command::OpenSession(open),
    });
    let label = v1::LabelChange { key: "zone".to_owned(), value: Some("a".to_owned()) };
    let node = v1::ActOnNodeRequest {
        request,
        node: "n1".to_owned(),
        act: Some(v1::act_on_node_request::Act::Label(label)),
    };
    vec![
        seed(0, "apply", &apply),
        seed(1, "timing", &v1::SetTimingRequest { request, timing: Some(timing) }),
        seed(2, "drain", &drain),
        seed(3, "simulate", &simulate),
        seed(4, "forward", &v1::ForwardRequest { sender: None, proposal }),
        seed(5, "join", &join),
        seed(6, "append", &append),
        seed(7, "node", &node),
    ]
}

fn seed(kind: u8, name: &str, message: &impl Message) -> (String, Vec<u8>) {
    let mut bytes = vec![kind];
    bytes.extend(message.encode_to_vec());
    (name.to_owned(), bytes)
}
