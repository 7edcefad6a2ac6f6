//! A cluster of one voter in this process.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use muster::acks::Acks;
use muster::agent;
use muster::agent::guard_door::LocalGuard;
use muster::api;
use muster::clock;
use muster::handles::{Handles, Healths};
use muster::http;
use muster::office::Office;
use muster::peers::{self, Peers};
use muster::proposer::Proposer;
use muster::raft::{self, Group, Peer};
use muster::replica::NodeReplica;
use muster::secrets::Keyring;
use muster::secrets::fetch::Fetcher;
use muster::secrets::keeper::Keeper;
use muster::security::dial::SecureDial;
use muster::security::gate::Gate;
use muster::security::join_rate::JoinRate;
use muster::security::listen::Entrance;
use muster::security::principal::Door;
use muster::security::recorder::Recorder;
use muster::security::rejections::Rejections;
use muster::storage::history::History;
use muster::storage::keys;
use muster::submit::Submit;
use muster_core::command::{
    AddNode, AuthorityKey, Bootstrap, Command, NewAuthority, NewCertificate, NodeDescription, Role,
    TokenGrant, UserRole,
};
use muster_core::id::{BootId, ClusterId, Incarnation, NodeId, NodeName, UserName};
use muster_core::lease::voter::VoterIdentity;
use muster_core::state::State;
use muster_core::time::Timing;
use muster_proto::v1;
use muster_proto::v1::cluster_client::ClusterClient;
use muster_proto::v1::joining_client::JoiningClient;
use muster_proto::v1::node_link_client::NodeLinkClient;
use muster_tls::{Authority, Credentials, Expected, KeyPair, Live, Pinned, SecureConnector, Subject};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

pub const CLUSTER: ClusterId = ClusterId(0x5010);
const ME: NodeId = NodeId(1);
/// A test that hangs has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// The agent and what keeps it alive.
pub struct Solo {
    pub handles: Handles,
    address: String,
    http: String,
    stop: CancellationToken,
    servers: JoinSet<()>,
    pub authority: Authority,
    pub rejections: Rejections,
    _fenced: mpsc::Receiver<muster_core::id::SessionId>,
    _healths: watch::Sender<Healths>,
    _directory: tempfile::TempDir,
}

/// The way to a guard that does not run.
fn no_guard(directory: &Path) -> Arc<LocalGuard> {
    Arc::new(LocalGuard {
        run_dir: directory.join("run"),
        data_dir: directory.to_owned(),
        guard_exe: "/nonexistent".into(),
        autostart_guard: false,
    })
}

fn raft_options(
    directory: &std::path::Path,
    live: &Live,
    acks: &Acks,
    replica: NodeReplica,
) -> raft::Options {
    raft::Options {
        id: ME.0,
        group: Group { cluster_id: CLUSTER.0, incarnation: 1 },
        timing: Timing::FAST,
        directory: directory.join("raft"),
        storage_key: Arc::new(keys::storage_key(directory).unwrap()),
        dialer: Arc::new(SecureDial(live.clone())),
        gate: Arc::new(acks.clone()),
        replica: Box::new(replica),
        snapshot_every: raft::SNAPSHOT_EVERY,
    }
}

fn keeper(handles: &Handles) -> Keeper {
    Keeper {
        me: ME,
        keyring: handles.keyring.clone(),
        state: handles.published.state.clone(),
        raft: handles.raft.clone(),
        proposer: handles.proposer.clone(),
        peers: handles.peers.clone(),
    }
}

fn agent_options(
    directory: &std::path::Path,
    keyring: &Keyring,
    state: &watch::Receiver<Arc<State>>,
    peers: &Peers,
) -> agent::Options {
    let (keyring, state, peers) = (keyring.clone(), state.clone(), peers.clone());
    agent::Options {
        secrets: Arc::new(Fetcher { me: ME, keyring, state, peers }),
        node: ME,
        node_name: NodeName::new("n1").unwrap(),
        cluster: CLUSTER,
        incarnation: Incarnation(1),
        data_dir: directory.to_owned(),
        guard: no_guard(directory),
    }
}

