//! Connections over real sockets on loopback: who is let in, and how everybody else is refused.

#![allow(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod refused;
mod renewed;
mod scene;

use muster_core::command::UserRole;
use muster_core::id::{NodeId, UserName};
use muster_tls::{Expected, Pinned, SecureConnector, Subject};
use scene::{Scene, node};

#[tokio::test]
async fn nodes_and_users_are_known_by_their_certificates() {
    let scene = Scene::new();
    let server = scene.serve(&scene.credentials(node(1), 1)).await;
    let alice = Subject::User { name: UserName::new("alice").unwrap(), role: UserRole::Viewer };
    for (subject, serial) in [(node(2), 2), (alice, 300)] {
        let client = scene.live(subject.clone(), serial);
        server.connect(client, Expected::Node(NodeId(1))).await.unwrap();
        let identity = server.next().await.unwrap().unwrap();
        assert_eq!((identity.subject, identity.certificate.0), (subject, serial));
    }
}

#[tokio::test]
async fn a_stranger_with_the_pin_gets_in_without_a_name() {
    let scene = Scene::new();
    let server = scene.serve(&scene.credentials(node(1), 1)).await;
    let pinned = Pinned::new(scene.authority.certificate().pin()).unwrap();
    SecureConnector::pinned(&pinned, &server.address).connect().await.unwrap();
    assert_eq!(server.next().await.unwrap(), None);
    let other = Pinned::new(muster_tls::Pin::of(b"another CA")).unwrap();
    let error = SecureConnector::pinned(&other, &server.address).connect().await.unwrap_err().to_string();
    assert!(error.contains("not signed by the CA that is trusted here"), "{error}");
}
