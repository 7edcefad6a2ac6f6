//! The API of one agent, called as operators and other agents call it: a cluster of one voter in this process, on
//! loopback. Its agent's part has no guard, so that nothing runs.

#![allow(clippy::unwrap_used, reason = "a step that fails fails the test")]

#[path = "api/access.rs"]
mod access;
#[path = "api/audit.rs"]
mod audit;
#[path = "api/hostile.rs"]
mod hostile;
#[path = "api/secrets.rs"]
mod secrets;
#[path = "api/solo.rs"]
mod solo;

use std::sync::Arc;

use futures::FutureExt;
use muster::office::Office;
use muster_core::id::{MembershipId, NodeId};
use muster_core::lease::membership::Membership;
use muster_core::state::State;
use muster_proto::v1;
use muster_proto::v1::act_on_node_request::Act as NodeAct;
use muster_proto::v1::act_on_service_request::Act as ServiceAct;
use solo::{Solo, exec_service, meta};
use tokio::sync::watch;
use tonic::Code;

#[tokio::test]
async fn status_and_raft_are_linearizable_and_complete() {
    let solo = Solo::start().await;
    let mut api = solo.cluster();
    let status = api.get_status(v1::GetStatusRequest { stale: false }).await.unwrap().into_inner();
    assert_eq!((status.voters, status.voters_alive, status.margin), (1, 1, 0));
    assert_eq!((status.leader.as_str(), status.answered_by.as_str()), ("n1", "n1"));
    let node = &status.nodes[0];
    assert_eq!(
        (node.state.as_str(), node.role.as_str(), node.agent.as_str()),
        ("joining", "voter", "unknown")
    );
    let raft = api.get_raft(v1::GetRaftRequest { stale: false }).await.unwrap().into_inner();
    assert_eq!((raft.state.as_str(), raft.members.len(), raft.joint), ("leader", 1, false));
    solo.stop().await;
}

#[tokio::test]
async fn a_service_is_declared_planned_explained_and_removed() {
    let solo = Solo::start().await;
    let mut api = solo.cluster();
    let apply = |dry_run| v1::ApplyRequest {
        request: Some(v1::RequestId { client: 7, seq: 1 }),
        services: vec![exec_service("db", &["disk"])],
        if_revision: None,
        dry_run,
    };
    let plan = api.apply(apply(true)).await.unwrap().into_inner();
    assert!(plan.plan.as_ref().unwrap().changes);
    assert_eq!(plan.services[0].what, i32::from(v1::declared_service::What::Created));
    assert!(plan.warnings[0].contains("no node has the label 'disk'"), "{:?}", plan.warnings);

    let first = api.apply(apply(false)).await.unwrap().into_inner();
    let retried = api.apply(apply(false)).await.unwrap().into_inner();
    assert_eq!((first.revision, first.services.clone()), (retried.revision, retried.services));
    let again = api.apply(apply(true)).await.unwrap().into_inner();
    assert!(!again.plan.unwrap().changes, "the declaration is the same");

    let listed = api.list_services(v1::ListServicesRequest::default()).await.unwrap().into_inner();
    let status = listed.services[0].status.as_ref().unwrap();
    assert_eq!((status.state.as_str(), status.wanted, status.running), ("unplaced", 1, 0));
    assert!(status.reason.contains("the only node cannot take it: n1 "), "{}", status.reason);
    let explain = v1::ExplainRequest { service: "db".into(), ..Default::default() };
    let explained = api.explain(explain).await.unwrap().into_inner();
    assert_eq!(explained.items[0].refusals[0].node, "n1");

    let act = |act| v1::ActOnServiceRequest { request: None, service: "db".into(), act: Some(act) };
    assert!(api.act_on_service(act(ServiceAct::Wanted(false))).await.unwrap().into_inner().changed);
    assert!(!api.act_on_service(act(ServiceAct::Wanted(false))).await.unwrap().into_inner().changed);
    api.act_on_service(act(ServiceAct::Remove(true))).await.unwrap();
    let gone = api.act_on_service(act(ServiceAct::Restart(true))).await.unwrap_err();
    assert_eq!((gone.code(), meta(&gone, "muster-exit")), (Code::NotFound, "105".into()));
    solo.stop().await;
}