impl Solo {
    /// Starts it and makes the cluster.
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let http_address = http_listener.local_addr().unwrap().to_string();
        let authority = Authority::generate(CLUSTER, clock::wall_now()).unwrap();
        let live = Live::new(credentials(&authority, Subject::Node(ME), 1)).unwrap();
        let (rejections, recorder) = (Rejections::default(), Recorder::default());
        let history = History::open(&directory.path().join("history"));
        let (cluster, incarnation, boot) = (CLUSTER, Incarnation(1), BootId(11));
        let acks = Acks::new(VoterIdentity { cluster, incarnation, node: ME, boot });
        let (replica, published) = NodeReplica::new(acks.clone(), history.clone());
        let (raft, service) =
            raft::start(raft_options(directory.path(), &live, &acks, replica)).await.unwrap();
        let state = published.state.clone();
        let peers = Peers::new(state.clone(), Arc::new(SecureDial(live.clone())));
        let office = Office::new(ME, raft.clone(), state.clone());
        let proposer = Proposer::new(ME, "n1", raft.clone(), office.clone(), peers.clone(), state.clone());
        let keyring = Keyring::open(directory.path()).unwrap();
        let options = agent_options(directory.path(), &keyring, &state, &peers);
        let agent = agent::start(options, state.clone(), Arc::new(proposer.clone()));
        let (fenced, fenced_receiver) = mpsc::channel(1);
        let (healths, healths_receiver) = watch::channel(Healths::default());
        let handles = Handles {
            gate: Gate::new(ME, state.clone(), rejections.clone(), recorder.clone()),
            joins: JoinRate::default(),
            keyring,
            live: Some(live.clone()),
            rejections: rejections.clone(),
            recorder,
            me: ME,
            name: "n1".into(),
            data_dir: directory.path().to_owned(),
            published,
            is_in_touch: watch::channel(false).1,
            proposer,
            office,
            raft,
            peers,
            acks,
            history,
            healths: healths_receiver,
            fenced,
            agent,
            warnings: Arc::new([]),
        };
        let stop = CancellationToken::new();
        let mut servers = JoinSet::new();
        servers.spawn(keeper(&handles).run(stop.clone()));
        let entrance = Entrance::new(live, state, rejections.clone());
        let secured = entrance.open(vec![(listener, Door::Any)], &stop);
        let unix = tokio::net::UnixListener::bind(directory.path().join("api.sock")).unwrap();
        servers.spawn(api::serve(handles.clone(), secured, Some(unix), service, stop.clone()));
        servers.spawn(http::serve(handles.clone(), vec![http_listener], stop.clone()));
        let solo = Self {
            authority,
            rejections,
            handles,
            address,
            http: http_address,
            stop,
            servers,
            _fenced: fenced_receiver,
            _healths: healths,
            _directory: directory,
        };
        tokio::time::timeout(PATIENCE, solo.make_cluster()).await.expect("the cluster is made in time");
        solo
    }

    async fn make_cluster(&self) {
        let addresses = vec![self.address.clone()];
        let peer = Peer { name: "n1".into(), addresses: addresses.clone() };
        self.handles.raft.initialize_single(peer).await.unwrap();
        let bootstrap = Bootstrap {
            cluster: CLUSTER,
            name: "solo".into(),
            incarnation: Incarnation(1),
            timing: Timing::FAST,
            node: NodeDescription { addresses, ..NodeDescription::default() },
            node_name: NodeName::new("n1").unwrap(),
        };
        self.handles.proposer.submit(Command::Bootstrap(bootstrap)).await.unwrap();
        let authority = NewAuthority {
            certificate: self.authority.certificate().der().as_ref().into(),
            introduction: None,
            key: AuthorityKey(self.authority.key_der().into()),
        };
        self.handles.proposer.submit(Command::AddAuthority(authority)).await.unwrap();
        let mut state = self.handles.published.state.clone();
        state.wait_for(|state| !state.authorities.is_empty() && state.membership.contains(ME)).await.unwrap();
    }

    /// Puts this start of the voter on record, as an agent's own duty does.
    pub async fn announce_voter(&self) {
        let boot = self.handles.acks.identity().boot;
        let up = Command::VoterUp { voter: ME, boot, replaces: None };
        self.handles.proposer.submit(up).await.unwrap();
    }

    /// From here on what is refused goes to the audit trail, as on any agent. Tests that count revisions do without.
    pub fn record_calls(&self) {
        let proposer: Arc<dyn Submit> = Arc::new(self.handles.proposer.clone());
        tokio::spawn(self.handles.recorder.clone().run(ME, proposer, self.stop.clone()));
    }

    /// How far its state is.
    pub fn revision(&self) -> u64 {
        self.handles.published.state.borrow().revision.0
    }

    /// Where its files are.
    pub fn data_dir(&self) -> &Path {
        self._directory.path()
    }

    /// Where its API listens.
    pub fn address(&self) -> String {
        self.address.clone()
    }

    /// Where its HTTP server listens.
    pub fn http_address(&self) -> &str {
        &self.http
    }

    /// Writes a command, as the agent itself.
    pub async fn write(&self, command: Command) -> u64 {
        self.handles.proposer.submit(command).await.unwrap().revision.0
    }

    /// A process of this host that may do everything.
    pub fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.local())
    }

    /// The local socket.
    pub fn local(&self) -> Channel {
        let socket = self._directory.path().join("api.sock");
        tonic::transport::Endpoint::from_shared(format!("unix:{}", socket.display())).unwrap().connect_lazy()
    }

    /// A channel to this agent with credentials.
    pub fn with(&self, credentials: Credentials) -> Channel {
        let live = Live::new(credentials).unwrap();
        let connector = SecureConnector::new(live, &self.address, Expected::Node(ME));
        muster_tls::channel(&peers::settings(&self.address).unwrap(), connector)
    }

    /// A channel without any, knowing the CA's pin.
    pub fn stranger(&self) -> Channel {
        let pinned = Pinned::new(self.authority.certificate().pin()).unwrap();
        let connector = SecureConnector::pinned(&pinned, &self.address);
        muster_tls::channel(&peers::settings(&self.address).unwrap(), connector)
    }

    /// Credentials by this cluster's CA.
    pub fn credentials(&self, subject: Subject, certificate: u64) -> Credentials {
        credentials(&self.authority, subject, certificate)
    }

    /// A user that exists, with its certificate.
    pub async fn user(&self, name: &str, role: UserRole) -> Credentials {
        let name = UserName::new(name).unwrap();
        let life = Duration::from_secs(3600);
        let new = NewCertificate::User { name: name.clone(), role, life };
        let id = self.write(Command::IssueCertificate(new)).await;
        self.credentials(Subject::User { name, role }, id)
    }

    /// A node that exists, with its certificate.
    pub async fn node(&self, name: &str, role: Role) -> (NodeId, Credentials) {
        let hash = *blake3::hash(name.as_bytes()).as_bytes();
        let (id, expires) = (name.to_owned(), muster_core::time::Stamp(u64::MAX));
        self.write(Command::CreateToken(TokenGrant { id, hash, role, expires, uses: 1 })).await;
        let description =
            NodeDescription { addresses: vec!["127.0.0.1:1".to_owned()], ..NodeDescription::default() };
        let name = NodeName::new(name).unwrap();
        let add = AddNode { name, description, role, token_hash: hash };
        let id = self.write(Command::AddNode(add)).await;
        (NodeId(id), self.credentials(Subject::Node(NodeId(id)), id))
    }

    /// This node, as another process with its credentials would speak.
    pub fn link(&self) -> NodeLinkClient<Channel> {
        NodeLinkClient::new(self.with(self.credentials(Subject::Node(ME), 1)))
    }

    /// A host that asks to join.
    pub fn joining(&self) -> JoiningClient<Channel> {
        JoiningClient::new(self.stranger())
    }

    /// What an agent of this cluster says of itself.
    pub fn sender(&self) -> v1::Sender {
        peers::sender(&self.handles.published.state.borrow(), ME)
    }

    /// Status and body of a GET.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.http).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: muster\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let code = head.split_whitespace().nth(1).and_then(|code| code.parse().ok()).unwrap();
        (code, body.to_owned())
    }

    /// Ends everything, in order.
    pub async fn stop(mut self) {
        self.handles.agent.stop().await;
        self.stop.cancel();
        let ended = async { while self.servers.join_next().await.is_some() {} };
        tokio::time::timeout(PATIENCE, ended).await.expect("the servers end in time");
        self.handles.raft.shutdown().await;
    }
}

