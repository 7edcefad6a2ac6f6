//! What openraft applies to: the [`Replica`], and its snapshots.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use futures::{Stream, StreamExt};
use muster_proto::v1;
use openraft::storage::{EntryResponder, RaftStateMachine, SnapshotMeta};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};

use super::replica::{Frozen, MembershipView, Replica};
use super::types::{Applied, LogId, Peer, StoredMembership, TypeConfig, position};
use super::wire;
use crate::storage::directory;
use crate::storage::snapshot::{SNAPSHOT_FORMAT, SnapshotError, SnapshotFile, Snapshots};

/// The newest snapshot, shared between the builder, the state machine and the senders.
type Current = Arc<Mutex<Option<Arc<SnapshotFile>>>>;

fn current(shared: &Current) -> Option<Arc<SnapshotFile>> {
    shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
}

fn set_current(shared: &Current, snapshot: Arc<SnapshotFile>) {
    *shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(snapshot);
}

/// openraft's state machine over a [`Replica`].
pub(crate) struct StateMachine {
    /// Absent only while a blocking thread installs a snapshot into it.
    replica: Option<Box<dyn Replica>>,
    applied: Option<LogId>,
    membership: StoredMembership,
    snapshots: Arc<Snapshots>,
    current: Current,
    data_directory: PathBuf,
}

impl StateMachine {
    /// Begins empty: openraft installs the current snapshot and replays the log.
    pub(crate) fn new(
        replica: Box<dyn Replica>,
        snapshots: Arc<Snapshots>,
        newest: Option<Arc<SnapshotFile>>,
        data_directory: PathBuf,
    ) -> Self {
        let current = Arc::new(Mutex::new(newest));
        let membership = StoredMembership::default();
        Self { replica: Some(replica), applied: None, membership, snapshots, current, data_directory }
    }

    fn apply_entry(
        &mut self,
        id: LogId,
        payload: EntryPayload<super::types::Payload, u64, Peer>,
    ) -> io::Result<Applied> {
        let at = position(&id);
        let replica = self.replica.as_mut().ok_or_else(replica_gone)?;
        let reply = match payload {
            EntryPayload::Normal(command) => replica.apply(at, command.0).map_err(|error| {
                tracing::error!(index = at.index, %error, "a command of the log cannot be applied");
                io::Error::other(format!("log entry {}: {error}", at.index))
            })?,
            EntryPayload::Membership(membership) => {
                replica.apply_membership(&MembershipView::new(Some(at), &membership));
                self.membership = StoredMembership::new(Some(id), membership);
                None
            }
            EntryPayload::Blank => {
                replica.apply_blank(at);
                None
            }
        };
        self.applied = Some(id);
        Ok(Applied::new(at, reply))
    }
}

fn replica_gone() -> io::Error {
    io::Error::other("the state was lost while a snapshot was installed")
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = Arc<SnapshotFile>;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let mut replies = Vec::new();
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let applied = self.apply_entry(entry.log_id, entry.payload)?;
            if let Some(responder) = responder {
                replies.push((responder, applied));
            }
        }
        self.replica.as_mut().ok_or_else(replica_gone)?.publish();
        for (responder, applied) in replies {
            responder.send(applied);
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Builder> {
        if !force && directory::is_short_of_space(&self.data_directory) {
            tracing::warn!(
                directory = %self.data_directory.display(),
                "no snapshot is written and the log is not shortened: the disk is nearly full"
            );
            return None;
        }
        Some(self.get_snapshot_builder().await)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let replica = self.replica.as_ref().expect("an install ends before the next call begins");
        Builder {
            frozen: Some(replica.freeze()),
            applied: self.applied,
            membership: self.membership.clone(),
            snapshots: Arc::clone(&self.snapshots),
            current: Arc::clone(&self.current),
        }
    }

    async fn install_snapshot(&mut self, meta: &Meta, snapshot: Arc<SnapshotFile>) -> io::Result<()> {
        let mut replica = self.replica.take().ok_or_else(replica_gone)?;
        let at = meta.last_log_id.as_ref().map(position).unwrap_or_default();
        let membership = MembershipView::of(&meta.last_membership);
        let snapshots = Arc::clone(&self.snapshots);
        let file = Arc::clone(&snapshot);
        let install = move || -> Result<Box<dyn Replica>, SnapshotError> {
            // Its name first: the log is shortened to this snapshot as soon as this call returns.
            snapshots.keep(&file)?;
            replica.install(at, &membership, &mut file.records()?)?;
            Ok(replica)
        };
        let replica = blocking(install).await?;
        self.replica = Some(replica);
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        set_current(&self.current, snapshot);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        current(&self.current).map(snapshot_of).transpose()
    }
}

/// Writes one snapshot down.
pub(crate) struct Builder {
    frozen: Option<Box<dyn Frozen>>,
    applied: Option<LogId>,
    membership: StoredMembership,
    snapshots: Arc<Snapshots>,
    current: Current,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = Arc<SnapshotFile>;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let frozen = self.frozen.take().ok_or_else(|| io::Error::other("a builder builds once"))?;
        let header = v1::SnapshotHeader {
            format: SNAPSHOT_FORMAT,
            last_applied: self.applied.as_ref().map(wire::log_id_to_wire),
            last_membership: Some(wire::stored_membership_to_wire(&self.membership)),
        };
        let snapshots = Arc::clone(&self.snapshots);
        let write = move || -> Result<Arc<SnapshotFile>, SnapshotError> {
            let mut writer = snapshots.begin(&header)?;
            frozen.write(&mut writer)?;
            let file = writer.finish()?;
            snapshots.keep(&file)?;
            Ok(Arc::new(file))
        };
        let file = blocking(write).await?;
        tracing::info!(bytes = file.size_bytes(), at = ?file.position(), "wrote a snapshot");
        set_current(&self.current, Arc::clone(&file));
        snapshot_of(file)
    }
}

pub(crate) type Snapshot = openraft::type_config::alias::SmSnapshotOf<TypeConfig, StateMachine>;
type Meta = SnapshotMeta<openraft::type_config::alias::CommittedLeaderIdOf<TypeConfig>, u64, Peer>;

/// A snapshot file as openraft sees it.
pub(crate) fn snapshot_of(file: Arc<SnapshotFile>) -> io::Result<Snapshot> {
    let header = file.header();
    let membership = header.last_membership.clone().unwrap_or_default();
    let last_membership = if membership.membership.is_some() {
        wire::stored_membership_from_wire(membership)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?
    } else {
        StoredMembership::default()
    };
    let last_log_id = header.last_applied.map(wire::log_id_from_wire);
    Ok(Snapshot { meta: SnapshotMeta { last_log_id, last_membership }, snapshot: file })
}

/// Runs file work away from the threads that serve the network.
async fn blocking<T, F>(work: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, SnapshotError> + Send + 'static,
{
    let outcome = crate::blocking::run(work).await;
    match outcome {
        Ok(outcome) => outcome.map_err(|error| {
            let error = describe(&error);
            tracing::error!(error, "the snapshot failed");
            io::Error::other(error)
        }),
        Err(panic) => Err(io::Error::other(format!("the snapshot failed: {panic}"))),
    }
}

/// The error with its causes in one line: openraft keeps only the text.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}
