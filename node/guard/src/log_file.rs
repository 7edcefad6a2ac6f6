//! A log file that is rotated by size.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use crate::protocol::LogSpec;

const CHUNK_BYTES: usize = 8192;

/// The file and its numbered predecessors; `names[0]` is the one being written.
pub(crate) struct RotatedFile {
    directory: Option<PathBuf>,
    names: Vec<CString>,
    max_bytes: u64,
    open: Option<(OwnedFd, u64)>,
}

impl RotatedFile {
    /// Does not touch the disk.
    pub(crate) fn new(spec: &LogSpec) -> io::Result<Self> {
        let path = Path::new(&spec.path);
        let numbered = |number: u32| -> PathBuf {
            if number == 0 { path.to_owned() } else { PathBuf::from(format!("{}.{number}", spec.path)) }
        };
        let names = (0..=spec.keep)
            .map(|number| CString::new(numbered(number).as_os_str().as_bytes()))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            directory: path.parent().map(Path::to_owned),
            names,
            max_bytes: spec.max_bytes.max(1),
            open: None,
        })
    }

    /// Writes all that comes from `source` until it hangs up, and counts the bytes that could not be written. Makes
    /// the file's directory where it is missing; the file is opened by the first output.
    pub(crate) fn write_all_from(&mut self, source: &OwnedFd, unwritten: &AtomicU64) {
        let mut chunk = [0; CHUNK_BYTES];
        loop {
            match nix::unistd::read(source, &mut chunk) {
                Ok(0) => return,
                Ok(count) => {
                    let lost = count - self.write(&chunk[..count]);
                    unwritten.fetch_add(lost as u64, Ordering::Relaxed);
                }
                Err(Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }

    /// Returns how many bytes were written: fewer on a full disk, for which the file is tried again next time.
    fn write(&mut self, output: &[u8]) -> usize {
        let max_bytes = self.max_bytes;
        let full = |size: u64| size > 0 && size + output.len() as u64 > max_bytes;
        if self.open.as_ref().is_some_and(|(_, size)| full(*size)) {
            self.rotate();
        }
        if self.open.is_none() {
            // Without it the file can't be opened, and all output counts as unwritten.
            let _made = self.directory.as_ref().map(std::fs::create_dir_all);
            self.open = self.reopen(false);
            // A file left by an earlier start may be full already.
            if self.open.as_ref().is_some_and(|(_, size)| full(*size)) {
                self.rotate();
            }
        }
        let Some((file, size)) = &mut self.open else { return 0 };
        let mut done = 0;
        while done < output.len() {
            match nix::unistd::write(&*file, &output[done..]) {
                Ok(count) => done += count,
                Err(Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        *size += done as u64;
        if done < output.len() {
            self.open = None;
        }
        done
    }

    fn rotate(&mut self) {
        self.open = None;
        for index in (1..self.names.len()).rev() {
            // A predecessor that does not exist yet is no failure.
            let _absent = nix::fcntl::renameat(
                nix::fcntl::AT_FDCWD,
                self.names[index - 1].as_c_str(),
                nix::fcntl::AT_FDCWD,
                self.names[index].as_c_str(),
            );
        }
        self.open = self.reopen(self.names.len() == 1);
    }

    fn reopen(&self, truncate: bool) -> Option<(OwnedFd, u64)> {
        let mut flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_APPEND | OFlag::O_CLOEXEC;
        if truncate {
            flags |= OFlag::O_TRUNC;
        }
        let file = open(self.names[0].as_c_str(), flags, Mode::from_bits_truncate(0o640)).ok()?;
        let size = nix::sys::stat::fstat(file.as_fd()).ok()?.st_size;
        Some((file, u64::try_from(size).unwrap_or(0)))
    }
}
