//! Snapshot files, sealed and plain: any bytes, and records of any content with right checksums, as a member of Raft could send them.
//!
//! A damaged file is named as such. What is accepted is a state that can be planned for and written down again.

use std::convert::Infallible;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use muster::seal::{KEY_BYTES, SealingKey};
use muster::storage::snapshot::{SNAPSHOT_FORMAT, SnapshotFile};
use muster_core::check::violations;
use muster_core::scheduler;
use muster_core::state::State;
use muster_proto::v1;
use muster_wire::{SessionKeys, StateReader};
use nix::sys::memfd::{MFdFlags, memfd_create};
use prost::Message;

use super::input::{Input, Output};
use super::scene;

/// The most records of one input.
const MAX_RECORDS: usize = 64;

pub(super) fn body(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    if input.byte() == 0 {
        // As the disk may hand it over.
        drop(read(input.rest()));
        return;
    }
    let header = v1::SnapshotHeader { format: SNAPSHOT_FORMAT, ..Default::default() };
    let mut records = vec![header.encode_to_vec()];
    while !input.is_empty() && records.len() < MAX_RECORDS {
        records.push(input.part().to_vec());
    }
    let Some(state) = read(&file(&records)) else { return };
    let mut reader = StateReader::new();
    let written: Result<(), Infallible> = muster_wire::write_state(&state, SessionKeys::Include, |record| {
        reader.push(record).expect("a record that Muster wrote is legal");
        Ok(())
    });
    let Ok(()) = written;
    assert!(reader.finish().is_ok_and(|again| again == state), "it does not come back");
    // A state that breaks no invariant is one that a cluster could be in.
    if violations(&state).is_empty() {
        drop(scheduler::plan(&state, state.now));
    }
}

/// The layout of a snapshot file, by its description and not by the code that writes it.
fn file(records: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = b"MUSTSNAP".to_vec();
    let mut all = 0;
    for record in records {
        let length = u32::try_from(record.len()).unwrap_or(u32::MAX).to_le_bytes();
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&length), record).to_le_bytes();
        all = crc32c::crc32c_append(all, &checksum);
        bytes.extend(length);
        bytes.extend(checksum);
        bytes.extend(record);
    }
    let count = (records.len() as u64).to_le_bytes();
    bytes.extend(u32::MAX.to_le_bytes());
    bytes.extend(count);
    bytes.extend(crc32c::crc32c_append(all, &count).to_le_bytes());
    bytes
}

/// Reads a file in memory as the replica does.
fn read(content: &[u8]) -> Option<State> {
    let memory = memfd_create("snapshot", MFdFlags::MFD_CLOEXEC).expect("a file in memory");
    let mut memory = std::fs::File::from(memory);
    memory.write_all(content).expect("it is memory");
    let path = PathBuf::from(format!("/proc/self/fd/{}", memory.as_raw_fd()));
    let key = SealingKey::from_bytes(&[7; KEY_BYTES]).expect("a key of that size");
    let snapshot = SnapshotFile::open(&path, &key).ok()?;
    let mut records = snapshot.records().expect("it was verified");
    let mut reader = StateReader::new();
    while let Some(bytes) = records.next().expect("it was verified") {
        reader.push(v1::StateRecord::decode(bytes).ok()?).ok()?;
    }
    reader.finish().ok()
}

pub(super) fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut records = Vec::new();
    let written: Result<(), Infallible> =
        muster_wire::write_state(&scene::cluster(), SessionKeys::Include, |record| {
            records.push(record.encode_to_vec());
            Ok(())
        });
    let Ok(()) = written;
    let parts = records.iter().fold(Output(vec![1]), |out, record| out.part(record)).0;
    let header = v1::SnapshotHeader { format: SNAPSHOT_FORMAT, ..Default::default() }.encode_to_vec();
    let raw = [vec![0], file(&[header.clone(), records[0].clone()])].concat();
    // A record that claims to be as long as is allowed, in a file that ends there.
    let long = [b"\0MUSTSNAP".to_vec(), (64_u32 << 20).to_le_bytes().to_vec(), vec![0; 8]].concat();
    // One that is encrypted, with another key.
    let sealed = [b"\0MUSTSEA1".to_vec(), vec![0; 32 + 40]].concat();
    let newer = v1::SnapshotHeader { format: SNAPSHOT_FORMAT + 1, ..Default::default() }.encode_to_vec();
    vec![
        ("records".to_owned(), parts),
        ("raw".to_owned(), raw),
        ("long".to_owned(), long),
        ("sealed".to_owned(), sealed),
        ("newer".to_owned(), [vec![0], file(&[newer])].concat()),
    ]
}