#[tokio::test]
async fn hosts_join_with_tokens_and_are_removed_when_gone() {
    let solo = Solo::start().await;
    let (mut api, mut joining) = (solo.cluster(), solo.joining());
    let token = v1::CreateTokenRequest { uses: 1, ..Default::default() };
    let token = api.create_token(token).await.unwrap().into_inner();
    assert_eq!(token.addresses, [solo.address()]);
    let listed = api.list_tokens(v1::ListTokensRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.tokens[0].id, token.id);

    let key = muster_tls::KeyPair::generate().unwrap();
    let request = key.request().unwrap();
    let join = |name: &str| v1::JoinRequest {
        token: token.token.clone(),
        name: name.to_owned(),
        description: Some(v1::NodeDescription {
            addresses: vec!["127.0.0.1:1".into()],
            ..Default::default()
        }),
        role: v1::Role::Worker.into(),
        certificate_request: request.clone().into(),
        ..Default::default()
    };
    let joined = joining.join(join("n2")).await.unwrap().into_inner();
    let retried = joining.join(join("n2")).await.unwrap().into_inner();
    assert_eq!((joined.node, joined.peers[0].name.as_str()), (retried.node, "n1"));
    let used_up = joining.join(join("n3")).await.unwrap_err();
    assert_eq!((used_up.code(), meta(&used_up, "muster-code")), (Code::PermissionDenied, "MU1010".into()));

    let remove = |node: &str, really: bool| v1::ActOnNodeRequest {
        request: None,
        node: node.to_owned(),
        act: Some(NodeAct::Remove(really)),
    };
    // Who only asks changes nothing, and hears what would become of it.
    assert!(!api.act_on_node(remove("n2", false)).await.unwrap().into_inner().changed);
    assert!(api.act_on_node(remove("n2", true)).await.unwrap().into_inner().changed);
    for really in [false, true] {
        let last = api.act_on_node(remove("n1", really)).await.unwrap_err();
        assert_eq!((meta(&last, "muster-code"), meta(&last, "muster-exit")), ("MU1014".into(), "107".into()));
    }
    solo.stop().await;
}

#[tokio::test]
async fn a_watch_tells_the_past_then_the_present_once() {
    let solo = Solo::start().await;
    let mut api = solo.cluster();
    let label = |value: &str| {
        let change = v1::LabelChange { key: "zone".into(), value: Some(value.to_owned()) };
        v1::ActOnNodeRequest { request: None, node: "n1".into(), act: Some(NodeAct::Label(change)) }
    };
    api.act_on_node(label("a")).await.unwrap();
    let all =
        v1::WatchRequest { since_ms: Some(0), follow: true, node: Some("n1".into()), ..Default::default() };
    let mut events = api.watch(all).await.unwrap().into_inner();
    let mut seen = Vec::new();
    while !seen.iter().any(|e: &v1::Event| e.message.contains("zone = a")) {
        seen.push(events.message().await.unwrap().unwrap());
    }
    api.act_on_node(label("b")).await.unwrap();
    let live = events.message().await.unwrap().unwrap();
    assert!(live.message.contains("zone = b"), "{}", live.message);
    assert!(seen.iter().all(|e| (e.revision, e.seq) < (live.revision, live.seq) && e.node == "n1"));
    solo.stop().await;
}

