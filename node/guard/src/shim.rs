//! The shim: the process whose death, by the kernel's hand, ends all tasks under it (LEASES.md R4).
//!
//! It is forked from the guard, holds a timer that kills it at the deadline − K, and is the parent of each
//! task's init. Inits die with it (`PDEATHSIG`), and with each init its PID namespace. It does nothing else:
//! whatever stops it or the guard also stops the timer from being moved on.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{SigEvent, SigevNotify, Signal};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;
use nix::unistd::Pid;

use crate::init;
use crate::kernel::{self, Fork};
use crate::launch::Isolation;
use crate::link::{self, FromInit, ToShim};
use crate::memory;

/// Where the shim keeps its wire to the guard.
const CONTROL_FD: i32 = 3;

/// A shim as its parent sees it.
pub(crate) struct Forked {
    pub(crate) pid: Pid,
    pub(crate) wire: OwnedFd,
}

/// Forks a shim from the guard's only thread.
pub(crate) fn fork(with_timer: bool) -> nix::Result<Forked> {
    let (ours, theirs) = link::pair()?;
    let guard = nix::unistd::getpid();
    match kernel::fork(0)? {
        Fork::Child => {
            drop(ours);
            kernel::exit_now(if run(theirs, guard, with_timer).is_ok() { 0 } else { 1 });
        }
        Fork::Parent(pid) => {
            // Both sides do it, so that the group exists whoever comes first; the second one changes nothing.
            let _unchanged = nix::unistd::setpgid(pid, pid);
            Ok(Forked { pid, wire: ours })
        }
    }
}

fn run(wire: OwnedFd, guard: Pid, with_timer: bool) -> nix::Result<()> {
    if !kernel::die_with_parent(Some(guard))? {
        return Ok(());
    }
    nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
    nix::sys::prctl::set_name(c"muster-shim")?;
    kernel::place_fd(wire.as_fd(), CONTROL_FD)?;
    // The number is CONTROL_FD's or closed by the next call: either way nothing is left for drop to close.
    std::mem::forget(wire);
    kernel::close_from(CONTROL_FD + 1, false);
    kernel::ignore_children();
    let wire = kernel::inherited(CONTROL_FD);
    // Inits hold one end and see it hang up when the shim dies, even before they asked for PDEATHSIG.
    let (life, life_of_inits) =
        socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?;
    let timer = if with_timer { Some(kill_timer()?) } else { None };
    let mut shim = Shim { timer, armed: false, _life: life, life_of_inits };
    memory::give_back_program();
    kernel::lock_memory();
    while let Some(message) = link::receive(&wire, true)? {
        match ToShim::decode(&message.bytes) {
            Some(ToShim::Arm { boottime_ns, confirm }) => {
                shim.arm(boottime_ns)?;
                if confirm {
                    link::send_bytes(wire.as_fd(), &[1])?;
                }
            }
            Some(ToShim::Spawn { isolation, leased }) => {
                if let Ok([file, end]) = <[OwnedFd; 2]>::try_from(message.fds) {
                    shim.spawn(isolation, leased, &file, &end);
                }
            }
            None => {}
        }
    }
    Ok(())
}

/// A timer that sends SIGKILL to this process: not even a stopped process survives it.
fn kill_timer() -> nix::Result<Timer> {
    let kill = SigevNotify::SigevSignal { signal: Signal::SIGKILL, si_value: 0 };
    Timer::new(ClockId::CLOCK_BOOTTIME, SigEvent::new(kill))
}

struct Shim {
    timer: Option<Timer>,
    armed: bool,
    /// Never read or written; it hangs up when this process ends.
    _life: OwnedFd,
    life_of_inits: OwnedFd,
}

impl Shim {
    fn arm(&mut self, boottime_ns: u64) -> nix::Result<()> {
        let Some(timer) = &mut self.timer else { return Ok(()) };
        let at = Duration::from_nanos(boottime_ns).into();
        // A relative timer would count from whenever this process got around to it.
        timer.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
        self.armed = boottime_ns != 0;
        Ok(())
    }

    /// Starts an init. A failure is told to the guard on the init's own wire; on success only the init holds it.
    fn spawn(&self, isolation: Isolation, leased: bool, file: &OwnedFd, end: &OwnedFd) {
        // Asked here: inside a new user namespace nobody has a number yet.
        let who = (nix::unistd::geteuid(), nix::unistd::getegid());
        let forked = if leased && !self.armed {
            Err(("check that the kernel timer is armed", Errno::ETIME))
        } else {
            kernel::fork(isolation.clone_flags()).map_err(|errno| ("make namespaces", errno))
        };
        match forked {
            Ok(Fork::Parent(_)) => {}
            Ok(Fork::Child) => init::run(file.as_fd(), end.as_fd(), who, self.life_of_inits.as_fd()),
            Err((step, errno)) => {
                let failed = FromInit::Failed { step: step.to_owned(), errno: errno as i32 };
                // When it can't be told, the guard sees the wire hang up.
                let _unread = link::send_json(end.as_fd(), &failed);
            }
        }
    }
}
