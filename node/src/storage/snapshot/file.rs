//! The snapshot file: a magic number, records, a trailer.
//!
//! ```text
//! "MUSTSNAP" | record 0: v1.SnapshotHeader | record 1 … n: the replica's | trailer
//! record  = length u32 | crc32c of length and content u32 | content
//! trailer = 0xffffffff | count of records u64 | crc32c of all the records' checksums and the count u32
//! ```
//! Numbers are little-endian. Each record has a checksum so that damage is named where it is; the trailer
//! proves that none is missing. On the disk all of it is encrypted with the key of this node's storage
//! ([`crate::storage::sealed`]); to another member it is streamed as above, over an encrypted connection.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use muster_proto::v1;
use prost::Message;

use super::{SNAPSHOT_FORMAT, SnapshotError};
use crate::seal::SealingKey;
use crate::storage::durable;
use crate::storage::sealed::{SealedReader, SealedWriter};
use crate::storage::{FileError, Position};

const MAGIC: &[u8; 8] = b"MUSTSNAP";
/// Stands where a record's length would: no record is that long.
const TRAILER_MARK: u32 = u32::MAX;
/// The largest record; a replica splits its tables into far smaller ones.
const MAX_RECORD_BYTES: u32 = 64 << 20;
const BUFFER_BYTES: usize = 256 << 10;

/// A complete snapshot. Its file stays readable while this exists, even when it has been pruned meanwhile.
#[derive(Debug)]
pub struct SnapshotFile {
    file: Arc<SealedReader>,
    path: Mutex<PathBuf>,
    size_bytes: u64,
    header: v1::SnapshotHeader,
    named: AtomicBool,
}

impl SnapshotFile {
    /// Opens the file and verifies every byte of it.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`], [`SnapshotError::NewerFormat`], or [`SnapshotError::File`].
    pub fn open(path: &Path, key: &SealingKey) -> Result<Self, SnapshotError> {
        let file = File::open(path).map_err(FileError::of("open", path))?;
        let file = SealedReader::new(file, key).map_err(|error| unreadable(path, error))?;
        file.check_end().map_err(|error| unreadable(path, error))?;
        let size_bytes = file.content_bytes();
        let mut reader = RecordReader::new(Arc::clone(&file), path)?;
        let header = reader.next()?.ok_or_else(|| damaged(path, "it has no header"))?;
        let header = v1::SnapshotHeader::decode(header)
            .map_err(|error| damaged(path, &format!("its header: {error}")))?;
        if header.format > SNAPSHOT_FORMAT {
            return Err(SnapshotError::NewerFormat { path: path.to_owned(), format: header.format });
        }
        while reader.next()?.is_some() {}
        let path = Mutex::new(path.to_owned());
        Ok(Self { file, path, size_bytes, header, named: AtomicBool::new(true) })
    }

    /// The last entry that the snapshot contains.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.header.last_applied.map(|id| Position { term: id.term, index: id.index })
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &v1::SnapshotHeader {
        &self.header
    }

    /// The size of the snapshot as it is streamed.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The replica's records, from the first one.
    ///
    /// # Errors
    /// [`SnapshotError`] when the file can't be read.
    pub fn records(&self) -> Result<RecordReader, SnapshotError> {
        let mut reader = RecordReader::new(Arc::clone(&self.file), &self.path())?;
        // The header is not the replica's.
        reader.next()?;
        Ok(reader)
    }

    /// The bytes of the snapshot from `offset`, at most `max` of them; empty at the end.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn read_part(&self, offset: u64, max: usize) -> io::Result<Bytes> {
        let left = usize::try_from(self.size_bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut part = vec![0; left.min(max)];
        let mut filled = 0;
        while filled < part.len() {
            match self.file.read_at(&mut part[filled..], offset + filled as u64)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                length => filled += length,
            }
        }
        Ok(part.into())
    }

    /// Marks the file as one that is removed when it is dropped without having got a name.
    pub(super) fn unnamed(self) -> Self {
        self.named.store(false, Ordering::Release);
        self
    }

    pub(super) fn rename(&self, to: &Path) -> Result<(), FileError> {
        let mut path = self.path.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if *path != to {
            durable::rename(&path, to)?;
            to.clone_into(&mut path);
        }
        self.named.store(true, Ordering::Release);
        Ok(())
    }

    fn path(&self) -> PathBuf {
        self.path.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

impl Drop for SnapshotFile {
    fn drop(&mut self) {
        if !self.named.load(Ordering::Acquire) && durable::remove_if_present(&self.path()).is_err() {
            tracing::debug!(path = %self.path().display(), "left for the next start to remove");
        }
    }
}

/// Writes a snapshot record by record.
#[derive(Debug)]
pub struct RecordWriter {
    path: PathBuf,
    file: SealedWriter,
    key: Arc<SealingKey>,
    count: u64,
    checksum: u32,
}

impl RecordWriter {
    pub(super) fn create(
        path: &Path,
        header: &v1::SnapshotHeader,
        key: &Arc<SealingKey>,
    ) -> Result<Self, SnapshotError> {
        let file = durable::create_file(path)?;
        let file = SealedWriter::new(file, key).map_err(FileError::of("write", path))?;
        let mut writer = Self { path: path.to_owned(), file, key: Arc::clone(key), count: 0, checksum: 0 };
        writer.put(MAGIC)?;
        writer.record(&header.encode_to_vec())?;
        Ok(writer)
    }

    /// Adds a record.
    ///
    /// # Errors
    /// [`SnapshotError::File`] when the disk is full; [`SnapshotError::Record`] when the record is too large.
    pub fn record(&mut self, content: &[u8]) -> Result<(), SnapshotError> {
        let length = u32::try_from(content.len()).ok().filter(|length| *length <= MAX_RECORD_BYTES);
        let length = length.ok_or_else(|| SnapshotError::Record {
            detail: format!("{} bytes are more than the {MAX_RECORD_BYTES} allowed", content.len()),
        })?;
        let length = length.to_le_bytes();
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&length), content).to_le_bytes();
        self.put(&length)?;
        self.put(&checksum)?;
        self.put(content)?;
        self.count += 1;
        self.checksum = crc32c::crc32c_append(self.checksum, &checksum);
        Ok(())
    }

    /// Writes the trailer and syncs. The file still has no name: see [`super::Snapshots::keep`].
    ///
    /// # Errors
    /// [`SnapshotError::File`] when the disk is full or fails.
    pub fn finish(mut self) -> Result<SnapshotFile, SnapshotError> {
        let count = self.count.to_le_bytes();
        let checksum = crc32c::crc32c_append(self.checksum, &count).to_le_bytes();
        self.put(&TRAILER_MARK.to_le_bytes())?;
        self.put(&count)?;
        self.put(&checksum)?;
        self.file.finish().map_err(FileError::of("write", &self.path))?;
        // Reading it back costs little beside the writing, and finds bad memory before anyone relies on it.
        SnapshotFile::open(&self.path, &self.key).map(SnapshotFile::unnamed)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.file.write_all(bytes).map_err(FileError::of("write", &self.path))
    }
}