#[tokio::test]
async fn agents_follow_and_forward_only_within_their_cluster() {
    let solo = Solo::start().await;
    let (mut api, mut link) = (solo.cluster(), solo.link());
    let request = v1::FollowRequest { sender: Some(solo.sender()), after_revision: 0 };
    let mut items = link.follow(request).await.unwrap().into_inner();
    let mut records = 0;
    loop {
        match items.message().await.unwrap().unwrap().item.unwrap() {
            v1::follow_item::Item::Record(_) => records += 1,
            v1::follow_item::Item::SnapshotEnd(_) => break,
            other => panic!("{other:?} inside a snapshot"),
        }
    }
    assert!(records >= 2, "the header and the node");
    api.annotate(v1::AnnotateRequest { service: "none".into(), key: "k".into(), ..Default::default() })
        .await
        .unwrap_err();
    let entry = items.message().await.unwrap().unwrap().item.unwrap();
    assert!(matches!(entry, v1::follow_item::Item::Entry(_)), "a refused write is an entry too: {entry:?}");

    let stranger = v1::Sender { incarnation: 99, ..solo.sender() };
    let request = v1::FollowRequest { sender: Some(stranger), after_revision: 0 };
    assert_eq!(link.follow(request).await.unwrap_err().code(), Code::FailedPrecondition);
    let garbage = v1::ForwardRequest { sender: Some(solo.sender()), proposal: vec![0xff; 8].into() };
    assert_eq!(link.forward(garbage).await.unwrap_err().code(), Code::InvalidArgument);
    let another = v1::Sender { node: 7, ..solo.sender() };
    let request = v1::FollowRequest { sender: Some(another), after_revision: 0 };
    assert_eq!(meta(&link.follow(request).await.unwrap_err(), "muster-code"), "MU2033");
    let leave = link.leave(v1::LeaveRequest {}).await.unwrap_err();
    assert_eq!(leave.code(), Code::PermissionDenied, "only on the local socket");
    solo.stop().await;
}

/// Raft itself goes on to name the leader that it heard of last: one that believed it took every other leader for deposed.
#[tokio::test]
async fn a_node_that_was_taken_out_of_raft_knows_of_no_leader() {
    let solo = Solo::start().await;
    let (me, raft) = (solo.handles.me, solo.handles.raft.clone());
    let with_voters = |voters: &[NodeId]| {
        let membership = Membership::uniform(MembershipId(9), voters.iter().copied());
        Arc::new(State { membership, ..State::default() })
    };
    let (publish, state) = watch::channel(with_voters(&[me]));
    let office = Office::new(me, raft, state);
    let another = NodeId(me.0 + 1);
    assert_eq!(office.leader(), Some(me));
    assert!(office.deposed(another).now_or_never().is_some(), "this node leads, not the other one");
    assert!(office.deposed(me).now_or_never().is_none());
    publish.send_replace(with_voters(&[another]));
    assert_eq!(office.leader(), None);
    assert!(office.deposed(another).now_or_never().is_none(), "it may lead by now");
    publish.send_replace(Arc::new(State::default()));
    assert_eq!(office.leader(), Some(me), "of a cluster in the making only Raft knows");
    solo.stop().await;
}

#[tokio::test]
async fn probes_and_metrics_answer() {
    let solo = Solo::start().await;
    let (code, body) = solo.get("/readyz").await;
    assert!(code == 503 && body.contains("grants no leases"), "{code} {body}");
    solo.announce_voter().await;
    let (code, body) = solo.get("/readyz").await;
    assert_eq!((code, body.as_str()), (200, "ready\n"));
    let (code, body) = solo.get("/metrics").await;
    assert_eq!(code, 200);
    for name in ["muster_raft_term", "muster_quorum_margin", "muster_heartbeats_answered_total"] {
        assert!(body.contains(name), "{name} is missing in\n{body}");
    }
    let (code, body) = solo.get("/v1/status").await;
    assert!(code == 200 && body.contains("\"quorum\""), "{body}");
    assert_eq!(solo.get("/v1/services/none/leader").await.0, 404);
    assert_eq!(solo.get("/").await.0, 200);
    solo.stop().await;
}
