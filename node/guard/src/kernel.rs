//! System calls that have no safe wrapper, each behind a safe function.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// libc's constant of this name does not fit its type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of a fork this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fork {
    /// The new process.
    Child,
    /// The old one, with the new one's id.
    Parent(Pid),
}

/// Forks, optionally into new namespaces (`CLONE_NEW…`). The caller must be its process's only thread, or its
/// other threads must never hold a lock (the allocator's): both sides go on with ordinary code.
pub(crate) fn fork(namespaces: libc::c_int) -> nix::Result<Fork> {
    if namespaces == 0 {
        // SAFETY: see above; libc's own fork keeps its locks consistent.
        return side_of(unsafe { libc::fork() }.into());
    }
    let flags = libc::c_long::from(namespaces | libc::SIGCHLD);
    // SAFETY: without a stack and without CLONE_VM this is a fork; all further arguments are unused.
    side_of(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })
}

/// Forks into the cgroup whose directory is open as `cgroup`.
pub(crate) fn fork_into_cgroup(cgroup: BorrowedFd<'_>) -> nix::Result<Fork> {
    // SAFETY: a structure of integers, for which zero is a valid value.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = CLONE_INTO_CGROUP;
    arguments.exit_signal = Signal::SIGCHLD as u64;
    arguments.cgroup = u64::try_from(cgroup.as_raw_fd()).expect("a descriptor is not negative");
    // SAFETY: the structure outlives the call; without a stack and without CLONE_VM this is a fork.
    side_of(unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>()) })
}

fn side_of(result: libc::c_long) -> nix::Result<Fork> {
    match Errno::result(result)? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(Pid::from_raw(i32::try_from(pid).expect("a process id")))),
    }
}

/// Ends the process at once, without running what the parent registered for its own end.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: takes no pointers and does not return.
    unsafe { libc::_exit(code) }
}

/// A descriptor that becomes readable when the process has ended, all of its PID namespace included if it is
/// the first process of one.
pub(crate) fn pidfd_open(pid: Pid) -> nix::Result<OwnedFd> {
    // SAFETY: integers only; the result is a new descriptor that nobody else owns.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
    let fd = RawFd::try_from(fd).expect("a descriptor");
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends a signal to exactly the process behind the descriptor, whoever has its number by now.
pub(crate) fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: Signal) -> nix::Result<()> {
    // SAFETY: the information is null, which the kernel allows.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal as i32,
            std::ptr::null::<()>(),
            0,
        )
    };
    Errno::result(result).map(drop)
}

/// Closes all descriptors from `first` on, or only marks them to be closed by exec.
pub(crate) fn close_from(first: RawFd, only_at_exec: bool) {
    let flags = if only_at_exec { libc::CLOSE_RANGE_CLOEXEC } else { 0 };
    // SAFETY: in a freshly forked process that owns none of them as a Rust value it will use again.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, flags) };
    if result != 0 {
        for fd in first..4096 {
            // SAFETY: as above.
            unsafe {
                if only_at_exec { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } else { libc::close(fd) }
            };
        }
    }
}

/// Lets a descriptor live through an exec; nothing happens when the number is not in use.
pub(crate) fn keep_open_at_exec(fd: RawFd) {
    // SAFETY: integers only.
    unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
}

/// Takes over a descriptor that the process inherited under this number.
pub(crate) fn inherited(fd: RawFd) -> OwnedFd {
    // SAFETY: the parent put a descriptor for this process there, and it is taken over once.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Puts `source` under the number `target`, without the close-on-exec flag.
pub(crate) fn place_fd(source: BorrowedFd<'_>, target: RawFd) -> nix::Result<()> {
    if source.as_raw_fd() == target {
        return set_cloexec(source, false);
    }
    // SAFETY: whatever `target` was is not used any more by the caller.
    Errno::result(unsafe { libc::dup2(source.as_raw_fd(), target) }).map(drop)
}

/// Whether the descriptor is closed by exec.
pub(crate) fn set_cloexec(fd: BorrowedFd<'_>, cloexec: bool) -> nix::Result<()> {
    let flags = if cloexec { nix::fcntl::FdFlag::FD_CLOEXEC } else { nix::fcntl::FdFlag::empty() };
    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFD(flags)).map(drop)
}

/// Whether reads and writes return at once.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> nix::Result<()> {
    let flags = nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFL)?;
    let flags = nix::fcntl::OFlag::from_bits_retain(flags) | nix::fcntl::OFlag::O_NONBLOCK;
    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFL(flags)).map(drop)
}

