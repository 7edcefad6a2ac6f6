//! Who may do what, over real connections to a real listener: each refusal is told, counted, and without effect.

use std::time::Duration;

use muster_core::command::{CertificateHolder, Command, Role, UserRole};
use muster_core::id::{NodeId, UserName};
use muster_core::time::Stamp;
use muster_proto::v1;
use muster_proto::v1::cluster_client::ClusterClient;
use muster_proto::v1::joining_client::JoiningClient;
use muster_proto::v1::node_link_client::NodeLinkClient;
use muster_proto::v1::raft_client::RaftClient;
use muster_tls::{Authority, KeyPair, Subject};
use prost::Message;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::solo::{self, CLUSTER, Solo, meta};

fn label(node: &str) -> v1::ActOnNodeRequest {
    let change = v1::LabelChange { key: "k".into(), value: Some("v".into()) };
    let act = Some(v1::act_on_node_request::Act::Label(change));
    v1::ActOnNodeRequest { request: None, node: node.to_owned(), act }
}

async fn status(channel: Channel) -> Result<v1::ClusterStatus, Status> {
    let reply = ClusterClient::new(channel).get_status(v1::GetStatusRequest { stale: true }).await;
    reply.map(tonic::Response::into_inner)
}

async fn relabel(channel: Channel) -> Result<(), Status> {
    ClusterClient::new(channel).act_on_node(label("n1")).await.map(drop)
}

async fn create_token(channel: Channel) -> Result<(), Status> {
    ClusterClient::new(channel).create_token(v1::CreateTokenRequest::default()).await.map(drop)
}

fn code<T: std::fmt::Debug>(result: Result<T, Status>) -> String {
    let status = result.expect_err("it should be refused");
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    meta(&status, "muster-code")
}

/// The code of the refusal; a call that runs into the cut of its connection is made again.
async fn shut_out(channel: &Channel) -> String {
    for _try in 0..10 {
        match status(channel.clone()).await {
            Err(cut) if cut.code() == Code::Cancelled || cut.code() == Code::Unavailable => {}
            result => return code(result),
        }
    }
    panic!("no call gets an answer");
}

#[tokio::test]
async fn each_role_may_do_its_part_and_no_more() {
    let solo = Solo::start().await;
    for (role, may) in [
        (UserRole::Viewer, [true, false, false]),
        (UserRole::Operator, [true, true, false]),
        (UserRole::Admin, [true; 3]),
    ] {
        let channel = solo.with(solo.user(role.as_str(), role).await);
        let done = [
            status(channel.clone()).await.map(drop),
            relabel(channel.clone()).await,
            create_token(channel.clone()).await,
        ];
        for (result, may) in done.into_iter().zip(may) {
            if may { result.unwrap() } else { assert_eq!(code(result), "MU2030", "{role:?}") }
        }
        // Between agents, nobody but an agent speaks.
        let sender = Some(solo.sender());
        let follow = v1::FollowRequest { sender: sender.clone(), after_revision: 0 };
        assert_eq!(code(NodeLinkClient::new(channel.clone()).follow(follow).await), "MU2030");
        let relay = v1::RelayFencedRequest { sender, session: 1 };
        assert_eq!(code(NodeLinkClient::new(channel.clone()).relay_fenced(relay).await), "MU2030");
        assert_eq!(code(NodeLinkClient::new(channel).leave(v1::LeaveRequest {}).await), "MU2030");
    }
    assert!(solo.rejections.counts()["call"] >= 3);
    solo.stop().await;
}

#[tokio::test]
async fn without_a_certificate_there_is_only_joining() {
    let solo = Solo::start().await;
    assert_eq!(code(status(solo.stranger()).await), "MU2030");
    assert_eq!(code(relabel(solo.stranger()).await), "MU2030");
    let vote = RaftClient::new(solo.stranger()).vote(v1::VoteRequest::default()).await;
    assert_eq!(code(vote), "MU2030");
    let before = solo.revision();
    let wrong = v1::JoinRequest { token: "muster1.x.y.z".into(), name: "n2".into(), ..Default::default() };
    assert_eq!(code(JoiningClient::new(solo.stranger()).join(wrong).await), "MU1008");
    let forged = muster::token::Token::generate(solo.authority.certificate().pin()).unwrap().text;
    let description = v1::NodeDescription { addresses: vec!["127.0.0.1:1".into()], ..Default::default() };
    let wrong = v1::JoinRequest {
        token: forged,
        name: "n2".into(),
        description: Some(description),
        ..Default::default()
    };
    assert_eq!(code(JoiningClient::new(solo.stranger()).join(wrong).await), "MU1008");
    assert_eq!(solo.revision(), before, "a stranger's try is not even written down");
    let large = v1::JoinRequest { token: "x".repeat(1 << 20), ..Default::default() };
    let refused = JoiningClient::new(solo.stranger()).join(large).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused:?}");
    solo.stop().await;
}