/// Credentials that hold from yesterday until tomorrow.
pub fn credentials(authority: &Authority, subject: Subject, certificate: u64) -> Credentials {
    let now = clock::wall_now();
    let day = Duration::from_secs(24 * 3600);
    between(authority, subject, certificate, muster_core::time::Stamp(now.0 - 86_400_000), now.plus(day))
}

/// Credentials that hold between two times.
pub fn between(
    authority: &Authority,
    subject: Subject,
    certificate: u64,
    begins: muster_core::time::Stamp,
    ends: muster_core::time::Stamp,
) -> Credentials {
    let certificate = muster_core::id::CertificateId(certificate);
    let identity = muster_tls::Identity { cluster: CLUSTER, subject, certificate, begins, ends };
    let key = KeyPair::generate().unwrap();
    let own = authority.sign(&key.request().unwrap(), &identity).unwrap();
    let trust = muster_tls::Trust::new(CLUSTER, vec![authority.certificate().clone()]);
    Credentials::new(key, vec![own, authority.certificate().clone()], trust).unwrap()
}

/// An exclusive service of one process, that requires these labels.
pub fn exec_service(name: &str, labels: &[&str]) -> v1::ServiceSpec {
    let require = labels.iter().map(|label| v1::Requirement {
        label: (*label).to_owned(),
        test: v1::requirement::Test::Has.into(),
        values: Vec::new(),
    });
    let exec = v1::ExecSpec { command: vec!["/bin/true".into()], ..Default::default() };
    v1::ServiceSpec {
        name: name.to_owned(),
        mode: Some(v1::service_spec::Mode::Exclusive(v1::ExclusiveMode {})),
        priority: 50,
        stop_timeout_ms: 1000,
        enforcement: v1::Enforcement::Kernel.into(),
        replace_after_ms: 5000,
        placement: Some(v1::PlacementSpec { require: require.collect(), ..Default::default() }),
        resources: Some(v1::Resources::default()),
        restart: Some(v1::RestartPolicy {
            attempts: 3,
            window_ms: 300_000,
            backoff_min_ms: 1000,
            backoff_max_ms: 30_000,
        }),
        tasks: vec![v1::TaskSpec {
            name: "main".into(),
            driver: Some(v1::task_spec::Driver::Exec(exec)),
            health: None,
        }],
        ..Default::default()
    }
}

/// A metadata value of a status.
pub fn meta(status: &tonic::Status, key: &str) -> String {
    status.metadata().get(key).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}
