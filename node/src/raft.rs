//! The replicated log: [`start`] it, then use the [`RaftHandle`].
//!
//! ```text
//! propose ─▶ openraft ─┬▶ log store ──fsync──▶ disk        (storage::log)
//!                      ├▶ network ──gRPC──▶ peers           (raft::network, a stream each)
//!                      └▶ state machine ─▶ Replica::apply   (the application)
//! ```
//! **Architecture invariant:** openraft's types appear only in this module and below it, never in its public
//! signatures.

#[cfg(test)]
mod conformance;
mod contact;
mod error;
mod handle;
mod heartbeats;
mod log_store;
pub mod network;
mod replica;
mod state_machine;
mod status;
mod types;
mod wire;

pub use self::error::{ChangeError, ProposeError, ReadError};
pub use self::handle::{LeadershipWatch, RaftHandle};
pub use self::log_store::VoterGate;
pub use self::network::Group;
pub use self::network::server::RaftService;
pub use self::replica::{FatalApply, Frozen, MembershipView, Replica};
pub use self::status::{Leadership, RaftStatus, Role};
pub use self::types::{Applied, Peer, Reply};
pub use crate::storage::Position;
pub use crate::storage::snapshot::{RecordReader, RecordWriter, SnapshotError};

use std::path::PathBuf;
use std::sync::Arc;

use muster_core::time::Timing;
use openraft::{Config, SnapshotPolicy};

use self::contact::Contact;
use self::log_store::LogStore;
use self::network::Network;
use self::state_machine::StateMachine;
use crate::blocking;
use crate::seal::SealingKey;
use crate::security::dial::Dial;
use crate::storage::FileError;
use crate::storage::log::{EntryLog, Log, OpenError};
use crate::storage::snapshot::Snapshots;

/// The largest command: a batch holds at least one, and must fit a message between peers.
pub const MAX_COMMAND_BYTES: usize = 4 << 20;
/// Where the log is, under [`Options::directory`].
pub const LOG_DIRECTORY: &str = "log";
/// A snapshot is written every so many entries.
pub const SNAPSHOT_EVERY: u64 = 10_000;
/// How far the log reaches back beyond the newest snapshot, in snapshots: for followers that lag, and so that
/// log and older snapshot still make up the state when the newest snapshot is damaged.
const KEEP_SNAPSHOTS: u64 = 2;
/// The log is shortened in steps of at least this many entries: a purge costs a sync.
const PURGE_BATCH: u64 = 1_000;
/// The most entries in one message to a peer.
const MAX_PAYLOAD_ENTRIES: u64 = 1_024;
/// How long a peer may take nothing of a snapshot before the transfer is given up. openraft hands three
/// quarters of it to the network.
const SNAPSHOT_STALL_MS: u64 = 30_000;
/// How long to wait before a peer that can't be reached is tried again: a dead one must cost nothing, and
/// one that comes back should catch up soon.
const BACKOFF: &str = "50ms 100ms 200ms ...500ms";

/// What [`start`] needs.
pub struct Options {
    /// This node.
    pub id: u64,
    /// The Raft group that it belongs to.
    pub group: Group,
    /// The cluster's timing.
    pub timing: Timing,
    /// Where log and snapshots are kept.
    pub directory: PathBuf,
    /// Encrypts the snapshots on the disk.
    pub storage_key: Arc<SealingKey>,
    /// How peers are reached.
    pub dialer: Arc<dyn Dial>,
    /// The lease's part of the log (LEASES.md R2b).
    pub gate: Arc<dyn VoterGate>,
    /// The application, in its initial state.
    pub replica: Box<dyn Replica>,
    /// A snapshot is written every so many entries; see [`SNAPSHOT_EVERY`].
    pub snapshot_every: u64,
}

/// Why Raft could not be started. Nothing has been changed then.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log can't be opened.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The state can't be rebuilt from a snapshot.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A directory can't be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The entries of the log can't be read.
    #[error("the log cannot be read")]
    Read(#[source] std::io::Error),
    /// The timing is not one that Raft can work with.
    #[error("the timing is not usable: {detail}")]
    Timing {
        /// What is wrong.
        detail: String,
    },
    /// The state can't be restored: a command of the log that this version doesn't know, a store that
    /// contradicts itself.
    #[error("the state cannot be restored: {detail}")]
    Restore {
        /// What is wrong.
        detail: String,
    },
}

