//! A toy application on a real Raft node: it remembers every command, in order.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use muster::raft::{
    FatalApply, Frozen, Group, MembershipView, Options, Peer, Position, RaftHandle, RecordReader,
    RecordWriter, Replica, Reply, SnapshotError, StartError, VoterGate,
};
use muster_core::time::Timing;
use tokio::net::TcpListener;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

pub const GROUP: Group = Group { cluster_id: 7, incarnation: 1 };
/// A command that the toy does not know.
pub const UNKNOWN: &[u8] = b"a command of the future";
const PATIENCE: Duration = Duration::from_secs(30);

/// The toy's state, as published.
#[derive(Clone, Default, Debug)]
pub struct Published {
    pub commands: Vec<Bytes>,
    pub membership: MembershipView,
    pub installs: usize,
    pub publishes: usize,
}

#[derive(Default)]
struct Toy {
    commands: Vec<Bytes>,
    membership: MembershipView,
    installs: usize,
    published: Arc<Mutex<Published>>,
}

impl Replica for Toy {
    fn apply(&mut self, at: Position, payload: Bytes) -> Result<Option<Reply>, FatalApply> {
        if payload == UNKNOWN {
            return Err(FatalApply {
                detail: "a later version of Muster wrote it: upgrade this agent".into(),
            });
        }
        self.commands.push(payload);
        Ok(Some(Arc::new((at.index, self.commands.len()))))
    }

    fn apply_membership(&mut self, membership: &MembershipView) {
        self.membership = membership.clone();
    }

    fn apply_blank(&mut self, _: Position) {}

    fn publish(&mut self) {
        let mut published = self.published.lock().unwrap();
        let publishes = published.publishes + 1;
        let (commands, membership) = (self.commands.clone(), self.membership.clone());
        *published = Published { commands, membership, installs: self.installs, publishes };
    }

    fn freeze(&self) -> Box<dyn Frozen> {
        Box::new(FrozenToy(self.commands.clone()))
    }

    fn install(
        &mut self,
        _: Position,
        membership: &MembershipView,
        records: &mut RecordReader,
    ) -> Result<(), SnapshotError> {
        self.commands.clear();
        while let Some(record) = records.next()? {
            self.commands.push(record);
        }
        self.membership = membership.clone();
        self.installs += 1;
        self.publish();
        Ok(())
    }
}

struct FrozenToy(Vec<Bytes>);

impl Frozen for FrozenToy {
    fn write(self: Box<Self>, records: &mut RecordWriter) -> Result<(), SnapshotError> {
        self.0.iter().try_for_each(|command| records.record(command))
    }
}

/// What the log told the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Appended(u64),
    Truncated(Option<u64>),
}

/// A gate that writes down what it is told.
#[derive(Default)]
pub struct Gate(pub Mutex<Vec<Told>>);

impl VoterGate for Gate {
    fn appended_membership(&self, index: u64) {
        self.0.lock().unwrap().push(Told::Appended(index));
    }

    fn truncated(&self, last_unapplied_membership: Option<u64>) {
        self.0.lock().unwrap().push(Told::Truncated(last_unapplied_membership));
    }
}

/// Reaches peers without encryption. Exists in tests alone.
pub struct PlainDial;

impl muster::security::dial::Dial for PlainDial {
    fn dial(
        &self,
        settings: &tonic::transport::Endpoint,
        _address: &str,
        _expected: muster_tls::Expected,
    ) -> tonic::transport::Channel {
        settings.connect_lazy()
    }
}

/// Believes callers who they say they are: what a certificate proves is another test's matter.
fn believe(mut request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
    use muster::security::principal::{Caller, Door, Principal};
    use prost::Message;
    let origin = request.metadata().get_bin("muster-origin-bin").and_then(|value| value.to_bytes().ok());
    if let Some(origin) = origin.and_then(|bytes| muster_proto::v1::RaftOrigin::decode(bytes).ok()) {
        let id = muster_core::id::NodeId(origin.from);
        let certificate = muster_core::id::CertificateId(origin.from);
        let principal = Principal::Node { id, certificate, ends: muster_core::time::Stamp(u64::MAX) };
        request.extensions_mut().insert(Caller { principal, remote: None, uid: None, door: Door::Any });
    }
    Ok(request)
}

