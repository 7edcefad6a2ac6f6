//! Snapshots: written, pruned, cut, flipped, streamed, and the start after damage.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    reason = "a test that fails should panic where it fails"
)]

#[path = "support/toy.rs"]
#[allow(dead_code, reason = "each test file uses a part of the toy")]
mod toy;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use muster::raft::StartError;
use muster::seal::SealingKey;
use muster::storage::Position;
use muster::storage::snapshot::{KEPT, SNAPSHOT_FORMAT, SnapshotError, SnapshotFile, Snapshots};
use muster_proto::v1;
use toy::{Node, until};

fn header(index: u64) -> v1::SnapshotHeader {
    v1::SnapshotHeader {
        format: SNAPSHOT_FORMAT,
        last_applied: Some(v1::RaftLogId { term: 2, index }),
        last_membership: None,
    }
}

fn key() -> Arc<SealingKey> {
    Arc::new(SealingKey::from_bytes(&[1; 32]).unwrap())
}

fn another_key() -> Arc<SealingKey> {
    Arc::new(SealingKey::from_bytes(&[2; 32]).unwrap())
}

fn at(index: u64) -> Position {
    Position { term: 2, index }
}

fn write(store: &Snapshots, index: u64, records: &[&[u8]]) -> SnapshotFile {
    let mut writer = store.begin(&header(index)).unwrap();
    for record in records {
        writer.record(record).unwrap();
    }
    let file = writer.finish().unwrap();
    store.keep(&file).unwrap();
    file
}

fn records(file: &SnapshotFile) -> Vec<Bytes> {
    let mut reader = file.records().unwrap();
    std::iter::from_fn(|| reader.next().unwrap()).collect()
}

fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|e| e == extension)).collect();
    paths.sort();
    paths
}

#[test]
fn a_snapshot_is_read_back_and_the_newest_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let store = Snapshots::open(directory.path(), key()).unwrap();
    assert!(store.newest_usable(None).unwrap().is_none());
    for index in [10, 20, 30] {
        write(&store, index, &[b"one", b"", &[9; 70_000]]);
    }
    assert_eq!(files(directory.path(), "snap").len(), KEPT);
    // A crash leaves one half-written; the next start removes it.
    let half = store.begin(&header(40)).unwrap();
    drop(half);
    assert_eq!(files(directory.path(), "partial").len(), 1);
    let store = Snapshots::open(directory.path(), key()).unwrap();
    assert_eq!(files(directory.path(), "partial").len(), 0);
    let newest = store.newest_usable(Some(at(15))).unwrap().unwrap();
    assert_eq!(newest.position(), Some(at(30)));
    assert_eq!(records(&newest), [Bytes::from("one"), Bytes::new(), Bytes::from(vec![9; 70_000])]);
}

#[test]
fn nothing_of_a_snapshot_is_on_the_disk_in_clear_or_readable_with_another_key() {
    let directory = tempfile::tempdir().unwrap();
    let store = Snapshots::open(directory.path(), key()).unwrap();
    write(&store, 10, &[b"the key of the cluster's CA", &[9; 70_000]]);
    let file = files(directory.path(), "snap").remove(0);
    let bytes = fs::read(&file).unwrap();
    for clear in [&b"MUSTSNAP"[..], b"cluster's CA", &[9; 16]] {
        assert!(!bytes.windows(clear.len()).any(|part| part == clear), "{clear:?}");
    }
    let refused = SnapshotFile::open(&file, &another_key()).unwrap_err();
    assert!(matches!(refused, SnapshotError::Damaged { .. }), "{refused}");
    assert!(refused.to_string().contains("another key"), "{refused}");
}

#[test]
fn every_flipped_bit_and_every_cut_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let store = Snapshots::open(directory.path(), key()).unwrap();
    write(&store, 10, &[b"one", b"two", &[3; 300]]);
    let whole = fs::read(&files(directory.path(), "snap")[0]).unwrap();
    let copy = directory.path().join("copy");
    let is_damaged = |bytes: &[u8]| {
        fs::write(&copy, bytes).unwrap();
        matches!(SnapshotFile::open(&copy, &key()), Err(SnapshotError::Damaged { .. }))
    };
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(is_damaged(&flipped), "bit {bit}");
    }
    for length in 0..whole.len() {
        assert!(is_damaged(&whole[..length]), "cut to {length}");
    }
    let mut longer = whole.clone();
    longer.push(0);
    assert!(is_damaged(&longer));
    assert!(!is_damaged(&whole));
}

