//! The sled store of the history, used by one thread only.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::audit::Audit;
use super::{Event, Query};

/// sled's cache: the history is read rarely.
const CACHE_BYTES: u64 = 1 << 20;
/// sled syncs by itself this often; a power cut may take the last events, which are derived anyway.
/// Never `flush_async`: with eight tasks it deadlocks.
const FLUSH_EVERY_MS: u64 = 2_000;
/// How many broken stores are kept for someone to look at; the next one replaces the last of them.
const BROKEN_KEPT: u32 = 3;

/// sled fails with values of 64 KiB; an event is far smaller unless something is wrong with it.
const MAX_EVENT_BYTES: usize = 48 << 10;

const EVENTS_TREE: &str = "events";
const SERVICES_TREE: &str = "by-service";

/// Why the store can't go on. It is then set aside.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error(transparent)]
    Sled(#[from] sled::Error),
    #[error("an event is not readable: {0}")]
    Event(#[from] serde_json::Error),
    #[error("a line of the audit trail is not readable: {0}")]
    Audit(#[from] prost::DecodeError),
    #[error("a line of the audit trail could not be written down: {0}")]
    Encode(#[from] prost::EncodeError),
    #[error("a key has an impossible length")]
    Key,
    #[error("it panicked: {0}")]
    Panicked(String),
}

impl StoreError {
    /// Whether the store itself is sound, but has no room.
    pub(super) fn is_no_space(&self) -> bool {
        matches!(self, Self::Sled(sled::Error::Io(error)) if error.kind() == io::ErrorKind::StorageFull)
    }
}

/// The open store.
pub(super) struct Store {
    database: sled::Db,
    /// (revision, sequence), big-endian -> event as JSON
    events: sled::Tree,
    /// (service, 0, revision, sequence) -> nothing
    by_service: sled::Tree,
    pub(super) audit: Audit,
    count: u64,
    kept: u64,
}

impl Store {
    /// Opens the store; one that can't be opened is set aside. None when a new one can't be made either.
    pub(super) fn open(directory: &Path, kept: u64) -> Option<Self> {
        for _ in 0..2 {
            match survive(|| Self::try_open(directory, kept)) {
                Ok(store) => return Some(store),
                Err(error) if error.is_no_space() => {
                    tracing::warn!(%error, "no history is kept until the agent is started with more space");
                    return None;
                }
                Err(error) => {
                    tracing::warn!(%error, "the history cannot be read and is begun anew");
                    set_aside(directory);
                }
            }
        }
        tracing::error!(directory = %directory.display(), "no history can be kept");
        None
    }

    fn try_open(directory: &Path, kept: u64) -> Result<Self, StoreError> {
        let database = sled::Config::new()
            .path(directory)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(Some(FLUSH_EVERY_MS))
            .mode(sled::Mode::LowSpace)
            .open()?;
        let events = database.open_tree(EVENTS_TREE)?;
        let by_service = database.open_tree(SERVICES_TREE)?;
        // Reads every key once, which finds pages that a power cut has damaged.
        let mut count = 0;
        for key in events.iter().keys() {
            parse_key(&key?)?;
            count += 1;
        }
        let audit = Audit::open(&database)?;
        Ok(Self { database, events, by_service, audit, count, kept })
    }

    /// Keeps the event; false when it is too large to be kept.
    pub(super) fn append(&mut self, event: &Event) -> Result<bool, StoreError> {
        let key = event_key(event.revision, event.sequence);
        let value = serde_json::to_vec(event)?;
        if value.len() > MAX_EVENT_BYTES {
            tracing::warn!(kind = event.kind, bytes = value.len(), "an event is too large to keep");
            return Ok(false);
        }
        if self.events.insert(key, value)?.is_none() {
            self.count += 1;
        }
        if let Some(service) = &event.service {
            self.by_service.insert(service_key(service, key), &[])?;
        }
        while self.count > self.kept {
            let Some((key, value)) = self.events.pop_min()? else { break };
            self.count -= 1;
            let old: Event = serde_json::from_slice(&value)?;
            if let Some(service) = &old.service {
                self.by_service.remove(service_key(service, parse_key(&key)?))?;
            }
        }
        Ok(true)
    }

    pub(super) fn query(&mut self, query: &Query) -> Result<Vec<Event>, StoreError> {
        let first = event_key(query.after_revision.map_or(0, |revision| revision.saturating_add(1)), 0);
        let limit = if query.limit == 0 { usize::MAX } else { query.limit };
        let mut events = Vec::new();
        // From the newest back, so that a limit costs no more than itself.
        let mut take = |value: &[u8]| -> Result<bool, StoreError> {
            let event: Event = serde_json::from_slice(value)?;
            let wanted = query.since_ms.is_none_or(|since_ms| event.time_ms >= since_ms);
            if wanted {
                events.push(event);
            }
            Ok(events.len() < limit)
        };
        match &query.service {
            Some(service) => {
                let last = service_key(service, event_key(u64::MAX, u32::MAX));
                for key in self.by_service.range(service_key(service, first)..=last).keys().rev() {
                    let key = key?;
                    let event = key.len().checked_sub(KEY_BYTES).ok_or(StoreError::Key)?;
                    if let Some(value) = self.events.get(&key[event..])?
                        && !take(&value)?
                    {
                        break;
                    }
                }
            }
            None => {
                for value in self.events.range(first..).values().rev() {
                    if !take(&value?)? {
                        break;
                    }
                }
            }
        }
        events.reverse();
        Ok(events)
    }

    /// Lets go of a store that has failed, without the panic that closing it may cause.
    pub(super) fn abandon(self) {
        if let Err(error) = survive(|| {
            drop(self);
            Ok(())
        }) {
            tracing::debug!(%error, "the failed history did not close in order");
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // What is lost here is derived; and sled may panic on a failing disk, which must not end the agent.
        if let Err(error) = survive(|| Ok(self.database.flush()?)) {
            tracing::debug!(%error, "the history was not flushed");
        }
    }
}

const KEY_BYTES: usize = 12;

/// (revision, sequence), big-endian.
pub(super) fn event_key(revision: u64, sequence: u32) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[..8].copy_from_slice(&revision.to_be_bytes());
    key[8..].copy_from_slice(&sequence.to_be_bytes());
    key
}

pub(super) fn parse_key(key: &[u8]) -> Result<[u8; KEY_BYTES], StoreError> {
    key.try_into().map_err(|_| StoreError::Key)
}

fn service_key(service: &str, event: [u8; KEY_BYTES]) -> Vec<u8> {
    let mut key = service.as_bytes().to_vec();
    // Names have no zero byte, so no name is the beginning of another one's keys.
    key.push(0);
    key.extend_from_slice(&event);
    key
}

/// Runs something that may panic inside sled.
pub(super) fn survive<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no detail");
        Err(StoreError::Panicked(text.to_owned()))
    })
}

/// Renames a broken store, so that it can be looked at and a new one can be begun.
pub(super) fn set_aside(directory: &Path) {
    let name = |number| {
        let mut name = directory.as_os_str().to_owned();
        name.push(format!(".broken-{number}"));
        PathBuf::from(name)
    };
    let free = (1..=BROKEN_KEPT).map(name).find(|path| !path.exists());
    let target = free.unwrap_or_else(|| name(BROKEN_KEPT));
    let moved = remove(&target).and_then(|()| fs::rename(directory, &target));
    if let Err(error) = moved {
        tracing::warn!(%error, directory = %directory.display(), "the broken history stays where it is");
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    }
}
