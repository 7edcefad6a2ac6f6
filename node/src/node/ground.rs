//! What an agent stands on: everything through which it reaches out of its process, besides the small files of its data
//! directory. [`super::run`] puts it on this host; a simulation puts the same agent on simulated network and disk.

use std::sync::Arc;

use muster_core::id::SessionId;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::mpsc;

use super::sockets::Sockets;
use super::{NodeError, RunOptions};
use crate::acks::{self, AckThread, Acks};
use crate::agent::guard_door::{GuardDoor, LocalGuard};
use crate::peers::PlainLink;
use crate::raft::{self, Dial, PlainDial, StartError};
use crate::storage::directory::DataDirectory;
use crate::storage::history::History;
use crate::storage::log::{EntryLog, Log};
use crate::{api, blocking};

/// Begins to answer heartbeats; what it returns ends that when it is dropped.
pub type ServeHeartbeats =
    Box<dyn FnOnce(Acks, mpsc::Sender<SessionId>) -> std::io::Result<Box<dyn Send>> + Send>;

/// The parts; `incoming` is a stream of connections for gRPC.
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
    pub incoming: I,
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
) -> Result<Ground<impl futures::Stream<Item = std::io::Result<TcpStream>> + Send + use<>>, NodeError> {
    let sockets = Sockets::open(&options.config).await?;
    let path = directory.raft().join(raft::LOG_DIRECTORY);
    let log = blocking::run(move || Log::open(&path)).await;
    let log = log.map_err(|panic| StartError::Restore { detail: panic.to_string() })?;
    let Sockets { tcp, udp, http, unix } = sockets;
    Ok(Ground {
        log: Arc::new(log.map_err(StartError::from)?),
        snapshot_every: raft::SNAPSHOT_EVERY,
        history: History::open(&directory.history()),
        raft_dialer: Arc::new(PlainDial),
        agent_dialer: Arc::new(PlainLink),
        guard: Arc::new(LocalGuard {
            run_dir: options.config.node.run_dir.clone(),
            data_dir: directory.path().to_owned(),
            guard_exe: options.guard_exe.clone(),
            autostart_guard: options.autostart_guard,
        }),
        incoming: api::tcp(tcp),
        unix,
        http,
        heartbeats: Box::new(move |acks, fenced| {
            acks::serve(acks, udp, fenced).map(|thread: AckThread| Box::new(thread) as Box<dyn Send>)
        }),
    })
}
