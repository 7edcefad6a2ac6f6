//! openraft's own suite for storage. It never reopens a store, so it proves nothing about durability:
//! `tests/storage_log.rs` and `tests/power_cut.rs` do.

use std::sync::Arc;

use bytes::Bytes;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};

use super::log_store::{LogStore, VoterGate};
use super::replica::{FatalApply, Frozen, MembershipView, Replica};
use super::state_machine::StateMachine;
use super::types::{Reply, TypeConfig};
use crate::storage::Position;
use crate::storage::log::Log;
use crate::storage::snapshot::{RecordReader, RecordWriter, SnapshotError, Snapshots};

struct Nothing;

impl Replica for Nothing {
    fn apply(&mut self, _: Position, _: Bytes) -> Result<Option<Reply>, FatalApply> {
        Ok(None)
    }
    fn apply_membership(&mut self, _: &MembershipView) {}
    fn apply_blank(&mut self, _: Position) {}
    fn publish(&mut self) {}
    fn freeze(&self) -> Box<dyn Frozen> {
        Box::new(Self)
    }
    fn install(
        &mut self,
        _: Position,
        _: &MembershipView,
        records: &mut RecordReader,
    ) -> Result<(), SnapshotError> {
        while records.next()?.is_some() {}
        Ok(())
    }
}

impl Frozen for Nothing {
    fn write(self: Box<Self>, _: &mut RecordWriter) -> Result<(), SnapshotError> {
        Ok(())
    }
}

impl VoterGate for Nothing {
    fn appended_membership(&self, _: u64) {}
    fn truncated(&self, _: Option<u64>) {}
}

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        let directory = tempfile::tempdir().unwrap();
        let log = Arc::new(Log::open(&directory.path().join("log")).unwrap());
        let key = Arc::new(crate::seal::SealingKey::generate().unwrap());
        let snapshots = Arc::new(Snapshots::open(&directory.path().join("snapshots"), key).unwrap());
        let log_store = LogStore::new(log, Arc::new(Nothing)).unwrap();
        let path = directory.path().to_owned();
        let state_machine = StateMachine::new(Box::new(Nothing), snapshots, None, path);
        Ok((directory, log_store, state_machine))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_storage_passes_the_suite_of_openraft() {
    Suite::test_all(Builder).await.unwrap();
}
