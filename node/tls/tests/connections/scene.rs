//! A cluster's CA, and a listener that tells whom it let in.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use muster_core::id::{CertificateId, ClusterId, NodeId};
use muster_core::time::Stamp;
use muster_tls::{
    Acceptor, Authority, ConnectError, Credentials, Expected, Identity, KeyPair, Live, Refused,
    SecureConnector, Subject, Trust,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc};

pub const DAY: Duration = Duration::from_secs(24 * 3600);
/// A test that hangs has failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// A peer that says nothing is given up after this in the tests.
pub const HANDSHAKE: Duration = Duration::from_millis(300);

#[expect(clippy::disallowed_methods, reason = "certificates are judged by the real clock")]
pub fn now() -> Stamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Stamp(u64::try_from(since.as_millis()).unwrap())
}

pub fn node(id: u64) -> Subject {
    Subject::Node(NodeId(id))
}

/// A cluster with its CA.
pub struct Scene {
    pub cluster: ClusterId,
    pub authority: Authority,
}

impl Scene {
    pub fn new() -> Self {
        Self::of(ClusterId(0x1234))
    }

    pub fn of(cluster: ClusterId) -> Self {
        Self { cluster, authority: Authority::generate(cluster, now()).unwrap() }
    }

    pub fn trust(&self) -> Trust {
        Trust::new(self.cluster, vec![self.authority.certificate().clone()])
    }

    /// Credentials that hold from yesterday until tomorrow.
    pub fn credentials(&self, subject: Subject, serial: u64) -> Credentials {
        self.credentials_between(subject, serial, Stamp(now().0 - 86_400_000), now().plus(DAY))
    }

    pub fn credentials_between(
        &self,
        subject: Subject,
        serial: u64,
        begins: Stamp,
        ends: Stamp,
    ) -> Credentials {
        let certificate = CertificateId(serial);
        let identity = Identity { cluster: self.cluster, subject, certificate, begins, ends };
        let key = KeyPair::generate().unwrap();
        let signed = self.authority.sign(&key.request().unwrap(), &identity).unwrap();
        Credentials::new(key, vec![signed, self.authority.certificate().clone()], self.trust()).unwrap()
    }

    pub fn live(&self, subject: Subject, serial: u64) -> Live {
        Live::new(self.credentials(subject, serial)).unwrap()
    }

    pub async fn serve(&self, credentials: &Credentials) -> Server {
        let again = Credentials::from_pem(&credentials.to_pem(), &credentials.trust().to_pem()).unwrap();
        Server::start(Live::new(again).unwrap()).await
    }
}

type Told = Result<Option<Identity>, Refused>;

/// Lets everybody in who may come in, and echoes what they say.
pub struct Server {
    pub address: String,
    pub live: Live,
    told: Mutex<mpsc::Receiver<Told>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub async fn start(live: Live) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let acceptor = Acceptor::new(live.clone()).within(HANDSHAKE);
        let (tell, told) = mpsc::channel(16);
        let task = tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (acceptor, tell) = (acceptor.clone(), tell.clone());
                tokio::spawn(async move {
                    match acceptor.accept(tcp, now()).await {
                        Ok(accepted) => {
                            tell.send(Ok(accepted.identity)).await.unwrap();
                            let (mut read, mut write) = tokio::io::split(accepted.stream);
                            // The client ends it.
                            let _ended = tokio::io::copy(&mut read, &mut write).await;
                        }
                        Err(refused) => tell.send(Err(refused)).await.unwrap(),
                    }
                });
            }
        });
        Self { address, live, told: Mutex::new(told), task }
    }

    /// What became of the next connection.
    pub async fn next(&self) -> Told {
        let mut told = self.told.lock().await;
        tokio::time::timeout(PATIENCE, told.recv()).await.expect("a connection in time").unwrap()
    }

    /// Connects and hears its own word again: with TLS 1.3 a refused client only finds out when it reads.
    pub async fn connect(&self, client: Live, expected: Expected) -> Result<Connection, ConnectError> {
        let stream = SecureConnector::new(client, &self.address, expected).connect().await?;
        let mut connection = Connection(stream);
        connection.echo().await.map_err(ConnectError::Network)?;
        Ok(connection)
    }

    pub async fn plain(&self) -> TcpStream {
        TcpStream::connect(&self.address).await.unwrap()
    }
}

/// An open connection.
#[derive(Debug)]
pub struct Connection(pub muster_tls::ClientStream<TcpStream>);

impl Connection {
    pub async fn echo(&mut self) -> std::io::Result<()> {
        let mut answer = [0; 5];
        self.0.write_all(b"hello").await?;
        tokio::time::timeout(PATIENCE, self.0.read_exact(&mut answer)).await??;
        assert_eq!(&answer, b"hello");
        Ok(())
    }
}
