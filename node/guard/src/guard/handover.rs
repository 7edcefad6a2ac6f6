//! Upgrading the guard in place: it executes a new binary over itself. The process, its children, sockets and
//! the shims' timers stay; everything that it knows travels in an anonymous file in memory.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use muster_core::time::HostInstant;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::Guard;
use super::tasks::Asked;
use super::watch::Watch;
use crate::clock;
use crate::kernel::{self, Fork};
use crate::protocol::{Refusal, Reply};
use crate::report::report;

/// The forms of the saved state that this binary knows; one that doesn't know the form fails `--check-handover`, and
/// nothing happens. Form 2: inits look at pages with deadlines, which a guard of form 1 would leave as they are, so
/// that they killed under a valid lease.
const FORMS: std::ops::RangeInclusive<u32> = 1..=2;
/// How long the new binary may take to say that it understands the state, in nanoseconds.
const TRY_NS: u64 = 10_000_000_000;
/// Where a tried binary finds the state.
const TRIED_FD: i32 = 3;

/// An upgrade under way: the new binary is being tried.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Reload {
    exe: PathBuf,
    asked: Option<Asked>,
    pid: i32,
    pub(crate) give_up_at_ns: u64,
}

impl Reload {
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.pid)
    }
}

#[derive(Serialize)]
struct Saved<'a> {
    form: u32,
    guard: &'a Guard,
}

#[derive(Deserialize)]
struct Form {
    form: u32,
}

#[derive(Deserialize)]
struct Restored {
    guard: Guard,
}

