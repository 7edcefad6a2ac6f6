//! New certificates and new CAs, while connections stand.

use muster_core::id::NodeId;
use muster_tls::{Authority, Certificate, Credentials, Expected, Identity, KeyPair, Live, Subject, Trust};

use crate::scene::{Scene, Server, node, now};

#[tokio::test]
async fn a_renewal_drops_no_connection_and_counts_for_the_next() {
    let scene = Scene::new();
    let server = scene.serve(&scene.credentials(node(1), 1)).await;
    let client = scene.live(node(2), 2);
    let mut open = server.connect(client.clone(), Expected::Node(NodeId(1))).await.unwrap();
    assert_eq!(server.next().await.unwrap().unwrap().certificate.0, 2);
    server.live.replace(scene.credentials(node(1), 50)).unwrap();
    client.replace(scene.credentials(node(2), 60)).unwrap();
    open.echo().await.unwrap();
    let again = server.connect(client, Expected::Node(NodeId(1))).await.unwrap();
    assert_eq!(
        server.next().await.unwrap().unwrap().certificate.0,
        60,
        "no session of the old one is resumed"
    );
    let shown = again.0.get_ref().1.peer_certificates().unwrap()[0].clone();
    assert_eq!(Certificate::from_der(&shown).unwrap().identity().unwrap().certificate.0, 50);
    open.echo().await.unwrap();
}

#[tokio::test]
async fn a_session_is_resumed_without_forgetting_who_it_is() {
    let scene = Scene::new();
    let server = scene.serve(&scene.credentials(node(1), 1)).await;
    let client = scene.live(node(2), 2);
    for resumed in [false, true] {
        let open = server.connect(client.clone(), Expected::Node(NodeId(1))).await.unwrap();
        let kind = open.0.get_ref().1.handshake_kind().unwrap();
        assert_eq!(kind == rustls::HandshakeKind::Resumed, resumed);
        assert_eq!(server.next().await.unwrap().unwrap().subject, node(2));
    }
}

/// Credentials signed by a CA, with the CAs to show and those to trust.
fn signed(
    by: &Authority,
    scene: &Scene,
    subject: Subject,
    shown: &[&Certificate],
    trusted: &[&Certificate],
) -> Live {
    let template = scene.credentials(subject, 70);
    let identity: &Identity = template.identity();
    let key = KeyPair::generate().unwrap();
    let leaf = by.sign(&key.request().unwrap(), identity).unwrap();
    let chain = std::iter::once(leaf).chain(shown.iter().copied().cloned()).collect();
    let trust = Trust::new(scene.cluster, trusted.iter().copied().cloned().collect());
    Live::new(Credentials::new(key, chain, trust).unwrap()).unwrap()
}

#[tokio::test]
async fn while_the_ca_is_replaced_old_and_new_know_each_other() {
    let scene = Scene::new();
    let old = &scene.authority;
    let new = Authority::generate(scene.cluster, now()).unwrap();
    let introduced = new.introduced_by(old, scene.cluster, now()).unwrap();
    let (old_ca, new_ca) = (old.certificate(), new.certificate());
    // Has not heard of the new CA yet.
    let behind = || signed(old, &scene, node(1), &[old_ca], &[old_ca]);
    // Has heard of it, and has a certificate of it.
    let ahead = || signed(&new, &scene, node(1), &[&introduced, old_ca], &[old_ca, new_ca]);
    // The old one is gone for it.
    let done = || signed(&new, &scene, node(1), &[new_ca], &[new_ca]);
    for (server, client, fits) in [
        (behind(), ahead(), true),
        (ahead(), behind(), true),
        (ahead(), done(), true),
        (done(), ahead(), true),
        (done(), behind(), false),
        (behind(), done(), false),
    ] {
        let server = Server::start(server).await;
        let connected = server.connect(client, Expected::AnyNode).await;
        assert_eq!(connected.is_ok(), fits, "{connected:?}");
    }
    // Tokens of both CAs work until the old one is gone.
    let server = Server::start(ahead()).await;
    for authority in [old, &new] {
        let pinned = muster_tls::Pinned::new(authority.certificate().pin()).unwrap();
        muster_tls::SecureConnector::pinned(&pinned, &server.address).connect().await.unwrap();
    }
}