#[test]
fn a_newer_format_is_refused_even_when_an_older_snapshot_would_do() {
    let directory = tempfile::tempdir().unwrap();
    let store = Snapshots::open(directory.path(), key()).unwrap();
    write(&store, 10, &[]);
    let newer = v1::SnapshotHeader { format: SNAPSHOT_FORMAT + 1, ..header(20) };
    let refused = store.begin(&newer).unwrap().finish();
    assert!(matches!(refused, Err(SnapshotError::NewerFormat { .. })));
    let partial = files(directory.path(), "partial").remove(0);
    fs::rename(partial, directory.path().join(format!("{:020}-{:020}.snap", 20, 2))).unwrap();
    let refused = store.newest_usable(None);
    assert!(matches!(refused, Err(SnapshotError::NewerFormat { format: 2, .. })), "{refused:?}");
}

#[test]
fn a_damaged_snapshot_is_replaced_by_an_older_one_only_if_the_log_holds_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let store = Snapshots::open(directory.path(), key()).unwrap();
    write(&store, 10, &[b"one"]);
    write(&store, 20, &[b"two"]);
    let newest = files(directory.path(), "snap").remove(1);
    let mut bytes = fs::read(&newest).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&newest, &bytes).unwrap();

    let error = store.newest_usable(Some(at(11))).unwrap_err();
    assert!(matches!(error, SnapshotError::Lost { .. }), "{error}");
    assert!(error.to_string().contains("join it again"), "{error}");
    assert_eq!(files(directory.path(), "snap").len(), 2, "nothing was changed");

    let older = store.newest_usable(Some(at(10))).unwrap().unwrap();
    assert_eq!(older.position(), Some(at(10)));
    assert_eq!(files(directory.path(), "damaged").len(), 1, "it can be looked at");

    fs::remove_file(files(directory.path(), "snap").remove(0)).unwrap();
    let error = store.newest_usable(Some(at(10))).unwrap_err();
    assert!(error.to_string().contains("is missing"), "{error}");
    assert!(store.newest_usable(None).unwrap().is_none(), "the log holds everything");
}

#[test]
fn a_snapshot_arrives_whole_or_not_at_all() {
    let from = tempfile::tempdir().unwrap();
    let to = tempfile::tempdir().unwrap();
    let sent = write(&Snapshots::open(from.path(), another_key()).unwrap(), 10, &[&[5; 100_000], b"end"]);
    let store = Snapshots::open(to.path(), key()).unwrap();
    let transfer = |until: u64| {
        let mut incoming = store.receive().unwrap();
        let mut offset = 0;
        loop {
            let part = sent.read_part(offset, 4_096).unwrap();
            if part.is_empty() || offset >= until {
                return incoming.finish();
            }
            offset += part.len() as u64;
            incoming.write(&part).unwrap();
        }
    };
    assert!(matches!(transfer(50_000), Err(SnapshotError::Damaged { .. })));
    drop(transfer(u64::MAX).unwrap());
    assert_eq!(files(to.path(), "partial").len(), 0, "what was not kept is gone");
    let received = transfer(u64::MAX).unwrap();
    store.keep(&received).unwrap();
    assert_eq!(records(&received), records(&sent));
    assert_eq!(store.newest_usable(Some(at(10))).unwrap().unwrap().position(), Some(at(10)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_starts_from_what_is_left_or_refuses() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(1, directory.path(), None, 20).await.unwrap();
    node.raft.initialize_single(node.peer()).await.unwrap();
    for number in 0..200_u32 {
        node.raft.propose(Bytes::from(number.to_string())).await.unwrap();
    }
    let snapshots = directory.path().join("snapshots");
    until("the log was shortened", || {
        node.raft.status().purged.is_some() && files(&snapshots, "snap").len() == KEPT
    })
    .await;
    node.stop().await;

    let damage = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        fs::write(path, &bytes).unwrap();
    };
    damage(files(&snapshots, "snap").last().unwrap());
    let node = Node::start(1, directory.path(), None, 20).await.unwrap();
    node.raft.recovered().await;
    assert_eq!(node.published().commands.len(), 200);
    node.stop().await;
    // One that was being written at the end still gets its name.
    until("no snapshot to be written", || files(&snapshots, "partial").is_empty()).await;

    files(&snapshots, "snap").iter().for_each(|path| damage(path));
    let refused = Node::start(1, directory.path(), None, 20).await.map(|_| ());
    assert!(matches!(refused, Err(StartError::Snapshot(SnapshotError::Lost { .. }))), "{refused:?}");
}
