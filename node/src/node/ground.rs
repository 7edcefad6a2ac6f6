//! What an agent stands on: everything through which it reaches out of its process, besides the small files of its data
//! directory. [`super::run`] puts it on this host; a simulation puts the same agent on simulated network and disk.

use std::sync::Arc;

use muster_core::id::SessionId;
use muster_core::state::State;
use muster_tls::Live;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::sockets::Sockets;
use super::{NodeError, RunOptions};
use crate::acks::{self, AckThread, Acks};
use crate::agent::guard_door::{GuardDoor, LocalGuard};
use crate::blocking;
use crate::raft::{self, StartError};
use crate::security::dial::{Dial, SecureDial};
use crate::security::listen::{Entrance, Secured};
use crate::security::rejections::Rejections;
use crate::security::store::Store;
use crate::storage::directory::DataDirectory;
use crate::storage::history::History;
use crate::storage::log::{EntryLog, Log};

/// Begins to answer heartbeats; what it returns ends that when it is dropped.
pub type ServeHeartbeats =
    Box<dyn FnOnce(Acks, mpsc::Sender<SessionId>) -> std::io::Result<Box<dyn Send>> + Send>;

/// Lets connections in, and ends those whose holders the state admits no longer.
pub type LetIn<I> = Box<dyn FnOnce(watch::Receiver<Arc<State>>, &CancellationToken) -> I + Send>;

/// The parts; `I` is a stream of connections for gRPC whose callers are known.
pub struct Ground<I> {
    /// The Raft log, open.
    pub log: Arc<dyn EntryLog>,
    /// A snapshot is written every so many entries.
    pub snapshot_every: u64,
    /// The history of events.
    pub history: History,
    /// How Raft reaches its peers.
    pub raft_dialer: Arc<dyn Dial>,
    /// How all other calls reach other agents.
    pub agent_dialer: Arc<dyn Dial>,
    /// The way to the guard.
    pub guard: Arc<dyn GuardDoor>,
    /// Connections for gRPC.
    pub incoming: LetIn<I>,
    /// What was refused at the door.
    pub rejections: Rejections,
    /// This node's credentials, to be renewed in time; none where no certificates are needed.
    pub live: Option<Live>,
    /// The operator's socket on this host.
    pub unix: Option<UnixListener>,
    /// For probes and metrics.
    pub http: Vec<TcpListener>,
    /// The heartbeats of guards.
    pub heartbeats: ServeHeartbeats,
}

/// Opens this host's disk and sockets.
pub(super) async fn on_this_host(
    options: &RunOptions,
    directory: &DataDirectory,
) -> Result<Ground<ReceiverStream<std::io::Result<Secured>>>, NodeError> {
    let live = Live::new(Store::new(directory.path()).load()?)?;
    let rejections = Rejections::default();
    let sockets = Sockets::open(&options.config).await?;
    let path = directory.raft().join(raft::LOG_DIRECTORY);
    let log = blocking::run(move || Log::open(&path)).await;
    let log = log.map_err(|panic| StartError::Restore { detail: panic.to_string() })?;
    let Sockets { tcp, udp, http, unix } = sockets;
    Ok(Ground {
        log: Arc::new(log.map_err(StartError::from)?),
        snapshot_every: raft::SNAPSHOT_EVERY,
        history: History::open(&directory.history()),
        raft_dialer: Arc::new(SecureDial(live.clone())),
        agent_dialer: Arc::new(SecureDial(live.clone())),
        guard: Arc::new(LocalGuard {
            run_dir: options.config.node.run_dir.clone(),
            data_dir: directory.path().to_owned(),
            guard_exe: options.guard_exe.clone(),
            autostart_guard: options.autostart_guard,
        }),
        incoming: Box::new({
            let (live, rejections) = (live.clone(), rejections.clone());
            move |state, stop| Entrance::new(live, state, rejections).open(tcp, stop)
        }),
        rejections,
        live: Some(live),
        unix,
        http,
        heartbeats: Box::new(move |acks, fenced| {
            acks::serve(acks, udp, fenced).map(|thread: AckThread| Box::new(thread) as Box<dyn Send>)
        }),
    })
}