#[tokio::test]
async fn a_user_that_was_revoked_is_out_at_once_with_its_streams() {
    let solo = Solo::start().await;
    let alice = solo.user("alice", UserRole::Admin).await;
    let channel = solo.with(alice);
    let watch = v1::WatchRequest { follow: true, ..Default::default() };
    let mut events = ClusterClient::new(channel.clone()).watch(watch).await.unwrap().into_inner();
    relabel(channel.clone()).await.unwrap();
    assert!(events.message().await.unwrap().is_some());
    let name = UserName::new("alice").unwrap();
    solo.write(Command::RevokeCertificates(CertificateHolder::User(name.clone()))).await;
    let ended = async { while let Ok(Some(_)) = events.message().await {} };
    tokio::time::timeout(Duration::from_secs(5), ended).await.expect("the stream ends");
    assert_eq!(shut_out(&channel).await, "MU2031");
    // A new certificate counts again; without the user none does.
    let again = solo.user("alice", UserRole::Admin).await;
    let channel = solo.with(again);
    status(channel.clone()).await.unwrap();
    solo.write(Command::RemoveUser { name }).await;
    assert_eq!(shut_out(&channel).await, "MU2031");
    solo.stop().await;
}

#[tokio::test]
async fn a_role_that_only_the_certificate_claims_counts_nothing() {
    let solo = Solo::start().await;
    let viewer = solo.user("bob", UserRole::Viewer).await;
    let id = viewer.identity().certificate.0;
    let name = UserName::new("bob").unwrap();
    // Signed by the CA, but never issued: what a stolen CA key could make.
    let forged = solo.credentials(Subject::User { name, role: UserRole::Admin }, id);
    assert_eq!(code(create_token(solo.with(forged)).await), "MU2031");
    let future = Subject::User { name: UserName::new("carol").unwrap(), role: UserRole::Admin };
    let early = status(solo.with(solo.credentials(future, 1_000_000))).await.unwrap_err();
    assert_eq!((early.code(), meta(&early, "muster-exit")), (Code::Unavailable, "75".into()));
    solo.stop().await;
}

#[tokio::test]
async fn certificates_out_of_time_or_of_another_ca_get_no_connection() {
    let solo = Solo::start().await;
    let user = || Subject::User { name: UserName::new("alice").unwrap(), role: UserRole::Admin };
    let now = muster::clock::wall_now();
    let ago = |hours: u64| Stamp(now.0 - hours * 3_600_000);
    let later = |hours: u64| Stamp(now.0 + hours * 3_600_000);
    let impostor = Authority::generate(CLUSTER, now).unwrap();
    let of_impostor = solo::credentials(&impostor, user(), 5);
    let ours = muster_tls::Trust::new(CLUSTER, vec![solo.authority.certificate().clone()]);
    let cases = [
        ("expired", solo::between(&solo.authority, user(), 5, ago(48), ago(24))),
        ("not_yet_valid", solo::between(&solo.authority, user(), 5, later(48), later(72))),
        ("untrusted", of_impostor.trusting(ours).unwrap()),
    ];
    for (reason, credentials) in cases {
        let refused = status(solo.with(credentials)).await.unwrap_err();
        assert!(!meta(&refused, "muster-code").starts_with("MU"), "{reason}: no handler was reached");
        assert!(solo.rejections.counts().contains_key(reason), "{reason}: {:?}", solo.rejections.counts());
    }
    solo.stop().await;
}