/// Why a saved state is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandoverError {
    #[error("the state can't be read")]
    Io(#[source] std::io::Error),
    #[error("the state is not understood")]
    Content(#[source] serde_json::Error),
    #[error("the state has form {0}, this binary knows forms {first} to {last}", first = FORMS.start(), last = FORMS.end())]
    Form(u32),
}

/// Reads the state of a guard of another binary. The descriptors in it are taken over by their numbers.
pub(crate) fn restore(state: OwnedFd) -> Result<Guard, HandoverError> {
    let mut bytes = Vec::new();
    File::from(state).read_to_end(&mut bytes).map_err(HandoverError::Io)?;
    let Form { form } = serde_json::from_slice(&bytes).map_err(HandoverError::Content)?;
    if !FORMS.contains(&form) {
        return Err(HandoverError::Form(form));
    }
    let Restored { guard } = serde_json::from_slice(&bytes).map_err(HandoverError::Content)?;
    Ok(guard)
}

impl Guard {
    /// Tries the new binary in a process of its own; the upgrade follows when that went well.
    pub(super) fn begin_reload(&mut self, exe: PathBuf, asked: Option<Asked>) -> Result<(), Refusal> {
        if self.stopping.is_some() {
            return Err(Refusal::Stopping);
        }
        if self.reload.is_some() {
            return Err(Refusal::TooMany { what: "upgrades at a time".to_owned(), limit: 1 });
        }
        let refused = |error: std::io::Error| cannot(&exe, &error.to_string());
        let state = self.save().map_err(refused)?;
        let arguments = arguments(&exe, "--check-handover", TRIED_FD).map_err(refused)?;
        match kernel::fork(0).map_err(|errno| refused(errno.into()))? {
            Fork::Child => {
                let _failed = self.execute_trial(state, &arguments);
                kernel::exit_now(1);
            }
            Fork::Parent(pid) => {
                let give_up_at_ns = clock::now().boottime_ns + TRY_NS;
                self.reload = Some(Reload { exe, asked, pid: pid.as_raw(), give_up_at_ns });
                Ok(())
            }
        }
    }

    fn execute_trial(&self, state: OwnedFd, arguments: &[CString]) -> nix::Result<()> {
        kernel::die_with_parent(None)?;
        kernel::set_ordinary_priority(self.ordinary.nice)?;
        kernel::place_fd(state.as_fd(), TRIED_FD)?;
        std::mem::forget(state);
        kernel::close_from(TRIED_FD + 1, false);
        nix::sys::signal::SigSet::empty().thread_set_mask()?;
        nix::unistd::execv(&arguments[0], arguments).map(|never| match never {})
    }

    pub(super) fn tend_reload(&mut self, now: HostInstant) {
        if let Some(reload) = self.reload.take_if(|reload| reload.give_up_at_ns <= now.boottime_ns) {
            // It is reaped like any other child.
            let _ended = kill(reload.pid(), Signal::SIGKILL);
            self.no_upgrade(reload, "it did not answer in time");
        }
    }

    /// A child was reaped: perhaps the tried binary.
    pub(super) fn handover_tried(&mut self, pid: Pid, well: bool) {
        let Some(reload) = self.reload.take_if(|reload| reload.pid() == pid) else { return };
        if !well {
            return self.no_upgrade(reload, "it does not understand this guard's state");
        }
        crate::notify::notify(&format!("RELOADING=1\nMONOTONIC_USEC={}", clock::monotonic_us()));
        let exe = reload.exe.clone();
        self.options.exe.clone_from(&exe);
        // The new guard answers the request.
        self.reload = Some(reload);
        let failure = self.execute_over_itself(&exe);
        crate::notify::notify("READY=1");
        if let Some(reload) = self.reload.take() {
            self.no_upgrade(reload, &failure.to_string());
        }
    }

    fn no_upgrade(&mut self, reload: Reload, reason: &str) {
        report!("no upgrade to {}: {reason}", reload.exe.display());
        self.answer(reload.asked, Err(cannot(&reload.exe, reason)));
    }

    /// Returns only when it failed; the guard then goes on as before.
    fn execute_over_itself(&mut self, exe: &Path) -> std::io::Error {
        self.signals = None;
        // What the kernel keeps of it knows the old file of signals, and must not go along.
        self.watch = Watch::default();
        let executed = (|| {
            let state = self.save()?;
            let arguments = arguments(exe, "--resume", state.as_raw_fd())?;
            keep_all_open()?;
            nix::unistd::execv(&arguments[0], &arguments)?;
            Ok(())
        })();
        kernel::close_from(3, true);
        let listens = self.listen_to_signals().map_err(std::io::Error::from);
        match executed.and(listens) {
            Ok(()) => std::io::ErrorKind::Other.into(),
            Err(error) => error,
        }
    }

    fn save(&self) -> std::io::Result<OwnedFd> {
        let mut file = File::from(memfd_create(c"guard", MFdFlags::MFD_CLOEXEC)?);
        // The oldest form that says all, so that an older binary can take over as long as it is able to.
        let form = if self.shims.have_deadlines() { 2 } else { 1 };
        file.write_all(&serde_json::to_vec(&Saved { form, guard: self })?)?;
        file.rewind()?;
        Ok(file.into())
    }

    /// The first thing that the new guard does.
    pub(crate) fn resumed(&mut self) {
        kernel::close_from(3, true);
        report!("goes on as version {}", env!("CARGO_PKG_VERSION"));
        crate::notify::notify("READY=1");
        if let Some(reload) = self.reload.take() {
            self.answer(reload.asked, Ok(Reply::Ok));
        }
    }
}

fn cannot(exe: &Path, reason: &str) -> Refusal {
    Refusal::CannotTakeOver { exe: exe.display().to_string(), reason: reason.to_owned() }
}

fn arguments(exe: &Path, role: &str, state: i32) -> std::io::Result<Vec<CString>> {
    let exe = CString::new(exe.as_os_str().as_bytes())?;
    Ok(vec![exe, c"guard".to_owned(), CString::new(role)?, CString::new(state.to_string())?])
}

/// Everything that is open goes along.
fn keep_all_open() -> std::io::Result<()> {
    let numbers: Vec<i32> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2)
        .collect();
    for number in numbers {
        // The directory itself was among them and is closed by now.
        kernel::keep_open_at_exec(number);
    }
    Ok(())
}
