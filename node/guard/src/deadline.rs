//! The moment at which inits kill what they hold, on a page that they share with the guard (LEASES.md R4).
//!
//! The kernel kills what hangs on a process only after that process has let go of its memory. For that it takes a lock
//! of each file that the process maps, libc's among them, and whoever holds one of these for an exec or an
//! exit of its own may wait long for a processor (`docs/decisions/0022`). So the death of a shim, which the kernel's timer
//! brings, is the last resort: a little earlier each init kills its namespace itself, which takes no such lock.

use std::cell::OnceCell;
use std::ffi::c_void;
use std::fmt;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, munmap};
use serde::{Deserialize, Serialize};

use crate::handle::Handle;

/// How long before the kernel's timer an init kills, in nanoseconds: enough for an init with real-time priority to get
/// its turn and to send the signals before it may itself be killed.
pub(crate) const HEAD_START_NS: u64 = 5_000_000;
/// A moment that has passed on every host.
const PASSED_NS: u64 = 1;
const PAGE_BYTES: usize = 4096;
const FILE_BYTES: i64 = 4096;

/// The guard's side: it writes the moment.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Deadline {
    file: Handle,
    #[serde(skip)]
    page: OnceCell<Page>,
}

impl Deadline {
    /// With no moment set.
    pub(crate) fn new() -> nix::Result<Self> {
        let file = memfd_create(c"deadline", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        nix::unistd::ftruncate(&file, FILE_BYTES)?;
        // Nobody can take the page away from those who map it.
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        let page = OnceCell::from(Page::map(file.as_fd(), ProtFlags::PROT_WRITE)?);
        Ok(Self { file: file.into(), page })
    }

    /// What an init maps.
    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Sets the kernel timer's moment, as `CLOCK_BOOTTIME` in nanoseconds (0: none). True when it is earlier than it was:
    /// then the inits have to be woken, because they sleep until the moment that they know.
    pub(crate) fn set(&self, boottime_ns: u64) -> bool {
        let Some(page) = self.page() else { return false };
        // This guard alone writes it, so nothing changes between the two.
        let before_ns = page.moment().load(Ordering::Acquire);
        if before_ns == PASSED_NS {
            return false;
        }
        page.moment().store(boottime_ns, Ordering::Release);
        boottime_ns != 0 && (before_ns == 0 || boottime_ns < before_ns)
    }

    /// Now, and for good: killing is irrevocable.
    pub(crate) fn pass(&self) {
        self.set(PASSED_NS);
    }

    /// After the guard has executed another binary over itself the page is mapped anew. Where that fails the inits keep
    /// the moment that they have, and kill too early rather than too late.
    fn page(&self) -> Option<&Page> {
        if self.page.get().is_none() {
            let page = Page::map(self.file.as_fd(), ProtFlags::PROT_WRITE).ok()?;
            // It was empty just now.
            let _set = self.page.set(page);
        }
        self.page.get()
    }
}

/// An init's side: it reads the moment.
#[derive(Debug)]
pub(crate) struct SharedDeadline(Page);

impl SharedDeadline {
    pub(crate) fn map(file: &OwnedFd) -> nix::Result<Self> {
        Page::map(file.as_fd(), ProtFlags::PROT_READ).map(Self)
    }

    /// When to kill, as `CLOCK_BOOTTIME` in nanoseconds; `None`: never, as long as it stays so.
    pub(crate) fn kill_at_ns(&self) -> Option<u64> {
        match self.0.moment().load(Ordering::Acquire) {
            0 => None,
            timer_ns => Some(timer_ns.saturating_sub(HEAD_START_NS)),
        }
    }
}

/// A mapped page that holds one number.
struct Page(NonNull<c_void>);

impl Page {
    fn map(file: BorrowedFd<'_>, access: ProtFlags) -> nix::Result<Self> {
        let length = NonZeroUsize::new(PAGE_BYTES).ok_or(Errno::EINVAL)?;
        let access = access | ProtFlags::PROT_READ;
        // SAFETY: a new mapping at a place of the kernel's choice; the file's size is sealed.
        let page = Self(unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, file, 0)? });
        // No process that is forked from here maps it, so none ever waits for another one at its file's lock.
        // SAFETY: the mapping was made above and is this process's own.
        unsafe { madvise(page.0, PAGE_BYTES, MmapAdvise::MADV_DONTFORK)? };
        Ok(page)
    }

    fn moment(&self) -> &AtomicU64 {
        // SAFETY: the page is mapped as long as this value lives, is aligned, and its processes use it as this only.
        unsafe { self.0.cast().as_ref() }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: mapped by `map`, and no reference to it can be left.
        let unmapped = unsafe { munmap(self.0, PAGE_BYTES) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Page({})", self.moment().load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both_sides() -> (Deadline, SharedDeadline) {
        let deadline = Deadline::new().expect("a page can be made");
        let file = deadline.file().try_clone_to_owned().expect("a descriptor can be doubled");
        let shared = SharedDeadline::map(&file).expect("it can be mapped");
        (deadline, shared)
    }

    #[test]
    fn an_init_kills_a_little_before_the_kernels_timer() {
        let (deadline, shared) = both_sides();
        assert_eq!(shared.kill_at_ns(), None, "nothing is set");
        deadline.set(1_000_000_000);
        assert_eq!(shared.kill_at_ns(), Some(1_000_000_000 - HEAD_START_NS));
        deadline.set(0);
        assert_eq!(shared.kill_at_ns(), None, "it was taken away");
        deadline.pass();
        deadline.set(2_000_000_000);
        assert_eq!(shared.kill_at_ns(), Some(0), "killing is irrevocable");
    }

    #[test]
    fn inits_are_woken_when_the_moment_comes_nearer() {
        let (deadline, _shared) = both_sides();
        assert!(deadline.set(1000), "any moment is earlier than none");
        assert!(!deadline.set(2000));
        assert!(!deadline.set(2000));
        assert!(deadline.set(1999));
        assert!(!deadline.set(0));
    }

    #[test]
    fn after_an_upgrade_the_same_page_is_written() {
        let (deadline, shared) = both_sides();
        let saved = serde_json::to_string(&deadline).expect("it can be saved");
        let restored: Deadline = serde_json::from_str(&saved).expect("it can be restored");
        restored.set(7_000_000_000);
        assert_eq!(shared.kill_at_ns(), Some(7_000_000_000 - HEAD_START_NS));
        // Both own the descriptor of one number, which only a process that was replaced may do.
        std::mem::forget(restored);
    }
}
