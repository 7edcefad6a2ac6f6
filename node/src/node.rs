//! One agent, put together: opens what is on disk, starts the parts, and ends them in order.

mod duties;
pub mod ground;
mod sockets;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use muster_core::id::{BootId, ClusterId, Incarnation, NodeId, NodeName, SessionId};
use muster_core::lease::voter::VoterIdentity;
use muster_core::time::Timing;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::server::Connected;

use crate::acks::Acks;
use crate::agent;
use crate::agent::guard_door::GuardDoor;
use crate::config::{Config, ConfigError};
use crate::controller;
use crate::follow;
use crate::handles::{Handles, Healths};
use crate::notify;
use crate::office::Office;
use crate::peers::{Peers, sender};
use crate::proposer::Proposer;
use crate::raft::{self, Group, RaftHandle, RaftService};
use crate::replica::{NodeReplica, Published};
use crate::secrets::fetch::Fetcher;
use crate::secrets::keeper::Keeper;
use crate::secrets::{Keyring, KeyringError};
use crate::security::gate::Gate;
use crate::security::principal::Caller;
use crate::security::recorder::Recorder;
use crate::security::renew::Renewal;
use crate::security::store::{Store, StoreError};
use crate::seed::{self, Seed};
use crate::storage::directory::{DataDirectory, DirectoryError, Identity};
use crate::storage::history::History;
use crate::storage::keys::{self, KeyError};
use ground::Ground;

