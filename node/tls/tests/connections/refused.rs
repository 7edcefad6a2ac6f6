//! Who is refused, and why.

use muster_core::id::{ClusterId, NodeId};
use muster_core::time::Stamp;
use muster_tls::{CertificateError, Credentials, Expected, Live, Refused};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::scene::{DAY, Scene, Server, node, now};

async fn server(scene: &Scene) -> Server {
    scene.serve(&scene.credentials(node(1), 1)).await
}

/// Connects with these credentials; why the server refused them.
async fn refusal(server: &Server, credentials: Credentials) -> CertificateError {
    let client = Live::new(credentials).unwrap();
    server.connect(client, Expected::AnyNode).await.expect_err("it should be refused");
    match server.next().await {
        Err(Refused::Certificate(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_certificate_out_of_its_time() {
    let scene = Scene::new();
    let server = server(&scene).await;
    let yesterday = Stamp(now().0 - 86_400_000);
    // It holds from a day before it begins.
    let after_tomorrow = now().plus(2 * DAY);
    let old = scene.credentials_between(node(2), 2, Stamp(0), yesterday);
    assert_eq!(refusal(&server, old).await, CertificateError::Expired);
    let future = scene.credentials_between(node(2), 2, after_tomorrow, after_tomorrow.plus(DAY));
    assert_eq!(refusal(&server, future).await, CertificateError::NotYetValid);
}

#[tokio::test]
async fn a_certificate_of_another_ca() {
    let (scene, impostor) = (Scene::new(), Scene::new());
    let server = server(&scene).await;
    let forged = impostor.credentials(node(2), 2).trusting(scene.trust()).unwrap();
    assert_eq!(refusal(&server, forged).await, CertificateError::Untrusted);
    // And the other way round: whoever answers in the place of an agent.
    let impostors = impostor.serve(&impostor.credentials(node(1), 1)).await;
    let client = scene.live(node(2), 2);
    let error = impostors.connect(client, Expected::AnyNode).await.unwrap_err().to_string();
    assert!(error.contains("not signed by the CA that is trusted here"), "{error}");
}

#[tokio::test]
async fn a_node_that_is_not_the_expected_one() {
    let scene = Scene::new();
    let server = server(&scene).await;
    let error = server.connect(scene.live(node(2), 2), Expected::Node(NodeId(3))).await.unwrap_err();
    assert_eq!(error.to_string(), "node #1 answers there, not node #3");
}

#[tokio::test]
async fn a_user_in_the_place_of_an_agent() {
    use muster_core::command::UserRole;
    use muster_core::id::UserName;
    let scene = Scene::new();
    let name = UserName::new("mallory").unwrap();
    let user = muster_tls::Subject::User { name, role: UserRole::Admin };
    let impostor = scene.serve(&scene.credentials(user, 9)).await;
    impostor.connect(scene.live(node(2), 2), Expected::AnyNode).await.unwrap_err();
}

#[test]
fn a_certificate_of_another_cluster_by_the_same_key() {
    let scene = Scene::new();
    let credentials = scene.credentials(node(2), 2);
    let other = muster_tls::Trust::new(ClusterId(9), scene.trust().authorities().to_vec());
    let leaf = credentials.chain()[0].der();
    let judged = other.verify(leaf, &[], now(), muster_tls::Usage::Client);
    assert_eq!(judged, Err(CertificateError::OtherCluster));
    assert_eq!(credentials.trusting(other).unwrap_err(), CertificateError::OtherCluster);
}

/// A ClientHello that offers TLS 1.2 and nothing later.
fn hello_of_tls12() -> Vec<u8> {
    let suites: [u8; 4] = [0xc0, 0x2b, 0xc0, 0x2f];
    let extensions: &[u8] = &[
        0, 10, 0, 4, 0, 2, 0, 23, // supported groups: P-256
        0, 13, 0, 4, 0, 2, 4, 3, // signature algorithms: ECDSA with P-256 and SHA-256
    ];
    let length = |n: usize| u16::try_from(n).unwrap().to_be_bytes();
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    body.extend(length(suites.len()));
    body.extend(suites);
    body.extend([1, 0]);
    body.extend(length(extensions.len()));
    body.extend(extensions);
    let mut hello = vec![22, 3, 1];
    hello.extend(length(body.len() + 4));
    hello.extend([1, 0]);
    hello.extend(length(body.len()));
    hello.extend(body);
    hello
}

#[tokio::test]
async fn tls_1_2_and_plain_http_and_garbage() {
    let scene = Scene::new();
    let server = server(&scene).await;
    let talks: [(&str, Vec<u8>); 3] = [
        ("TLS 1.2", hello_of_tls12()),
        ("plain HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("garbage", (0..=255).cycle().take(4096).collect()),
    ];
    for (what, talk) in talks {
        let mut stream = server.plain().await;
        stream.write_all(&talk).await.unwrap();
        let refused = server.next().await.unwrap_err();
        assert!(matches!(refused, Refused::Protocol(_)), "{what}: {refused}");
        let mut answer = Vec::new();
        // An alert at most; then the end, or a reset because of what was not read.
        let _ended = stream.read_to_end(&mut answer).await;
        assert!(answer.len() <= 7, "{what}: {answer:?}");
    }
}

#[tokio::test]
async fn a_peer_that_is_slow_or_goes_away() {
    let scene = Scene::new();
    let server = server(&scene).await;
    let mut slow = server.plain().await;
    slow.write_all(&hello_of_tls12()[..20]).await.unwrap();
    assert!(matches!(server.next().await, Err(Refused::TooSlow)));
    drop(server.plain().await);
    assert!(matches!(server.next().await, Err(Refused::Lost(_))));
}

#[test]
fn a_key_and_a_certificate_that_do_not_match() {
    let scene = Scene::new();
    let (one, two) = (scene.credentials(node(1), 1), scene.credentials(node(2), 2));
    let mixed = Credentials::new(
        muster_tls::KeyPair::from_pem(&one.to_pem()).unwrap(),
        two.chain().to_vec(),
        scene.trust(),
    );
    assert_eq!(mixed.unwrap_err(), CertificateError::KeyMismatch);
}

#[test]
fn a_request_whose_signature_is_not_its_key_s() {
    let scene = Scene::new();
    let mut request = muster_tls::KeyPair::generate().unwrap().request().unwrap();
    let identity = scene.credentials(node(2), 2).identity().clone();
    scene.authority.sign(&request, &identity).unwrap();
    let last = request.len() - 1;
    request[last] ^= 1;
    scene.authority.sign(&request, &identity).unwrap_err();
    scene.authority.sign(b"nonsense", &identity).unwrap_err();
}

#[test]
fn a_proof_by_another_key_or_of_another_message() {
    let scene = Scene::new();
    let (one, two) = (scene.credentials(node(1), 1), scene.credentials(node(2), 2));
    let proof = one.key().prove(b"message").unwrap();
    assert_eq!(proof.check(&one.chain()[0], b"message"), Ok(()));
    assert_eq!(proof.check(&one.chain()[0], b"massage"), Err(CertificateError::NoProof));
    assert_eq!(proof.check(&two.chain()[0], b"message"), Err(CertificateError::NoProof));
}
