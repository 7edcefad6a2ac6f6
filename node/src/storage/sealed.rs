//! A file that is encrypted in chunks: written once from its beginning, read from any place.
//!
//! ```text
//! "MUSTSEA1" | salt, 32 bytes | chunk 0 | … | last chunk
//! chunk = ChaCha20-Poly1305 of 64 KiB of the content, the last one of what is left
//! ```
//! Each chunk is bound to its place and the last one to being the last: none can be changed, moved or left out.
//! A file without the magic number is one of the time before, and read as it is.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::seal::{ChunkCipher, SALT_BYTES, SealError, SealingKey, TAG_BYTES};

const MAGIC: &[u8; 8] = b"MUSTSEA1";
const HEADER: usize = MAGIC.len() + SALT_BYTES;
const HEADER_BYTES: u64 = HEADER as u64;
/// Content of a chunk: what is read at once, and little beside a snapshot.
const CHUNK_BYTES: usize = 64 << 10;
const CHUNK_ON_DISK: u64 = (CHUNK_BYTES + TAG_BYTES) as u64;

fn refused(error: SealError) -> io::Error {
    let kind = match error {
        SealError::NotGenuine => io::ErrorKind::InvalidData,
        SealError::Random(_) | SealError::TooLarge => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

/// Writes such a file.
#[derive(Debug)]
pub struct SealedWriter {
    file: File,
    cipher: ChunkCipher,
    chunk: Vec<u8>,
    at: u64,
}

impl SealedWriter {
    /// Begins a file that is empty.
    ///
    /// # Errors
    /// When it can't be written, or the system has no randomness.
    pub fn new(mut file: File, key: &SealingKey) -> io::Result<Self> {
        let (salt, cipher) = key.new_cipher().map_err(refused)?;
        file.write_all(MAGIC)?;
        file.write_all(&salt)?;
        Ok(Self { file, cipher, chunk: Vec::with_capacity(CHUNK_BYTES + TAG_BYTES), at: 0 })
    }

    /// Writes the last chunk and syncs. Without it the file can't be read.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn finish(mut self) -> io::Result<()> {
        self.put(true)?;
        self.file.sync_all()
    }

    fn put(&mut self, is_last: bool) -> io::Result<()> {
        self.cipher.seal(self.at, is_last, &mut self.chunk).map_err(refused)?;
        self.file.write_all(&self.chunk)?;
        self.chunk.clear();
        self.at += 1;
        Ok(())
    }
}

impl Write for SealedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full chunk waits: it may be the last one.
        if self.chunk.len() == CHUNK_BYTES {
            self.put(false)?;
        }
        let taken = bytes.len().min(CHUNK_BYTES - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Reads such a file, or a plain one.
#[derive(Debug)]
pub struct SealedReader {
    file: File,
    /// None: it is plain.
    cipher: Option<ChunkCipher>,
    chunks: u64,
    content_bytes: u64,
}

impl SealedReader {
    /// Opens it for reading by any number of readers.
    ///
    /// # Errors
    /// When it can't be read; [`io::ErrorKind::InvalidData`] when it is not whole.
    pub fn new(file: File, key: &SealingKey) -> io::Result<Arc<Self>> {
        let size = file.metadata()?.len();
        let mut header = [0; HEADER];
        let is_sealed = size >= HEADER_BYTES && {
            file.read_exact_at(&mut header, 0)?;
            header.starts_with(MAGIC)
        };
        if !is_sealed {
            return Ok(Arc::new(Self { file, cipher: None, chunks: 0, content_bytes: size }));
        }
        let mut salt = [0; SALT_BYTES];
        salt.copy_from_slice(&header[MAGIC.len()..]);
        let body = size - HEADER_BYTES;
        let chunks = body.div_ceil(CHUNK_ON_DISK);
        let tags = chunks * TAG_BYTES as u64;
        let last = body.checked_sub(chunks.saturating_sub(1) * CHUNK_ON_DISK);
        if chunks == 0 || last.is_none_or(|last| last < TAG_BYTES as u64) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it ends within a chunk"));
        }
        let cipher = Some(key.cipher(&salt));
        Ok(Arc::new(Self { file, cipher, chunks, content_bytes: body - tags }))
    }

    /// How many bytes the content has.
    #[must_use]
    pub fn content_bytes(&self) -> u64 {
        self.content_bytes
    }

    /// Reads content from `offset` on, as far as one chunk reaches; 0 at the end.
    ///
    /// # Errors
    /// When it can't be read; [`io::ErrorKind::InvalidData`] when it is not what was written.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let Some(cipher) = &self.cipher else { return self.file.read_at(buffer, offset) };
        if offset >= self.content_bytes || buffer.is_empty() {
            return Ok(0);
        }
        let at = offset / CHUNK_BYTES as u64;
        let chunk = self.chunk(cipher, at)?;
        let skipped = usize::try_from(offset % CHUNK_BYTES as u64).map_err(io::Error::other)?;
        let rest = chunk.get(skipped..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    /// Whether the last chunk is there and is the last one, which an empty content does not show by itself.
    ///
    /// # Errors
    /// As of [`Self::read_at`].
    pub fn check_end(&self) -> io::Result<()> {
        match &self.cipher {
            Some(cipher) => self.chunk(cipher, self.chunks - 1).map(drop),
            None => Ok(()),
        }
    }

    fn chunk(&self, cipher: &ChunkCipher, at: u64) -> io::Result<Vec<u8>> {
        let is_last = at + 1 == self.chunks;
        let begin = at * CHUNK_BYTES as u64;
        let content = self.content_bytes.saturating_sub(begin).min(CHUNK_BYTES as u64);
        let length = usize::try_from(content).map_err(io::Error::other)? + TAG_BYTES;
        let mut chunk = vec![0; length];
        self.file.read_exact_at(&mut chunk, HEADER_BYTES + at * CHUNK_ON_DISK)?;
        cipher.open(at, is_last, &mut chunk).map_err(refused)?;
        Ok(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SealingKey {
        SealingKey::from_bytes(&[7; 32]).unwrap()
    }

    fn written(content: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut writer = SealedWriter::new(File::create(&path).unwrap(), &key()).unwrap();
        writer.write_all(content).unwrap();
        writer.finish().unwrap();
        (directory, path)
    }

    fn read(path: &std::path::Path, key: &SealingKey, mut offset: u64) -> io::Result<Vec<u8>> {
        let reader = SealedReader::new(File::open(path)?, key)?;
        reader.check_end()?;
        let (mut all, mut part) = (Vec::new(), [0; 10_000]);
        loop {
            match reader.read_at(&mut part, offset)? {
                0 => return Ok(all),
                length => {
                    all.extend_from_slice(&part[..length]);
                    offset += length as u64;
                }
            }
        }
    }

    #[test]
    fn contents_of_all_lengths_come_back_from_any_place() {
        for length in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, 200_001] {
            let content: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let (_directory, path) = written(&content);
            assert_eq!(read(&path, &key(), 0).unwrap(), content, "{length}");
            let half = length / 2;
            assert_eq!(read(&path, &key(), half as u64).unwrap(), content[half..], "{length}");
            let on_disk = std::fs::read(&path).unwrap();
            assert!(length < 16 || !on_disk.windows(16).any(|part| part == &content[..16]), "it is in clear");
        }
    }

    #[test]
    fn what_was_cut_moved_or_written_with_another_key_is_refused() {
        let (_directory, path) = written(&[5; 2 * CHUNK_BYTES + 9]);
        let whole = std::fs::read(&path).unwrap();
        let refused = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let error = read(&path, &key(), 0).expect_err("it was changed");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        };
        let header = HEADER;
        let chunk = CHUNK_BYTES + TAG_BYTES;
        // Whole chunks fewer, or exchanged.
        refused(&whole[..header + 2 * chunk]);
        refused(&whole[..header + chunk]);
        refused(&whole[..header]);
        let (first, second) = (&whole[header..header + chunk], &whole[header + chunk..header + 2 * chunk]);
        refused(&[&whole[..header], second, first, &whole[header + 2 * chunk..]].concat());
        std::fs::write(&path, &whole).unwrap();
        let other = SealingKey::from_bytes(&[8; 32]).unwrap();
        assert_eq!(read(&path, &other, 0).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_file_of_the_time_before_is_read_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plain");
        for content in [&b"MUSTSNAP and so on"[..], b"", &[3; 100_000]] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(read(&path, &key(), 0).unwrap(), content);
        }
    }
}