/// Proofs of guards that wait for the controller: one for each session at most, repeated by the guards.
const FENCED_QUEUE: usize = 256;
/// How long the parts may take to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Why an agent could not start or had to end.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// Neither `init` nor `join` ran here.
    #[error(
        "{} belongs to no cluster yet: run 'muster init' for a new cluster, or 'muster join' with a token from \
         'musterctl token create'",
        .0.display()
    )]
    NoCluster(PathBuf),
    /// A socket.
    #[error("cannot listen on {address}: {source}{hint}")]
    Listen {
        /// Where.
        address: String,
        /// Why.
        source: std::io::Error,
        /// What to do.
        hint: &'static str,
    },
    /// The directory of sockets.
    #[error("cannot use the run directory {}: {source}", path.display())]
    RunDir {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The log or a snapshot.
    #[error("{0}")]
    Raft(#[from] raft::StartError),
    /// The seed file.
    #[error("cannot read seed.json: {0}")]
    Seed(#[source] std::io::Error),
    /// A thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
    /// The node's key and certificates.
    #[error(transparent)]
    Credentials(#[from] StoreError),
    /// They can't be made or used.
    #[error("the node's certificate: {0}")]
    Certificate(#[from] muster_tls::CertificateError),
    /// The key of this node's storage.
    #[error(transparent)]
    StorageKey(#[from] KeyError),
    /// The keys of the secrets.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// Randomness.
    #[error("the system gave no randomness: {0}")]
    Random(#[from] getrandom::Error),
    /// Raft ended underneath.
    #[error(
        "the agent ends because its log does: {0}. Free space on, or mend, the disk of its data directory and start it \
         again: what was acknowledged is kept"
    )]
    RaftStopped(String),
}

/// How an agent is run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The configuration.
    pub config: Config,
    /// The program that a missing guard is started from.
    pub guard_exe: PathBuf,
    /// Start a guard when none answers.
    pub autostart_guard: bool,
}

/// What is known of this node before any state.
struct Origin {
    identity: Identity,
    me: NodeId,
    name: NodeName,
    cluster: ClusterId,
    incarnation: Incarnation,
    seed: Seed,
}

/// Runs an agent until `stop`, or until it can't go on.
///
/// # Errors
/// [`NodeError`] says why and what to do.
pub async fn run(options: RunOptions, stop: CancellationToken) -> Result<(), NodeError> {
    options.config.check()?;
    let directory = DataDirectory::open(&options.config.node.data_dir)?;
    let origin = Origin::read(&directory)?;
    let ground = ground::on_this_host(&options, &directory).await?;
    run_from(origin, options, directory, ground, stop).await
}

/// [`run`] on another ground than this host's. The configuration has been checked.
///
/// # Errors
/// As [`run`].
pub async fn run_on<I, C>(
    options: RunOptions,
    directory: DataDirectory,
    ground: Ground<I>,
    stop: CancellationToken,
) -> Result<(), NodeError>
where
    I: Stream<Item = std::io::Result<C>> + Send + 'static,
    C: AsyncRead + AsyncWrite + Connected<ConnectInfo = Caller> + Send + Unpin + 'static,
{
    let origin = Origin::read(&directory)?;
    run_from(origin, options, directory, ground, stop).await
}

async fn run_from<I, C>(
    origin: Origin,
    options: RunOptions,
    directory: DataDirectory,
    ground: Ground<I>,
    stop: CancellationToken,
) -> Result<(), NodeError>
where
    I: Stream<Item = std::io::Result<C>> + Send + 'static,
    C: AsyncRead + AsyncWrite + Connected<ConnectInfo = Caller> + Send + Unpin + 'static,
{
    let acks = Acks::new(VoterIdentity {
        cluster: origin.cluster,
        incarnation: origin.incarnation,
        node: origin.me,
        boot: random_boot()?,
    });
    let (replica, published) = NodeReplica::new(acks.clone(), ground.history.clone());
    let bystander = Acks::new(VoterIdentity { boot: BootId(0), ..acks.identity() });
    let follower = replica.beside(bystander);
    let raft_options = raft_options(&origin, &directory, &acks, &ground, replica)?;
    let keyring = Keyring::open(directory.path())?;
    let (raft, service) = raft::start_on(raft_options, Arc::clone(&ground.log)).await?;
    let running = CancellationToken::new();
    let tasks = TaskTracker::new();
    let history = ground.history.clone();
    let store = Store::new(directory.path());
    let parts = Parts { options, origin, directory, acks, history, raft, published, store, keyring };
    let started = parts.start(ground, service, follower, &running, &tasks)?;
    let ended = tokio::select! {
        () = stop.cancelled() => Ok(()),
        why = parts.raft.stopped() => Err(NodeError::RaftStopped(why)),
    };
    notify::stopping();
    duties::hand_over(&parts.raft).await;
    started.agent.stop().await;
    running.cancel();
    tasks.close();
    if tokio::time::timeout(STOP_TIMEOUT, tasks.wait()).await.is_err() {
        tracing::warn!("some parts of the agent did not end in time");
    }
    parts.raft.shutdown().await;
    ended
}

impl Origin {
    fn read(directory: &DataDirectory) -> Result<Self, NodeError> {
        let no_cluster = || NodeError::NoCluster(directory.path().to_owned());
        let identity = directory.identity().cloned().ok_or_else(no_cluster)?;
        let cluster = u128::from_str_radix(&identity.cluster_id, 16).map_err(|_| no_cluster())?;
        let seed = Seed::read(directory.path()).map_err(NodeError::Seed)?;
        Ok(Self {
            me: NodeId(identity.node_id),
            name: NodeName::new(&identity.node_name).map_err(|_| no_cluster())?,
            cluster: ClusterId(cluster),
            incarnation: Incarnation(identity.incarnation),
            seed: seed.unwrap_or(Seed { timing: Timing::LAN, peers: Vec::new(), bootstrap: None }),
            identity,
        })
    }
}

fn random_boot() -> Result<BootId, getrandom::Error> {
    Ok(BootId(getrandom::u64()?.max(1)))
}

fn raft_options<I>(
    origin: &Origin,
    directory: &DataDirectory,
    acks: &Acks,
    ground: &Ground<I>,
    replica: NodeReplica,
) -> Result<raft::Options, KeyError> {
    Ok(raft::Options {
        id: origin.me.0,
        group: Group { cluster_id: origin.cluster.0, incarnation: origin.incarnation.0 },
        timing: origin.seed.timing,
        directory: directory.raft(),
        storage_key: Arc::new(keys::storage_key(directory.path())?),
        dialer: Arc::clone(&ground.raft_dialer),
        gate: Arc::new(acks.clone()),
        replica: Box::new(replica),
        snapshot_every: ground.snapshot_every,
    })
}

struct Parts {
    options: RunOptions,
    origin: Origin,
    directory: DataDirectory,
    acks: Acks,
    history: History,
    raft: RaftHandle,
    published: Published,
    store: Store,
    keyring: Keyring,
}

struct Started {
    agent: agent::AgentHandle,
    _heartbeats: Box<dyn Send>,
}

impl Parts {
    fn start<I, C>(
        &self,
        ground: Ground<I>,
        service: RaftService,
        follower: NodeReplica,
        running: &CancellationToken,
        tasks: &TaskTracker,
    ) -> Result<Started, NodeError>
    where
        I: Stream<Item = std::io::Result<C>> + Send + 'static,
        C: AsyncRead + AsyncWrite + Connected<ConnectInfo = Caller> + Send + Unpin + 'static,
    {
        let me = self.origin.me;
        let state = self.published.state.clone();
        let peers = Peers::new(state.clone(), ground.agent_dialer);
        let (rejections, recorder) = (ground.rejections, Recorder::default());
        let name = self.origin.identity.node_name.as_str();
        let office = Office::new(me, self.raft.clone(), state.clone());
        let proposer =
            Proposer::new(me, name, self.raft.clone(), office.clone(), peers.clone(), state.clone());
        let (fenced_tx, fenced) = mpsc::channel(FENCED_QUEUE);
        let (healths, healths_rx) = watch::channel(Healths::default());
        let heartbeats =
            (ground.heartbeats)(self.acks.clone(), fenced_tx.clone()).map_err(NodeError::Thread)?;
        let options = self.agent_options(ground.guard, &peers);
        let agent = agent::start(options, state.clone(), Arc::new(proposer.clone()));
        let controller = self.controller_options(&proposer, &peers, fenced, healths);
        tasks.spawn(controller::run(controller, running.clone()));
        let (is_in_touch, in_touch) = watch::channel(false);
        let handles = Handles {
            me,
            name: name.into(),
            data_dir: self.directory.path().to_owned(),
            published: self.published.clone(),
            is_in_touch: in_touch,
            proposer: proposer.clone(),
            office,
            raft: self.raft.clone(),
            peers: peers.clone(),
            acks: self.acks.clone(),
            history: self.history.clone(),
            healths: healths_rx,
            fenced: fenced_tx,
            agent: agent.clone(),
            warnings: self.warnings().into(),
            gate: Gate::new(me, state.clone(), rejections.clone(), recorder.clone()),
            joins: crate::security::join_rate::JoinRate::default(),
            live: ground.live.clone(),
            keyring: self.keyring.clone(),
            rejections,
            recorder: recorder.clone(),
        };
        tasks.spawn(recorder.run(me, Arc::new(proposer.clone()), running.clone()));
        if let Some(live) = ground.live {
            let renewal = Renewal {
                me,
                live,
                store: self.store.clone(),
                state,
                proposer: proposer.clone(),
                peers: peers.clone(),
            };
            tasks.spawn(renewal.run(running.clone()));
        }
        let incoming = (ground.incoming)(self.published.state.clone(), running);
        tasks.spawn(crate::api::serve(handles.clone(), incoming, ground.unix, service, running.clone()));
        tasks.spawn(crate::http::serve(handles, ground.http, running.clone()));
        let follower = self.follower(follower, peers.clone(), is_in_touch);
        tasks.spawn(follower.run(running.clone()));
        self.start_duties(&proposer, peers, running, tasks);
        notify::ready();
        tracing::info!(node = name, id = %me, "the agent listens");
        Ok(Started { agent, _heartbeats: heartbeats })
    }

    fn follower(
        &self,
        replica: NodeReplica,
        peers: Peers,
        is_in_touch: watch::Sender<bool>,
    ) -> follow::Follower {
        let (me, state) = (self.origin.me, self.published.state.clone());
        let mut who = sender(&state.borrow(), me);
        who.cluster_id = self.origin.cluster.0.to_be_bytes().to_vec().into();
        who.incarnation = self.origin.incarnation.0;
        let seeds = self.origin.seed.peers.clone();
        follow::Follower {
            me,
            sender: who,
            peers,
            seeds,
            raft: self.raft.clone(),
            replica,
            state,
            is_in_touch,
        }
    }

    fn start_duties(
        &self,
        proposer: &Proposer,
        peers: Peers,
        running: &CancellationToken,
        tasks: &TaskTracker,
    ) {
        let me = self.origin.me;
        let state = self.published.state.clone();
        let keeper = Keeper {
            me,
            keyring: self.keyring.clone(),
            state: state.clone(),
            raft: self.raft.clone(),
            proposer: proposer.clone(),
            peers,
        };
        tasks.spawn(keeper.run(running.clone()));
        let data_dir = self.directory.path().to_owned();
        let undone = self.origin.seed.bootstrap.clone();
        tasks.spawn(seed::keep(data_dir, me, undone, state.clone(), running.clone()));
        tasks.spawn(duties::announce_voter(
            self.acks.identity(),
            state.clone(),
            proposer.clone(),
            running.clone(),
        ));
        let config = self.options.config.clone();
        tasks.spawn(duties::compare_timing(config, state.clone(), running.clone()));
        tasks.spawn(duties::describe_host(me, self.description(), state, proposer.clone(), running.clone()));
        if let Some(token) = self.origin.seed.bootstrap.clone() {
            let bootstrap = duties::Bootstrapping {
                identity: self.origin.identity.clone(),
                cluster: self.origin.cluster,
                timing: self.origin.seed.timing,
                description: self.description(),
                token,
                store: self.store.clone(),
            };
            let (raft, proposer, state) = (self.raft.clone(), proposer.clone(), self.published.state.clone());
            tasks.spawn(duties::bootstrap(bootstrap, raft, proposer, state, running.clone()));
        } else {
            // A start that made the cluster may have been cut short.
            let (store, proposer, stop) = (self.store.clone(), proposer.clone(), running.clone());
            let state = self.published.state.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    _done = duties::hand_over_authority(&store, &proposer, state) => {}
                }
            });
        }
    }

    fn controller_options(
        &self,
        proposer: &Proposer,
        peers: &Peers,
        fenced: mpsc::Receiver<SessionId>,
        healths: watch::Sender<Healths>,
    ) -> controller::Options {
        controller::Options {
            me: self.origin.me,
            raft: self.raft.clone(),
            proposer: proposer.clone(),
            peers: peers.clone(),
            acks: self.acks.clone(),
            state: self.published.state.clone(),
            fenced,
            healths,
        }
    }

    fn agent_options(&self, guard: Arc<dyn GuardDoor>, peers: &Peers) -> agent::Options {
        let secrets = Fetcher {
            me: self.origin.me,
            keyring: self.keyring.clone(),
            state: self.published.state.clone(),
            peers: peers.clone(),
        };
        agent::Options {
            node: self.origin.me,
            node_name: self.origin.name.clone(),
            cluster: self.origin.cluster,
            incarnation: self.origin.incarnation,
            data_dir: self.directory.path().to_owned(),
            guard,
            secrets: Arc::new(secrets),
        }
    }

    fn description(&self) -> muster_core::command::NodeDescription {
        let config = &self.options.config;
        let addresses = config.advertised().unwrap_or_default();
        muster_core::command::NodeDescription {
            addresses: addresses.iter().map(ToString::to_string).collect(),
            labels: config.node.labels.clone(),
            capacity: config.capacity(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            features: (FEATURES_LOWEST, FEATURES_HIGHEST),
        }
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let torn = self.raft.status().torn_tail_bytes;
        if torn > 0 {
            warnings.push(format!(
                "{torn} bytes at the end of the log were half-written and cut off at start; nothing acknowledged was lost"
            ));
        }
        if crate::storage::directory::is_short_of_space(self.directory.path()) {
            warnings.push(format!("little space is left under {}", self.directory.path().display()));
        }
        warnings
    }
}

/// The lowest feature level that this agent speaks.
pub const FEATURES_LOWEST: u32 = 1;
/// The highest feature level that this agent speaks. 2: the command `NoteAgent`.
pub const FEATURES_HIGHEST: u32 = 2;
