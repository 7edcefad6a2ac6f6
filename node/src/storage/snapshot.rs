//! Snapshots: files of their own, written beside the log and streamed to followers that are far behind. On the disk
//! they are encrypted with the key of this node's storage.
//!
//! A snapshot gets its name only when all of it is on the disk, so a file with a name that can't be read
//! back is damage, not a crash. The newest [`KEPT`] are kept: when the newest is damaged, the one before it
//! and the log together may still hold everything.

mod file;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use muster_proto::v1;

pub use self::file::{RecordReader, RecordWriter, SnapshotFile};
use super::durable;
use super::sealed::SealedWriter;
use super::{FileError, Position};
use crate::seal::SealingKey;

/// How many snapshots are kept.
pub const KEPT: usize = 2;
/// The newest snapshot format that this agent reads, and the one that it writes.
pub const SNAPSHOT_FORMAT: u32 = 1;

const EXTENSION: &str = "snap";
const PARTIAL_EXTENSION: &str = "partial";

/// Why a snapshot can't be written, read or used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The system refused a file operation.
    #[error(transparent)]
    File(#[from] FileError),
    /// The content is not what was written.
    #[error("the snapshot {} is damaged: {detail}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// A later version of Muster wrote it.
    #[error(
        "the snapshot {} has format {format}, but this version of Muster reads formats up to {SNAPSHOT_FORMAT}: \
         start the version that wrote it, or a later one",
        path.display()
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// The newest snapshot is damaged or missing, and the log does not reach back to an older one.
    #[error(
        "this node cannot rebuild its state: {damage}, and the log holds only the entries after {log_begins_after}. \
         Nothing was changed. Remove the node from the cluster, move its data directory away and join it again; \
         the other nodes have everything"
    )]
    Lost {
        /// What is wrong with the newest snapshot.
        damage: String,
        /// The last purged entry of the log.
        log_begins_after: Position,
    },
    /// The part of the program that owns a record could not encode or decode it.
    #[error("a record of the snapshot is not usable: {detail}")]
    Record {
        /// What is wrong.
        detail: String,
    },
}

/// The directory of the snapshots.
#[derive(Debug)]
pub struct Snapshots {
    directory: PathBuf,
    key: Arc<SealingKey>,
    partials: AtomicU64,
}

impl Snapshots {
    /// Opens or creates the directory and removes what a crash left half-written.
    ///
    /// # Errors
    /// [`FileError`] when the directory can't be made or listed.
    pub fn open(directory: &Path, key: Arc<SealingKey>) -> Result<Self, FileError> {
        durable::create_directory(directory)?;
        let store = Self { directory: directory.to_owned(), key, partials: AtomicU64::new(0) };
        for path in store.list(PARTIAL_EXTENSION)? {
            durable::remove_if_present(&path)?;
        }
        Ok(store)
    }

    /// The newest snapshot that this node may start from, verified to the last byte.
    ///
    /// When the newest one is damaged, an older one (or none) does as well if the log still holds every
    /// entry after it: replaying them gives the same state, because a snapshot holds nothing but applied
    /// entries. `log_begins_after` is the last purged entry of the log.
    ///
    /// # Errors
    /// [`SnapshotError::Lost`] when the log does not reach back far enough,
    /// [`SnapshotError::NewerFormat`], or [`SnapshotError::File`].
    pub fn newest_usable(
        &self,
        log_begins_after: Option<Position>,
    ) -> Result<Option<Arc<SnapshotFile>>, SnapshotError> {
        let mut damaged: Vec<(PathBuf, String)> = Vec::new();
        let mut usable = None;
        for path in self.list(EXTENSION)?.into_iter().rev() {
            match SnapshotFile::open(&path, &self.key) {
                Ok(file) => {
                    usable = Some(Arc::new(file));
                    break;
                }
                Err(SnapshotError::Damaged { detail, .. }) => damaged.push((path, detail)),
                Err(error) => return Err(error),
            }
        }
        let reaches_the_log = usable.as_ref().and_then(|file| file.position()) >= log_begins_after;
        if let (false, Some(log_begins_after)) = (reaches_the_log, log_begins_after) {
            let damage = match damaged.first() {
                Some((path, detail)) => format!("the snapshot {} is damaged ({detail})", path.display()),
                None => format!("the newest snapshot is missing from {}", self.directory.display()),
            };
            return Err(SnapshotError::Lost { damage, log_begins_after });
        }
        for (path, detail) in damaged {
            tracing::error!(
                path = %path.display(),
                detail,
                "a snapshot is damaged and was set aside; the log holds what it held. Check this disk"
            );
            durable::rename(&path, &path.with_extension("damaged"))?;
        }
        Ok(usable)
    }