#[tokio::test]
async fn a_node_speaks_for_itself_only() {
    let solo = Solo::start().await;
    let (worker, of_worker) = solo.node("w1", Role::Worker).await;
    let (member, of_member) = solo.node("n2", Role::Auto).await;
    let before = solo.revision();
    let up =
        |node: NodeId| Command::VoterUp { voter: node, boot: muster_core::id::BootId(5), replaces: None };
    let fenced = Command::Fenced {
        session: muster_core::id::SessionId(1),
        plan: muster_core::scheduler::plan::Plan { base: muster_core::id::Revision(1), actions: Vec::new() },
    };
    let wish = || Command::RevokeToken { id: "t".to_owned() };
    for (node, credentials, command, allowed) in [
        (worker, &of_worker, up(member), false),
        (worker, &of_worker, wish(), false),
        (worker, &of_worker, fenced.clone(), false),
        (member, &of_member, up(worker), false),
        (member, &of_member, fenced, false),
        (member, &of_member, wish(), true),
        (worker, &of_worker, up(worker), true),
    ] {
        let mut link =
            NodeLinkClient::new(solo.with(solo.credentials(credentials.identity().subject.clone(), node.0)));
        let sender = v1::Sender { node: node.0, ..solo.sender() };
        let proposal = muster_core::command::Proposal {
            stamp: Stamp(0),
            request: muster_core::id::RequestId::default(),
            actor: "somebody else".into(),
            command: command.clone(),
        };
        let request =
            v1::ForwardRequest { sender: Some(sender), proposal: muster_wire::encode_proposal(&proposal) };
        let result = link.forward(request).await;
        if allowed {
            result.unwrap();
        } else {
            assert_eq!(code(result), "MU2033", "{command:?}");
            assert_eq!(solo.revision(), before, "nothing was written");
        }
    }
    // Nor does it speak as another one.
    let mut link = NodeLinkClient::new(solo.with(of_worker));
    let follow = v1::FollowRequest { sender: Some(solo.sender()), after_revision: 0 };
    assert_eq!(code(link.follow(follow).await), "MU2033");
    solo.stop().await;
}

#[tokio::test]
async fn a_worker_passes_no_changes_on_but_its_own() {
    let solo = Solo::start().await;
    let (worker, credentials) = solo.node("w1", Role::Worker).await;
    let channel = solo.with(credentials);
    status(channel.clone()).await.unwrap();
    let passed_on = |mut request: tonic::Request<v1::ActOnNodeRequest>| {
        let metadata = request.metadata_mut();
        metadata.insert("muster-forwarded", "1".parse().unwrap());
        metadata.insert("muster-actor", "user root".parse().unwrap());
        request
    };
    let mut cluster = ClusterClient::new(channel.clone());
    let others = cluster.act_on_node(passed_on(tonic::Request::new(label("n1")))).await;
    assert_eq!(code(others), "MU2033");
    cluster.act_on_node(passed_on(tonic::Request::new(label("w1")))).await.unwrap();
    let latest = v1::ReadAuditRequest { latest: true, limit: 1, ..Default::default() };
    let mut reader = solo.cluster();
    let record = reader.read_audit(latest).await.unwrap().into_inner().records.remove(0);
    let actor = record.actor.unwrap();
    assert_eq!(
        (record.verb.as_str(), actor.name.as_str()),
        ("node label", "node w1"),
        "whatever a worker says"
    );
    assert_eq!(code(create_token(channel.clone()).await), "MU2030");
    let renew = v1::RenewCertificateRequest { name: "root".into(), role: 2, ..Default::default() };
    let mut request = tonic::Request::new(renew);
    request.metadata_mut().insert("muster-forwarded", "1".parse().unwrap());
    assert_eq!(code(ClusterClient::new(channel.clone()).renew_certificate(request).await), "MU2030");
    let vote = RaftClient::new(channel.clone()).vote(v1::VoteRequest::default()).await;
    assert_eq!(code(vote), "MU2030");
    let ages = v1::LeaseAgesRequest {
        sender: Some(v1::Sender { node: worker.0, ..solo.sender() }),
        ..Default::default()
    };
    assert_eq!(code(NodeLinkClient::new(channel).lease_ages(ages).await), "MU2030");
    solo.stop().await;
}

#[tokio::test]
async fn a_raft_peer_shows_the_certificate_of_the_node_that_it_is() {
    let solo = Solo::start().await;
    let (member, credentials) = solo.node("n2", Role::Auto).await;
    let mut raft = RaftClient::new(solo.with(credentials));
    let mut ask = async |from: u64, candidate: u64| {
        let origin = v1::RaftOrigin {
            cluster_id: CLUSTER.0.to_be_bytes().to_vec().into(),
            incarnation: 1,
            from,
            to: 1,
        };
        let vote = Some(v1::RaftVote { term: 99, node: candidate, committed: false });
        let mut request = tonic::Request::new(v1::VoteRequest { vote, pre_vote: true, ..Default::default() });
        let value = tonic::metadata::BinaryMetadataValue::from_bytes(&origin.encode_to_vec());
        request.metadata_mut().insert_bin("muster-origin-bin", value);
        raft.vote(request).await.map(drop).map_err(|status| status.code())
    };
    assert_eq!(ask(member.0, member.0).await, Ok(()));
    assert_eq!(ask(1, 1).await, Err(Code::PermissionDenied));
    assert_eq!(ask(member.0, 1).await, Err(Code::PermissionDenied));
    solo.stop().await;
}