/// Opens the stores, restores the state up to the last entry known to be committed, and starts Raft.
/// Peers are answered once the returned service is mounted on the agent's server.
///
/// # Errors
/// [`StartError`]; each names what to do.
pub async fn start(options: Options) -> Result<(RaftHandle, RaftService), StartError> {
    let directory = options.directory.join(LOG_DIRECTORY);
    let log = file_work(move || Log::open(&directory).map_err(StartError::from)).await?;
    start_on(options, Arc::new(log)).await
}

/// [`start`] on a log that is open already.
///
/// # Errors
/// [`StartError`].
pub async fn start_on(
    options: Options,
    log: Arc<dyn EntryLog>,
) -> Result<(RaftHandle, RaftService), StartError> {
    let config = Arc::new(config(&options)?);
    let stores = open_stores(&options, log).await?;
    let network = Network::new(options.id, options.group, &options.timing, options.dialer);
    let state_machine = StateMachine::new(
        options.replica,
        Arc::clone(&stores.snapshots),
        stores.newest,
        options.directory.clone(),
    );
    let raft = openraft::Raft::new(options.id, config, network, stores.log_store, state_machine)
        .await
        .map_err(|error| StartError::Restore { detail: error.to_string() })?;
    let contact = Arc::new(Contact::new(&options.timing));
    let service = RaftService::new(
        options.id,
        options.group,
        raft.clone(),
        Arc::clone(&contact),
        Arc::clone(&stores.snapshots),
        options.directory,
    );
    let handle = RaftHandle::new(options.id, raft, stores.log, contact, &options.timing);
    handle.lead_if_alone().await;
    Ok((handle, service))
}

struct Stores {
    log: Arc<dyn EntryLog>,
    log_store: LogStore,
    snapshots: Arc<Snapshots>,
    newest: Option<Arc<crate::storage::snapshot::SnapshotFile>>,
}

async fn open_stores(options: &Options, log: Arc<dyn EntryLog>) -> Result<Stores, StartError> {
    let (directory, gate) = (options.directory.clone(), Arc::clone(&options.gate));
    let key = Arc::clone(&options.storage_key);
    file_work(move || {
        let snapshots = Arc::new(Snapshots::open(&directory.join("snapshots"), key)?);
        let purged = log.state().map_err(StartError::Read)?.purged;
        let newest = snapshots.newest_usable(purged)?;
        let log_store = LogStore::new(Arc::clone(&log), gate).map_err(StartError::Read)?;
        Ok(Stores { log, log_store, snapshots, newest })
    })
    .await
}

async fn file_work<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StartError> + Send + 'static,
) -> Result<T, StartError> {
    match blocking::run(work).await {
        Ok(outcome) => outcome,
        Err(panic) => Err(StartError::Restore { detail: panic.to_string() }),
    }
}

fn config(options: &Options) -> Result<Config, StartError> {
    let timing = &options.timing;
    let heartbeat_ms = u64::from(timing.raft_heartbeat_ms);
    let election_min_ms = u64::from(timing.raft_election_min_ms);
    let config = Config {
        cluster_name: format!("{:032x}", options.group.cluster_id),
        heartbeat_interval: heartbeat_ms,
        // A follower that has just answered an append needs no heartbeat; an idle one gets every one of them.
        // Where the election follows the heartbeat closely, every one is sent: one that was passed over goes out up to half
        // a heartbeat late, and openraft, which knows nothing of `heartbeats`, asks for room for a tick (13/64 of a heartbeat) as well.
        heartbeat_min_interval: Some(if heartbeat_ms * 7 / 4 < election_min_ms {
            heartbeat_ms / 2
        } else {
            0
        }),
        election_timeout_min: election_min_ms,
        election_timeout_max: u64::from(timing.raft_election_max_ms),
        install_snapshot_timeout: SNAPSHOT_STALL_MS,
        max_payload_entries: MAX_PAYLOAD_ENTRIES,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(options.snapshot_every),
        max_in_snapshot_log_to_keep: options.snapshot_every * KEEP_SNAPSHOTS,
        replication_lag_threshold: options.snapshot_every * (KEEP_SNAPSHOTS + 1),
        purge_batch_size: PURGE_BATCH.min(options.snapshot_every),
        // The leader's disk and the followers' work at the same time (Ongaro's thesis, section 10.2.1): the leader counts
        // itself only once its own write is on the disk.
        broadcast_submitted_on_append: Some(true),
        enable_pre_vote: Some(true),
        // The committed index on the disk may lag, so a restarted leader could serve an older state than
        // it has shown before. An election makes it find out.
        enable_leader_restore: Some(false),
        backoff: BACKOFF.into(),
        ..Config::default()
    };
    config.validate().map_err(|error| StartError::Timing { detail: error.to_string() })
}