/// Real-time priority; `false` when it is not allowed.
pub(crate) fn set_realtime(priority: i32) -> bool {
    set_scheduler(libc::SCHED_RR, priority).is_ok()
}

/// Ordinary scheduling with the given nice value.
pub(crate) fn set_ordinary_priority(nice: i32) -> nix::Result<()> {
    set_scheduler(libc::SCHED_OTHER, 0)?;
    // SAFETY: integers only.
    Errno::result(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) }).map(drop)
}

/// This process keeps its priority; every process that it forks has the ordinary one.
pub(crate) fn keep_priority_from_children() -> nix::Result<()> {
    // SAFETY: integers only.
    let policy = Errno::result(unsafe { libc::sched_getscheduler(0) })?;
    // SAFETY: a structure of integers, for which zero is a valid value.
    let mut parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: the structure outlives the call.
    Errno::result(unsafe { libc::sched_getparam(0, &raw mut parameters) })?;
    set_scheduler(policy | libc::SCHED_RESET_ON_FORK, parameters.sched_priority)
}

fn set_scheduler(policy: libc::c_int, priority: i32) -> nix::Result<()> {
    // SAFETY: a structure of integers, for which zero is a valid value.
    let mut parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    parameters.sched_priority = priority;
    // SAFETY: the structure outlives the call.
    Errno::result(unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) }).map(drop)
}

/// This process's nice value.
pub(crate) fn nice() -> i32 {
    // SAFETY: integers only. An error can't be told from the value -1, which does no harm here.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
}

/// Takes the flock on an open file; `EWOULDBLOCK` when another process holds it.
pub(crate) fn try_flock(file: BorrowedFd<'_>) -> nix::Result<()> {
    // SAFETY: integers only. nix's wrapper would release the lock when it is dropped, even before an exec.
    Errno::result(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }).map(drop)
}

/// Keeps in memory what is used, now and later; pages that are never touched stay out of it.
pub(crate) fn lock_memory() -> bool {
    // SAFETY: integers only.
    unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) == 0 }
}

/// Gives every signal its default action: handlers don't survive an exec, but ignored signals do.
pub(crate) fn default_signal_actions() {
    for number in 1..=64 {
        // SAFETY: SIG_DFL is valid for each number; those that can't be changed are refused, harmlessly.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
}

/// Lets the kernel reap this process's children by itself.
pub(crate) fn ignore_children() {
    // SAFETY: SIG_IGN is a valid action.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// Asks for SIGKILL when the parent's thread ends, and tells whether the parent was still `parent` by then.
pub(crate) fn die_with_parent(parent: Option<Pid>) -> nix::Result<bool> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    Ok(parent.is_none_or(|parent| nix::unistd::getppid() == parent))
}

/// A descriptor that its owner keeps open meanwhile.
pub(crate) fn borrowed(fd: &RawFd) -> BorrowedFd<'_> {
    // SAFETY: it is not -1. Nothing but calls of the kernel is made of it, which answer EBADF when it is not open.
    unsafe { BorrowedFd::borrow_raw(*fd) }
}

/// Waits until a descriptor is readable or hung up, for `timeout_ms` (-1: without limit).
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, timeout_ms: i32) -> io::Result<bool> {
    let mut entry = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    poll(std::slice::from_mut(&mut entry), timeout_ms).map(|()| entry.revents != 0)
}

/// `poll`; an interruption counts as nothing ready.
pub(crate) fn poll(entries: &mut [libc::pollfd], timeout_ms: i32) -> io::Result<()> {
    let timeout = (timeout_ms >= 0)
        .then(|| std::time::Duration::from_millis(u64::try_from(timeout_ms).expect("checked")));
    poll_for(entries, timeout)
}

/// `poll` with a finer timeout; `None`: without limit.
pub(crate) fn poll_for(entries: &mut [libc::pollfd], timeout: Option<std::time::Duration>) -> io::Result<()> {
    let timeout = timeout.map(|timeout| libc::timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let count = entries.len() as libc::nfds_t;
    // SAFETY: the entries and the timeout outlive the call, and `count` is their number.
    let result = unsafe { libc::ppoll(entries.as_mut_ptr(), count, timeout, std::ptr::null()) };
    match Errno::result(result) {
        Ok(_) => Ok(()),
        Err(Errno::EINTR) => {
            entries.iter_mut().for_each(|entry| entry.revents = 0);
            Ok(())
        }
        Err(errno) => Err(errno.into()),
    }
}