/// A running node.
pub struct Node {
    pub id: u64,
    pub address: SocketAddr,
    pub raft: RaftHandle,
    pub gate: Arc<Gate>,
    published: Arc<Mutex<Published>>,
    stop: tokio::sync::oneshot::Sender<()>,
    server: tokio::task::JoinHandle<()>,
}

impl Node {
    /// Starts a node on a loopback port; `address` is for one that comes back.
    pub async fn start(
        id: u64,
        directory: &Path,
        address: Option<SocketAddr>,
        snapshot_every: u64,
    ) -> Result<Self, StartError> {
        Self::start_in(GROUP, id, directory, address, snapshot_every).await
    }

    pub async fn start_in(
        group: Group,
        id: u64,
        directory: &Path,
        address: Option<SocketAddr>,
        snapshot_every: u64,
    ) -> Result<Self, StartError> {
        let address = address.unwrap_or_else(|| "127.0.0.1:0".parse().unwrap());
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let published = Arc::new(Mutex::new(Published::default()));
        let gate = Arc::new(Gate::default());
        let (raft, service) = muster::raft::start(Options {
            id,
            group,
            timing: Timing::LAN,
            directory: directory.to_owned(),
            storage_key: Arc::new(muster::storage::keys::storage_key(directory).unwrap()),
            dialer: Arc::new(PlainDial),
            gate: Arc::clone(&gate) as Arc<dyn VoterGate>,
            replica: Box::new(Toy { published: Arc::clone(&published), ..Toy::default() }),
            snapshot_every,
        })
        .await?;
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = Server::builder()
            .add_service(InterceptedService::new(service.into_server(), believe))
            .serve_with_incoming_shutdown(
                // Without this every answer waits for the peer's delayed acknowledgement.
                TcpIncoming::from(listener).with_nodelay(Some(true)),
                async {
                    drop(stopped.await);
                },
            );
        let server = tokio::spawn(async move { serving.await.unwrap() });
        Ok(Self { id, address, raft, gate, published, stop, server })
    }

    pub fn peer(&self) -> Peer {
        Peer { name: format!("n{}", self.id), addresses: vec![self.address.to_string()] }
    }

    pub fn published(&self) -> Published {
        self.published.lock().unwrap().clone()
    }

    /// Stops Raft in order and lets go of everything.
    pub async fn stop(self) {
        self.raft.shutdown().await;
        self.vanish().await;
    }

    /// Drops the node's server and handle without telling its peers.
    pub async fn vanish(self) {
        self.server.abort();
        drop(self.stop);
        drop(self.server.await);
        self.raft.shutdown().await;
    }
}

/// Waits for something to become true.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "still not so: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The node that leads, once all of these agree on one of themselves.
pub async fn leader(nodes: &[Node]) -> usize {
    let mut found = 0;
    until("a leader is known to all", || {
        let leaders: BTreeSet<_> = nodes.iter().map(|node| node.raft.status().leader).collect();
        let agreed = leaders.len() == 1;
        let Some(Some(id)) = leaders.first() else { return false };
        let Some(position) = nodes.iter().position(|node| node.id == *id) else { return false };
        found = position;
        agreed
    })
    .await;
    found
}

/// Three voters; the first made the cluster.
pub async fn three(directories: &[tempfile::TempDir; 3], snapshot_every: u64) -> Vec<Node> {
    let mut nodes = Vec::new();
    for (id, directory) in (1..).zip(directories) {
        nodes.push(Node::start(id, directory.path(), None, snapshot_every).await.unwrap());
    }
    let first = &nodes[0];
    first.raft.initialize_single(first.peer()).await.unwrap();
    for node in &nodes[1..] {
        first.raft.add_learner(node.id, node.peer()).await.unwrap();
    }
    first.raft.change_voters(BTreeSet::from([1, 2, 3])).await.unwrap();
    nodes
}

/// Proposes on whichever node leads, as a client would.
pub async fn propose(nodes: &[Node], command: Bytes) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        for node in nodes {
            if node.raft.propose(command.clone()).await.is_ok() {
                return;
            }
        }
        assert!(Instant::now() < deadline, "nobody takes the command");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