    /// Begins a snapshot of this node's own state.
    ///
    /// # Errors
    /// [`FileError`] when the file can't be made.
    pub fn begin(&self, header: &v1::SnapshotHeader) -> Result<RecordWriter, SnapshotError> {
        RecordWriter::create(&self.next_partial(), header, &self.key)
    }

    /// Begins to receive a snapshot from the leader.
    ///
    /// # Errors
    /// [`FileError`] when the file can't be made.
    pub fn receive(&self) -> Result<Incoming, FileError> {
        let path = self.next_partial();
        let file = durable::create_file(&path)?;
        let file = SealedWriter::new(file, &self.key).map_err(FileError::of("write", &path))?;
        Ok(Incoming { path, file: Some(file), key: Arc::clone(&self.key) })
    }

    /// Gives a complete, synced snapshot its name, and removes those that are older than the newest
    /// [`KEPT`]. A snapshot that has its name already stays as it is.
    ///
    /// # Errors
    /// [`FileError`] when the rename fails.
    pub fn keep(&self, snapshot: &SnapshotFile) -> Result<(), FileError> {
        let position = snapshot.position().unwrap_or_default();
        let name = format!("{:020}-{:020}.{EXTENSION}", position.index, position.term);
        snapshot.rename(&self.directory.join(name))?;
        let mut all = self.list(EXTENSION)?;
        all.truncate(all.len().saturating_sub(KEPT));
        for old in all {
            durable::remove_if_present(&old)?;
        }
        Ok(())
    }

    fn next_partial(&self) -> PathBuf {
        let number = self.partials.fetch_add(1, Ordering::Relaxed);
        self.directory.join(format!("{number}.{PARTIAL_EXTENSION}"))
    }

    /// The files with this extension, oldest first.
    fn list(&self, extension: &str) -> Result<Vec<PathBuf>, FileError> {
        let fail = |error| FileError::of("list", &self.directory)(error);
        let mut paths = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            if path.extension().is_some_and(|found| found == extension) {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }
}

/// A snapshot that is coming in from the leader. Dropping it removes what has come.
#[derive(Debug)]
pub struct Incoming {
    path: PathBuf,
    file: Option<SealedWriter>,
    key: Arc<SealingKey>,
}

impl Incoming {
    /// Adds the next bytes.
    ///
    /// # Errors
    /// [`FileError`], for instance when the disk is full.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        let file = self.file.as_mut().expect("the file is there until `finish` takes it");
        io::Write::write_all(file, bytes).map_err(FileError::of("write", &self.path))
    }

    /// Syncs the file and verifies all of it. It still has no name: see [`Snapshots::keep`].
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] when it is not complete and whole.
    pub fn finish(mut self) -> Result<SnapshotFile, SnapshotError> {
        let file = self.file.take().expect("the file is there until `finish` takes it");
        file.finish().map_err(FileError::of("write", &self.path))?;
        match SnapshotFile::open(&self.path, &self.key) {
            Ok(snapshot) => Ok(snapshot.unnamed()),
            Err(error) => {
                durable::remove_if_present(&self.path)?;
                Err(error)
            }
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if self.file.take().is_some() && durable::remove_if_present(&self.path).is_err() {
            tracing::debug!(path = %self.path.display(), "left for the next start to remove");
        }
    }
}
