//! The CA of all agents of the tests, and a user's context for them.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use muster_core::command::UserRole;
use muster_core::id::{CertificateId, ClusterId, NodeId, UserName};
use muster_core::time::Stamp;
use muster_proto::v1 as pb;
use muster_tls::{Acceptor, Authority, Credentials, Identity, KeyPair, Live, Subject, TlsStream, Trust};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tonic::transport::server::Connected;

const CLUSTER: ClusterId = ClusterId(0x77);

struct World {
    authority: Authority,
    context: PathBuf,
    _directory: tempfile::TempDir,
}

#[expect(clippy::disallowed_methods, reason = "certificates are judged by the real clock")]
fn now() -> Stamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Stamp(u64::try_from(since.as_millis()).unwrap())
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let authority = Authority::generate(CLUSTER, now()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let context = directory.path().join("tester.toml");
        let name = UserName::new("tester").unwrap();
        let tester = credentials(&authority, Subject::User { name, role: UserRole::Admin });
        std::fs::write(&context, tester.to_context(&["127.0.0.1:1".to_owned()])).unwrap();
        World { authority, context, _directory: directory }
    })
}

/// A context file of a user whom all agents of the tests let in.
pub fn context() -> &'static Path {
    &world().context
}

/// That context for another address.
pub fn context_for(endpoint: &str) -> String {
    std::fs::read_to_string(context()).unwrap().replace("127.0.0.1:1\"", &format!("{endpoint}\""))
}

fn sign(authority: &Authority, subject: Subject, request: &[u8]) -> muster_tls::Certificate {
    let ends = now().plus(Duration::from_secs(3600 * 24));
    let identity = Identity { cluster: CLUSTER, subject, certificate: CertificateId(9), begins: now(), ends };
    authority.sign(request, &identity).unwrap()
}

fn credentials(authority: &Authority, subject: Subject) -> Credentials {
    let key = KeyPair::generate().unwrap();
    let own = sign(authority, subject, &key.request().unwrap());
    let trust = Trust::new(CLUSTER, vec![authority.certificate().clone()]);
    Credentials::new(key, vec![own, authority.certificate().clone()], trust).unwrap()
}

/// What an agent answers to a request for a user's certificate.
pub fn issue(name: &str, role: pb::UserRole, request: &[u8]) -> pb::IssuedUser {
    let name = UserName::new(name).unwrap();
    let role = muster_wire::user_role_from_proto(role.into()).unwrap();
    let world = world();
    let own = sign(&world.authority, Subject::User { name, role }, request);
    let ca = world.authority.certificate().der().to_vec();
    pb::IssuedUser {
        certificates: Some(pb::IssuedCertificate {
            chain: vec![own.der().to_vec().into(), ca.clone().into()],
            trusted: vec![ca.into()],
        }),
        id: 9,
        ends_ms: own.ends().0,
        addresses: vec!["127.0.0.1:1".to_owned()],
    }
}

/// The connections of a listener that shook hands as an agent's would.
pub fn secured(listener: TcpListener) -> mpsc::Receiver<io::Result<Io>> {
    let acceptor =
        Acceptor::new(Live::new(credentials(&world().authority, Subject::Node(NodeId(1)))).unwrap());
    let (ready, connections) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, ready) = (acceptor.clone(), ready.clone());
            tokio::spawn(async move {
                if let Ok(accepted) = acceptor.accept(tcp, now()).await
                    && accepted.identity.is_some()
                {
                    drop(ready.send(Ok(Io(accepted.stream))).await);
                }
            });
        }
    });
    connections
}

/// A connection.
pub struct Io(TlsStream<TcpStream>);

impl Connected for Io {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
