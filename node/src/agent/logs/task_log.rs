//! One task's log across its rotations.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::tail;

/// Read at once from one file, so that many followers share the machine.
const READ_BYTES_MAX: usize = 256 * 1024;
/// A line longer than this is cut into several.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// The reader of one task's log.
pub(super) struct TaskLog {
    path: PathBuf,
    current: Option<File>,
    /// The beginning of a line whose end was not written yet.
    partial: Vec<u8>,
}

impl TaskLog {
    /// Begins at the last `tail` lines, or at the oldest line that is kept.
    pub fn open(path: PathBuf, tail: Option<usize>) -> io::Result<Self> {
        let (index, offset) = match tail {
            Some(lines) => tail::position(&path, lines)?,
            None => (oldest(&path), 0),
        };
        let mut current = open_if_there(&rotated(&path, index))?;
        if let Some(file) = &mut current {
            file.seek(SeekFrom::Start(offset))?;
        }
        Ok(Self { path, current, partial: Vec::new() })
    }

    /// Hands out whole lines, up to a limit; with `to_the_end` also a last one without its end. Tells whether
    /// there is more to read.
    pub fn read(&mut self, to_the_end: bool, mut line: impl FnMut(&[u8])) -> io::Result<bool> {
        if self.current.is_none() {
            self.current = open_if_there(&rotated(&self.path, oldest(&self.path)))?;
        }
        let Some(file) = &mut self.current else { return Ok(false) };
        // Looked up before the read: whatever the file holds after it was rotated away is all it will hold.
        let newer = newer_than(file, &self.path)?;
        let read = file.take(READ_BYTES_MAX as u64).read_to_end(&mut self.partial)?;
        self.hand_out(&mut line);
        if read == READ_BYTES_MAX {
            return Ok(true);
        }
        if let Some(newer) = newer {
            self.current = Some(newer);
            return Ok(true);
        }
        if to_the_end && !self.partial.is_empty() {
            line(&std::mem::take(&mut self.partial));
        }
        Ok(false)
    }

    fn hand_out(&mut self, line: &mut impl FnMut(&[u8])) {
        let mut rest = &self.partial[..];
        loop {
            let end = rest.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n');
            match end {
                Some(end) => {
                    line(rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]));
                    rest = &rest[end + 1..];
                }
                None if rest.len() >= LINE_BYTES_MAX => {
                    line(&rest[..LINE_BYTES_MAX]);
                    rest = &rest[LINE_BYTES_MAX..];
                }
                None => break,
            }
        }
        let done = self.partial.len() - rest.len();
        self.partial.drain(..done);
    }
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
fn newer_than(file: &File, path: &Path) -> io::Result<Option<File>> {
    let own = file.metadata()?.ino();
    let is_own = |index: &u32| rotated(path, *index).metadata().is_ok_and(|m| m.ino() == own);
    let last = oldest(path);
    match (0..=last).find(is_own) {
        Some(0) => Ok(None),
        Some(index) => open_if_there(&rotated(path, index - 1)),
        // Rotated away for good while nobody looked: go on with the oldest that is left.
        None => open_if_there(&rotated(path, last)),
    }
}