/// Reads a snapshot record by record and verifies it on the way.
#[derive(Debug)]
pub struct RecordReader {
    path: PathBuf,
    reader: BufReader<FileFrom>,
    count: u64,
    checksum: u32,
    ended: bool,
}

impl RecordReader {
    fn new(file: Arc<SealedReader>, path: &Path) -> Result<Self, SnapshotError> {
        let reader = BufReader::with_capacity(BUFFER_BYTES, FileFrom { file, offset: 0 });
        let mut reader = Self { path: path.to_owned(), reader, count: 0, checksum: 0, ended: false };
        if reader.take::<8>()? != *MAGIC {
            return Err(damaged(path, "it does not begin like a snapshot"));
        }
        Ok(reader)
    }

    /// The next record; none after the last one, once the trailer has proved that it was the last.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] or [`SnapshotError::File`].
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator of results invites `flatten`, which hides damage"
    )]
    pub fn next(&mut self) -> Result<Option<Bytes>, SnapshotError> {
        if self.ended {
            return Ok(None);
        }
        let length_bytes = self.take::<4>()?;
        let length = u32::from_le_bytes(length_bytes);
        if length == TRAILER_MARK {
            return self.trailer().map(|()| None);
        }
        if length > MAX_RECORD_BYTES {
            return Err(self.damaged_record("its length is impossible"));
        }
        let checksum = self.take::<4>()?;
        let mut content = vec![0; length as usize];
        self.fill(&mut content)?;
        let computed = crc32c::crc32c_append(crc32c::crc32c(&length_bytes), &content);
        if computed.to_le_bytes() != checksum {
            return Err(self.damaged_record("its checksum is wrong"));
        }
        self.count += 1;
        self.checksum = crc32c::crc32c_append(self.checksum, &checksum);
        Ok(Some(content.into()))
    }

    fn trailer(&mut self) -> Result<(), SnapshotError> {
        let count = self.take::<8>()?;
        let checksum = self.take::<4>()?;
        let computed = crc32c::crc32c_append(self.checksum, &count).to_le_bytes();
        if count != self.count.to_le_bytes() || checksum != computed {
            return Err(damaged(&self.path, "its trailer does not fit its records"));
        }
        let mut beyond = [0];
        match self.reader.read(&mut beyond) {
            Ok(0) => {}
            Ok(_) => return Err(damaged(&self.path, "it goes on after its end")),
            Err(error) => return Err(unreadable(&self.path, error)),
        }
        self.ended = true;
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), SnapshotError> {
        match self.reader.read_exact(bytes) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(damaged(&self.path, &format!("it ends within record {}", self.count)))
            }
            other => other.map_err(|error| unreadable(&self.path, error)),
        }
    }

    fn damaged_record(&self, what: &str) -> SnapshotError {
        damaged(&self.path, &format!("record {}: {what}", self.count))
    }
}

/// What can't be decrypted is damage; the rest is the system's.
fn unreadable(path: &Path, error: io::Error) -> SnapshotError {
    match error.kind() {
        io::ErrorKind::InvalidData => damaged(path, &error.to_string()),
        _ => FileError::of("read", path)(error).into(),
    }
}

fn damaged(path: &Path, detail: &str) -> SnapshotError {
    SnapshotError::Damaged { path: path.to_owned(), detail: detail.to_owned() }
}

/// Reads from an offset of its own: the file is shared with streams to other nodes.
#[derive(Debug)]
struct FileFrom {
    file: Arc<SealedReader>,
    offset: u64,
}

impl Read for FileFrom {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}
