//! One task's log across its rotations.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::tail;

/// Read at once from one file, so that many followers share the machine.
const READ_BYTES_MAX: usize = 256 * 1024;
/// A line longer than this is cut into several.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// A place in a task's log: behind a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Which file: it keeps its number when it is rotated away, and no later one gets it. Never 0.
    pub file: u64,
    /// In bytes.
    pub offset: u64,
}

/// The reader of one task's log.
pub(super) struct TaskLog {
    path: PathBuf,
    current: Option<Opened>,
    /// The beginning of a line whose end was not written yet.
    partial: Vec<u8>,
}

struct Opened {
    file: File,
    number: u64,
    /// Where `partial` begins in it; below 0 when that began in the file before.
    begin: i64,
}

impl Opened {
    fn open(path: &Path, offset: u64) -> io::Result<Option<Self>> {
        let Some(mut file) = open_if_there(path)? else { return Ok(None) };
        file.seek(SeekFrom::Start(offset))?;
        let number = number_of(&file.metadata()?);
        Ok(Some(Self { file, number, begin: i64::try_from(offset).unwrap_or(i64::MAX) }))
    }

    fn position(&self, consumed: usize) -> Position {
        let offset = self.begin.saturating_add(i64::try_from(consumed).unwrap_or(i64::MAX));
        Position { file: self.number, offset: u64::try_from(offset).unwrap_or(0) }
    }
}

impl TaskLog {
    /// Begins at the last `tail` lines, or at the oldest line that is kept.
    pub fn open(path: PathBuf, tail: Option<usize>) -> io::Result<Self> {
        let (index, offset) = match tail {
            Some(lines) => tail::position(&path, lines)?,
            None => (oldest(&path), 0),
        };
        let current = Opened::open(&rotated(&path, index), offset)?;
        Ok(Self { path, current, partial: Vec::new() })
    }

    /// Goes on behind a line; at the oldest line that is kept when that one is not.
    pub fn resume(path: PathBuf, behind: Position) -> io::Result<Self> {
        let is_it = |index: &u32| {
            let found = rotated(&path, *index).metadata();
            found.is_ok_and(|found| number_of(&found) == behind.file && found.len() >= behind.offset)
        };
        let last = oldest(&path);
        let (index, offset) = (0..=last).find(is_it).map_or((last, 0), |index| (index, behind.offset));
        let current = Opened::open(&rotated(&path, index), offset)?;
        Ok(Self { path, current, partial: Vec::new() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Hands out whole lines, up to a limit; with `to_the_end` also a last one without its end. Tells whether
    /// there is more to read.
    pub fn read(&mut self, to_the_end: bool, mut line: impl FnMut(&[u8], Position)) -> io::Result<bool> {
        if self.current.is_none() {
            self.current = Opened::open(&rotated(&self.path, oldest(&self.path)), 0)?;
        }
        let Some(current) = &mut self.current else { return Ok(false) };
        // Looked up before the read: whatever the file holds after it was rotated away is all it will hold.
        let newer = newer_than(current, &self.path)?;
        let read = (&current.file).take(READ_BYTES_MAX as u64).read_to_end(&mut self.partial)?;
        hand_out(current, &mut self.partial, &mut line);
        if read == READ_BYTES_MAX {
            return Ok(true);
        }
        if let Some(newer) = newer {
            let begin = -i64::try_from(self.partial.len()).unwrap_or(0);
            self.current = Some(Opened { begin, ..newer });
            return Ok(true);
        }
        if to_the_end && !self.partial.is_empty() {
            let end = current.position(self.partial.len());
            line(&std::mem::take(&mut self.partial), end);
        }
        Ok(false)
    }
}

/// An inode alone is given to the next file when this one is gone: the time of its birth tells them apart.
fn number_of(metadata: &Metadata) -> u64 {
    let born = metadata.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
    let born_ns = born.and_then(|born| u64::try_from(born.as_nanos()).ok()).unwrap_or(0);
    (metadata.ino().rotate_left(40) ^ born_ns).max(1)
}

fn hand_out(from: &mut Opened, partial: &mut Vec<u8>, line: &mut impl FnMut(&[u8], Position)) {
    let mut done = 0;
    loop {
        let rest = &partial[done..];
        let end = rest.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n');
        let (text, taken) = match end {
            Some(end) => (rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]), end + 1),
            None if rest.len() >= LINE_BYTES_MAX => (&rest[..LINE_BYTES_MAX], LINE_BYTES_MAX),
            None => break,
        };
        done += taken;
        line(text, from.position(done));
    }
    partial.drain(..done);
    from.begin = from.begin.saturating_add(i64::try_from(done).unwrap_or(0));
}

/// The file of that age: 0 is the one being written.
pub(super) fn rotated(path: &Path, index: u32) -> PathBuf {
    if index == 0 { path.to_owned() } else { PathBuf::from(format!("{}.{index}", path.display())) }
}

/// The age of the oldest file that is kept.
pub(super) fn oldest(path: &Path) -> u32 {
    (1..).find(|index| !rotated(path, *index).exists()).map_or(0, |missing| missing - 1)
}

pub(super) fn open_if_there(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The file that follows `file`, when `file` was rotated away.
fn newer_than(current: &Opened, path: &Path) -> io::Result<Option<Opened>> {
    let is_own =
        |index: &u32| rotated(path, *index).metadata().is_ok_and(|m| number_of(&m) == current.number);
    let last = oldest(path);
    match (0..=last).find(is_own) {
        Some(0) => Ok(None),
        Some(index) => Opened::open(&rotated(path, index - 1), 0),
        // Rotated away for good while nobody looked: go on with the oldest that is left.
        None => Opened::open(&rotated(path, last), 0),
    }
}
