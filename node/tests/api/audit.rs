//! The audit trail: every change and every refusal, with who, from where, what and the outcome.

use std::time::Duration;

use muster_core::command::{Role, UserRole};
use muster_proto::v1;
use muster_proto::v1::cluster_client::ClusterClient;
use muster_proto::v1::joining_client::JoiningClient;
use muster_proto::v1::node_link_client::NodeLinkClient;
use muster_proto::v1::{ActorRole, AuditOutcome, AuditRecord};
use tonic::Code;
use tonic::transport::Channel;

use crate::solo::{Solo, exec_service, meta};

/// What the trail says in this time is what it says.
const PATIENCE: Duration = Duration::from_secs(20);

async fn read(channel: Channel, request: v1::ReadAuditRequest) -> v1::ReadAuditReply {
    ClusterClient::new(channel).read_audit(request).await.unwrap().into_inner()
}

/// The record of that verb, code and actor, once there is one.
async fn record(solo: &Solo, verb: &str, code: &str, actor: &str) -> AuditRecord {
    let found = async {
        loop {
            let records = read(solo.local(), v1::ReadAuditRequest::default()).await.records;
            let is_it = |record: &AuditRecord| {
                record.verb == verb && record.code == code && who(record).starts_with(actor)
            };
            if let Some(record) = records.into_iter().rev().find(is_it) {
                return record;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, found).await;
    found.unwrap_or_else(|_| panic!("the trail has no '{verb}' {code} of {actor}"))
}

fn who(record: &AuditRecord) -> String {
    let actor = record.actor.clone().unwrap_or_default();
    format!("{} {} {} {}", actor.name, actor.role().as_str_name(), actor.from, actor.via)
}

fn apply(name: &str, if_revision: Option<u64>) -> v1::ApplyRequest {
    v1::ApplyRequest { services: vec![exec_service(name, &[])], if_revision, ..Default::default() }
}

#[tokio::test]
async fn changes_conflicts_and_refusals_are_told_with_all_that_is_known() {
    let solo = Solo::start().await;
    solo.record_calls();
    let uid = nix::unistd::geteuid().as_raw();
    let local = format!("operator uid {uid}");
    let before = solo.revision();
    let applied = solo.cluster().apply(apply("db", None)).await.unwrap().into_inner().revision;
    let change = record(&solo, "service apply", "", &local).await;
    assert_eq!((change.revision, change.before, change.target.as_str()), (applied, before, "db"));
    assert_eq!((change.outcome(), change.count), (AuditOutcome::Applied, 1));
    assert_eq!(who(&change), format!("{local} ACTOR_ROLE_LOCAL local socket uid {uid} n1"));

    let alice = solo.with(solo.user("alice", UserRole::Operator).await);
    let conflict = ClusterClient::new(alice.clone()).apply(apply("db", Some(1))).await.unwrap_err();
    // The same declaration conflicts with nothing; another one does.
    assert_ne!(meta(&conflict, "muster-code"), "");
    let told = record(&solo, "service apply", "MU1021", "user alice").await;
    assert_eq!(told.outcome(), AuditOutcome::Refused);
    assert_eq!(who(&told), "user alice ACTOR_ROLE_OPERATOR 127.0.0.1 n1");
    assert!(told.target.contains("if-revision=1") && told.message.contains("since revision 1"), "{told:?}");

    let bad = v1::ApplyRequest { services: vec![v1::ServiceSpec::default()], ..Default::default() };
    let refused = ClusterClient::new(alice.clone()).apply(bad).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let told = record(&solo, "service apply", meta(&refused, "muster-code").as_str(), "user alice").await;
    assert_eq!((told.outcome(), told.count), (AuditOutcome::Refused, 1));
    assert_eq!(told.message, refused.message());

    let denied = ClusterClient::new(alice).create_token(v1::CreateTokenRequest::default()).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    let told = record(&solo, "token create", "MU2030", "user alice").await;
    assert!(told.message.contains("needs the role admin"), "{told:?}");
    assert_eq!(who(&told), "user alice ACTOR_ROLE_OPERATOR 127.0.0.1 n1");
    solo.stop().await;
}

#[tokio::test]
async fn strangers_are_told_in_one_line_and_viewers_do_not_read_it() {
    let solo = Solo::start().await;
    solo.record_calls();
    for _ in 0..20 {
        let refused = ClusterClient::new(solo.stranger()).apply(apply("db", None)).await.unwrap_err();
        assert_eq!(meta(&refused, "muster-code"), "MU2030");
    }
    let wrong = v1::JoinRequest { token: "muster1.x.y.z".into(), name: "n2".into(), ..Default::default() };
    JoiningClient::new(solo.stranger()).join(wrong).await.unwrap_err();
    let stranger = "somebody without a certificate";
    let told = record(&solo, "service apply", "MU2030", stranger).await;
    assert!(told.count >= 1 && told.actor.as_ref().unwrap().role() == ActorRole::None);
    record(&solo, "join", "MU1008", stranger).await;
    let lines = read(solo.local(), v1::ReadAuditRequest::default()).await.records;
    let lines = lines.iter().filter(|record| record.verb == "service apply").count();
    assert!(lines <= 2, "twenty equal calls are a line or two, not {lines}");

    let viewer = solo.with(solo.user("bob", UserRole::Viewer).await);
    let request = v1::ReadAuditRequest::default;
    let refused = ClusterClient::new(viewer).read_audit(request()).await.unwrap_err();
    assert_eq!(meta(&refused, "muster-code"), "MU2030");
    record(&solo, "audit", "MU2030", "user bob ACTOR_ROLE_VIEWER").await;
    let operator = solo.with(solo.user("carol", UserRole::Operator).await);
    assert!(!read(operator, request()).await.records.is_empty());
    solo.stop().await;
}

#[tokio::test]
async fn a_member_that_says_it_speaks_for_others_is_told_where_it_speaks_for_itself() {
    let solo = Solo::start().await;
    solo.record_calls();
    let (_, credentials) = solo.node("n2", Role::Auto).await;
    let mut link = NodeLinkClient::new(solo.with(credentials));
    let ask = v1::GetSecretsRequest { sender: Some(solo.sender()), ..Default::default() };
    let mut as_another = tonic::Request::new(ask);
    as_another.metadata_mut().insert("muster-forwarded", "1".parse().unwrap());
    let refused = link.get_secrets(as_another).await.unwrap_err();
    assert_eq!(meta(&refused, "muster-code"), "MU2033");
    let told = record(&solo, "secret read", "MU2033", "node n2").await;
    assert_eq!(told.actor.unwrap().via, "n1");
    solo.stop().await;
}

#[tokio::test]
async fn the_trail_is_read_in_pages_and_holds_no_secret() {
    let solo = Solo::start().await;
    let mut api = solo.cluster();
    let token = api.create_token(v1::CreateTokenRequest { uses: 1, ..Default::default() }).await.unwrap();
    let token = token.into_inner();
    let secret = "hunter2";
    let note = |key: &str| v1::AnnotateRequest {
        service: "db".into(),
        key: key.into(),
        value: Some(secret.into()),
        ..Default::default()
    };
    api.apply(apply("db", None)).await.unwrap();
    for at in 0..5 {
        api.annotate(note(&format!("key{at}"))).await.unwrap();
    }
    let all = read(solo.local(), v1::ReadAuditRequest::default()).await;
    assert!(!all.more && all.missing == 0, "{} {}", all.more, all.missing);
    let text = format!("{all:?}");
    assert!(text.contains("db key4=") && text.contains(&token.id), "{text}");
    assert!(!text.contains(secret) && !text.contains(&token.token), "{text}");

    let mut pages = Vec::new();
    let mut request = v1::ReadAuditRequest { limit: 3, ..Default::default() };
    loop {
        let page = read(solo.local(), request).await;
        let last = page.records.last().expect("a page is not empty while there is more");
        (request.after_revision, request.after_sequence) = (last.revision, last.sequence);
        pages.extend(page.records);
        if !page.more {
            break;
        }
    }
    assert_eq!(pages, all.records);
    let latest = v1::ReadAuditRequest { limit: 2, latest: true, ..Default::default() };
    let latest = read(solo.local(), latest).await.records;
    assert_eq!(latest, all.records[all.records.len() - 2..]);
    let later = v1::ReadAuditRequest { since_ms: Some(u64::MAX), ..Default::default() };
    assert!(read(solo.local(), later).await.records.is_empty());
    solo.stop().await;
}
