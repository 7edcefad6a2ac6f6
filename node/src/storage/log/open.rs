//! Opening the log: every check that the library leaves to its user.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use raft_log::api::raft_log_writer::RaftLogWriter;

use super::OpenError;
use super::codec::LogTypes;
use crate::storage::durable;
use crate::storage::{FileError, Position};

type RaftLog = raft_log::RaftLog<LogTypes>;

/// Space comes back a file at a time, so files are kept small.
const CHUNK_MAX_BYTES: usize = 16 << 20;
/// Bounds the index of a file; about 256 bytes an entry for a full file.
const CHUNK_MAX_RECORDS: usize = 65_536;
/// Read-ahead while the log is replayed at open.
const READ_BUFFER_BYTES: usize = 1 << 20;
/// How long the writer gathers what is to be synced at once. Zero would turn group commit off, and 1 ms, the library's
/// default, costs a single writer a factor of five. Writes that come during a sync wait in the queue anyway and are
/// gathered without waiting.
const FLUSH_BATCH_WAIT: Duration = Duration::from_micros(2);
/// Entries kept in memory, for replication to followers that are not far behind.
const CACHE_MAX_ITEMS: usize = 20_000;
/// The same bound in bytes.
const CACHE_MAX_BYTES: usize = 16 << 20;
/// The kernel rounds short waits up by this; its default of 50 µs would triple the batch wait above.
const TIMER_SLACK_NS: u64 = 1_000;

/// Opens the log and syncs it. Also returns the bytes of a torn tail that were cut off.
pub(super) fn open(directory: &Path) -> Result<(RaftLog, u64), OpenError> {
    durable::create_directory(directory)?;
    let before = chunk_sizes(directory)?;
    let damaged = |detail: String| OpenError::Damaged { directory: directory.to_owned(), detail };
    if let Some((name, _)) = before.iter().rev().skip(1).find(|(_, size)| **size == 0) {
        return Err(damaged(format!("the file {name} is empty")));
    }

    let mut log = open_catching_panics(directory)?;
    // Opening doesn't sync. Entries in the page cache would be read, counted for a quorum by Raft, and
    // be gone after a power cut.
    let synced = log.flush(true, None).and_then(|()| log.wait_worker_idle());
    synced.map_err(|source| OpenError::Io { directory: directory.to_owned(), source })?;

    let after = chunk_sizes(directory)?;
    let first_survives = before.keys().next().is_none_or(|name| after.contains_key(name));
    if !first_survives && before.values().next() != Some(&0) {
        return Err(damaged("its only file has no readable beginning".into()));
    }
    check_no_hole(&log).map_err(damaged)?;
    let torn_tail_bytes =
        before.iter().map(|(name, size)| size.saturating_sub(after.get(name).copied().unwrap_or(0))).sum();
    if torn_tail_bytes > 0 {
        tracing::warn!(
            directory = %directory.display(),
            torn_tail_bytes,
            "cut a half-written record off the end of the log: the agent or the host ended without a stop"
        );
    }
    Ok((log, torn_tail_bytes))
}

fn config(directory: &Path) -> Result<raft_log::Config, OpenError> {
    let text = directory.to_str().ok_or_else(|| OpenError::Io {
        directory: directory.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidInput, "the path is not valid UTF-8"),
    })?;
    let mut config = raft_log::Config::new(text);
    config.wal.chunk_max_size = Some(CHUNK_MAX_BYTES);
    config.wal.chunk_max_records = Some(CHUNK_MAX_RECORDS);
    config.wal.read_buffer_size = Some(READ_BUFFER_BYTES);
    config.wal.flush_batch_wait = Some(FLUSH_BATCH_WAIT);
    config.wal.truncate_incomplete_record = Some(true);
    config.log_cache_max_items = Some(CACHE_MAX_ITEMS);
    config.log_cache_capacity = Some(CACHE_MAX_BYTES);
    Ok(config)
}

/// Opens the log; a panic of the library (a closed file cut to nothing causes one) is damage too.
fn open_catching_panics(directory: &Path) -> Result<RaftLog, OpenError> {
    let config = Arc::new(config(directory)?);
    let opened = with_short_timer_slack(|| catch_unwind(AssertUnwindSafe(|| RaftLog::open(config))));
    let damaged = |detail: String| OpenError::Damaged { directory: directory.to_owned(), detail };
    match opened {
        Ok(Ok(log)) => Ok(log),
        Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(OpenError::InUse { directory: directory.to_owned() })
        }
        // What the system refused is not damage: a full disk, a missing permission, an I/O error.
        Ok(Err(source)) if source.raw_os_error().is_some() => {
            Err(OpenError::Io { directory: directory.to_owned(), source })
        }
        // The library names the offset, and the file as ChunkId(N).
        Ok(Err(error)) => Err(damaged(format!("{error} (ChunkId(N) is the file r-N.wal)"))),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no detail");
            Err(damaged(format!("reading it failed unexpectedly ({text})")))
        }
    }
}

/// The names of the log's files, in their order, with their sizes.
fn chunk_sizes(directory: &Path) -> Result<BTreeMap<String, u64>, FileError> {
    let fail = |error| FileError::of("list", directory)(error);
    let mut sizes = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".wal") {
            sizes.insert(name, entry.metadata().map_err(fail)?.len());
        }
    }
    Ok(sizes)
}

/// The entries held must begin right after the purged one: when the first file is missing, the library
/// opens the rest without a word.
fn check_no_hole(log: &RaftLog) -> Result<(), String> {
    let state = log.log_state();
    let purged: Option<Position> = state.purged().copied();
    let expected = purged.map_or(0, |position| position.index + 1);
    match (log.read(0, u64::MAX).next(), state.last()) {
        (Some(Ok((first, _))), _) if first.index == expected => Ok(()),
        (Some(Ok((first, _))), _) => Err(format!(
            "it begins with entry {} but should begin with entry {expected}: a file is missing",
            first.index
        )),
        (Some(Err(error)), _) => Err(format!("its first entry cannot be read: {error}")),
        (None, last) if last.copied() == purged => Ok(()),
        (None, Some(last)) => Err(format!("entry {last} was its last one, and is missing")),
        (None, None) => Err("its purged entries are beyond its last one".into()),
    }
}

/// Runs `open` with a short timer slack, which the writer thread started by it inherits.
fn with_short_timer_slack<T>(open: impl FnOnce() -> T) -> T {
    let usual_ns = nix::sys::prctl::get_timerslack();
    let shortened = nix::sys::prctl::set_timerslack(TIMER_SLACK_NS);
    let opened = open();
    if let (Ok(usual_ns), Ok(())) = (usual_ns, shortened) {
        // Only speed is at stake: if the value can't be put back, this thread wakes a little early.
        if nix::sys::prctl::set_timerslack(u64::from(usual_ns.unsigned_abs())).is_err() {
            tracing::debug!("the timer slack of this thread stays short");
        }
    }
    opened
}