#[tokio::test]
async fn a_removed_node_is_out_at_once() {
    let solo = Solo::start().await;
    let (id, credentials) = solo.node("w1", Role::Worker).await;
    let channel = solo.with(credentials);
    status(channel.clone()).await.unwrap();
    solo.write(Command::RevokeCertificates(CertificateHolder::Node(id))).await;
    assert_eq!(shut_out(&channel).await, "MU2031");
    solo.write(Command::RemoveNode { node: id }).await;
    assert_eq!(shut_out(&channel).await, "MU2031");
    solo.stop().await;
}

#[tokio::test]
async fn a_node_renews_its_certificate_with_its_own_and_comes_back_with_a_token() {
    let solo = Solo::start().await;
    let (id, credentials) = solo.node("w1", Role::Worker).await;
    let key = KeyPair::generate().unwrap();
    let request = key.request().unwrap();
    let sender = Some(v1::Sender { node: id.0, ..solo.sender() });
    let renew = v1::RenewRequest { sender, certificate_request: request.clone().into() };
    let mut link = NodeLinkClient::new(solo.with(credentials));
    let issued = link.renew(renew).await.unwrap().into_inner();
    let issued = muster::security::issue::issued_from_proto(&issued).unwrap();
    let identity = issued.chain[0].identity().unwrap();
    assert_eq!(identity.subject, Subject::Node(id));
    assert!(identity.certificate.0 > id.0);
    // Long after: the certificate has expired, and the host shows that it has the key.
    let now = muster::clock::wall_now();
    let old = solo::between(&solo.authority, Subject::Node(id), id.0, Stamp(0), Stamp(now.0 - 1000));
    let token = solo.cluster().create_token(v1::CreateTokenRequest { uses: 1, ..Default::default() }).await;
    let token = token.unwrap().into_inner().token;
    let come_back = |proof_of: &muster_tls::Credentials, shown: &muster_tls::Credentials, name: &str| {
        let message = muster::api::joining::proven(&request, &token);
        let returning = v1::Returning {
            node: id.0,
            certificate: shown.chain()[0].der().to_vec().into(),
            proof: proof_of.key().prove(&message).unwrap().0.into(),
        };
        v1::JoinRequest {
            token: token.clone(),
            name: name.to_owned(),
            certificate_request: request.clone().into(),
            returning: Some(returning),
            ..Default::default()
        }
    };
    let other = solo::between(&solo.authority, Subject::Node(NodeId(1)), 1, Stamp(0), Stamp(now.0 - 1000));
    let mut joining = solo.joining();
    for wrong in [come_back(&other, &old, "w1"), come_back(&other, &other, "w1"), come_back(&old, &old, "n1")]
    {
        assert_eq!(code(joining.join(wrong).await), "MU2038");
    }
    let reply = joining.join(come_back(&old, &old, "w1")).await.unwrap().into_inner();
    assert_eq!(reply.node, id.0);
    let issued = muster::security::issue::issued_from_proto(&reply.certificates.unwrap()).unwrap();
    assert_eq!(issued.chain[0].identity().unwrap().subject, Subject::Node(id));
    solo.stop().await;
}

#[tokio::test]
async fn a_user_gets_a_certificate_and_renews_it() {
    let solo = Solo::start().await;
    let key = KeyPair::generate().unwrap();
    let issue = v1::IssueUserRequest {
        name: "alice".into(),
        role: v1::UserRole::Viewer.into(),
        certificate_request: key.request().unwrap().into(),
        ..Default::default()
    };
    let issued = solo.cluster().issue_user(issue).await.unwrap().into_inner();
    let of = |key: KeyPair, issued: v1::IssuedUser| {
        let issued = muster::security::issue::issued_from_proto(&issued.certificates.unwrap()).unwrap();
        muster_tls::Credentials::new(key, issued.chain, issued.trust).unwrap()
    };
    let mut alice = ClusterClient::new(solo.with(of(key, issued)));
    let next = KeyPair::generate().unwrap();
    // It cannot make itself somebody else by asking for it.
    let renew = v1::RenewCertificateRequest {
        certificate_request: next.request().unwrap().into(),
        name: "root".into(),
        role: v1::UserRole::Admin.into(),
    };
    let renewed = of(next, alice.renew_certificate(renew).await.unwrap().into_inner());
    let Subject::User { name, role } = renewed.identity().subject.clone() else { panic!("a user's") };
    assert_eq!((name.as_str(), role), ("alice", UserRole::Viewer));
    status(solo.with(renewed)).await.unwrap();
    let listed = solo.cluster().list_certificates(v1::ListCertificatesRequest::default()).await.unwrap();
    let listed = listed.into_inner();
    assert_eq!((listed.authorities.len(), listed.certificates.len(), listed.old.len()), (1, 2, 0));
    solo.stop().await;
}
