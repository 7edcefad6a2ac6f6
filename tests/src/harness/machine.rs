//! What a host runs on: namespaces of network, processes and mounts that end with the test, however that ends.
//!
//! ```text
//!   test (a thread that lasts) ── PDEATHSIG ──▶ unshare ── --kill-child ──▶ init ── the kernel ──▶ everything else
//! ```
//! The init is the first process of a PID namespace: when it dies the kernel kills all others there. So a power cut
//! is one signal, and nothing outlives the test, even one that is killed.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::tool::Finished;
use super::{HarnessError, processes, tool, wait};

/// How long making or ending one may take.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);
/// An uptime that no machine of ours has: in nanoseconds it tells stamps of such a host from others.
pub const STRANGE_UPTIME_S: i64 = 1_000_000_000;
/// The init: it adopts what loses its parent and reaps it, for ever.
const INIT: &str = "sleep infinity & wait";

/// A host that is switched on.
#[derive(Debug)]
pub struct Machine {
    namespace: String,
    keeper: Child,
    init: Pid,
    is_on: bool,
}

impl Machine {
    /// Switches on. `uptime_s` is added to its clocks since boot (a time namespace): reboots and unequal uptimes.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn boot(namespace: &str, uptime_s: i64, log: &Path) -> Result<Self, HarnessError> {
        let uptime = uptime_s.to_string();
        let mut line = vec!["--pdeathsig", "KILL", "ip", "netns", "exec", namespace, "unshare", "--pid"];
        line.extend(["--fork", "--kill-child=SIGKILL", "--mount-proc"]);
        if uptime_s != 0 {
            line.extend(["--time", "--boottime", &uptime, "--monotonic", &uptime]);
        }
        line.extend(["sh", "-c", INIT]);
        let mut keeper = tool::spawn_lasting("setpriv", &line, log)?;
        let parent = Pid::from_raw(keeper.id().cast_signed());
        let found = wait::until(TURN_TIMEOUT, "a host's init", || {
            let child = processes::children(parent).first().copied();
            child.filter(|init| is_ready(*init)).ok_or_else(|| "it is not there".to_owned())
        });
        match found {
            Ok(init) => Ok(Self { namespace: namespace.to_owned(), keeper, init, is_on: true }),
            Err(error) => {
                end_child(&mut keeper)?;
                Err(error)
            }
        }
    }

    /// The arguments of `nsenter` with a program's own. Only children are born into a PID namespace, so a shell
    /// stands between; `nsenter` itself would stop and go on together with the program.
    fn enter<'a>(init: &'a str, program: &'a str, args: &[&'a str]) -> Vec<&'a str> {
        let mut line = vec!["--target", init, "--net", "--pid", "--mount", "--time", "--no-fork", "--"];
        line.extend(["sh", "-c", "\"$@\"; exit $?", "sh", program]);
        line.extend_from_slice(args);
        line
    }

    /// Runs a program here to its end.
    ///
    /// # Errors
    /// When it can't be started. Its exit status is not judged.
    pub fn run(&self, program: &Path, args: &[&str]) -> Result<Finished, HarnessError> {
        let (init, program) = (self.init.to_string(), program.display().to_string());
        tool::run("nsenter", &Self::enter(&init, &program, args))
    }

    /// Starts a program here; both outputs are appended to `log`.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn spawn(&self, program: &Path, args: &[&str], log: &Path) -> Result<Started, HarnessError> {
        let (init, program) = (self.init.to_string(), program.display().to_string());
        let waiter = tool::spawn(Path::new("nsenter"), &Self::enter(&init, &program, args), log)?;
        Ok(Started { waiter })
    }

    /// A path of the host as this process reaches it, with what is mounted only there.
    #[must_use]
    pub fn path(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.init));
        root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The process with that number in the host's own count.
    #[must_use]
    pub fn process(&self, number: i32) -> Option<Pid> {
        let all = processes::inside(&self.namespace).unwrap_or_default();
        all.into_iter().find(|pid| processes::number_below(*pid, 1) == Some(number))
    }

    /// Power is lost: everything here ends in the same moment.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn cut_power(&mut self) -> Result<(), HarnessError> {
        // Its number may be another process's once it was waited for.
        if std::mem::take(&mut self.is_on) {
            processes::signal(self.init, Signal::SIGKILL);
            end_child(&mut self.keeper)?;
        }
        Ok(())
    }

    /// Waits until nothing runs here any more.
    ///
    /// # Errors
    /// When something is left.
    pub fn until_empty(&self) -> Result<(), HarnessError> {
        wait::until(TURN_TIMEOUT, &format!("all processes of {} to be gone", self.namespace), || {
            let left = processes::inside(&self.namespace).map_err(|e| e.to_string())?;
            let alive = left.into_iter().filter(|pid| processes::is_alive(*pid));
            let alive: Vec<_> = alive.map(processes::describe).collect();
            if alive.is_empty() { Ok(()) } else { Err(alive.join(", ")) }
        })
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Err(error) = self.cut_power() {
            eprintln!("cleaning up {}: {error}", self.namespace);
        }
    }
}

/// The namespaces are complete once the init has become the shell.
fn is_ready(init: Pid) -> bool {
    std::fs::read_to_string(format!("/proc/{init}/comm")).is_ok_and(|name| name.trim() == "sh")
}

fn end_child(child: &mut Child) -> Result<(), HarnessError> {
    child.kill().and_then(|()| child.wait()).map(drop).map_err(HarnessError::io("ending a host's keeper"))
}

/// A program on a host. What this process started only waits for it.
#[derive(Debug)]
pub struct Started {
    waiter: Child,
}

impl Started {
    /// The program itself, once it is there.
    #[must_use]
    pub fn pid(&self) -> Option<Pid> {
        processes::children(Pid::from_raw(self.waiter.id().cast_signed())).first().copied()
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    /// When the system refuses to say.
    pub fn ended(&mut self) -> Result<Option<std::process::ExitStatus>, HarnessError> {
        self.waiter.try_wait().map_err(HarnessError::io("looking at a program"))
    }

    /// Kills it and waits for that.
    ///
    /// # Errors
    /// When it does not end.
    pub fn kill(&mut self) -> Result<(), HarnessError> {
        wait::until(TURN_TIMEOUT, "a killed program to end", || {
            if let Some(pid) = self.pid() {
                processes::signal(pid, Signal::SIGKILL);
            }
            // The host may be frozen: who waits must go on to see the program dead.
            processes::signal(Pid::from_raw(self.waiter.id().cast_signed()), Signal::SIGCONT);
            match self.ended().map_err(|e| e.to_string())? {
                Some(_) => Ok(()),
                None => Err("it runs".to_owned()),
            }
        })
    }
}
