//! Limits on processor and memory for processes of a host, by control groups of version 1.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::Pid;

use super::{HarnessError, processes, sweep, wait};

/// Where the controllers are mounted.
pub const ROOT: &str = "/sys/fs/cgroup";
/// The period of quotas.
const PERIOD_US: u64 = 100_000;
/// Real-time threads could not be members otherwise; they get the same share as the others.
const REAL_TIME_PERIOD_US: u64 = 1_000_000;
/// How long members may take to leave.
const EMPTY_TIMEOUT: Duration = Duration::from_secs(5);

/// A group that a test made.
#[derive(Debug)]
pub struct ControlGroup {
    controller: String,
    path: PathBuf,
}

impl ControlGroup {
    /// Why there can be none.
    #[must_use]
    pub fn obstacle(controller: &str) -> Option<String> {
        let probe = Path::new(ROOT).join(controller).join("cgroup.procs");
        (!probe.is_file()).then(|| format!("no cgroup controller '{controller}' of version 1 is mounted"))
    }

    /// Makes one.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn make(controller: &str, name: &str) -> Result<Self, HarnessError> {
        let name = format!("{}{}-{name}", sweep::NAMESPACE_PREFIX, std::process::id());
        let path = Path::new(ROOT).join(controller).join(name);
        std::fs::create_dir_all(&path).map_err(HarnessError::io(format!("{}", path.display())))?;
        Ok(Self { controller: controller.to_owned(), path })
    }

    fn write(&self, file: &str, text: &str) -> Result<(), HarnessError> {
        let path = self.path.join(file);
        std::fs::write(&path, text).map_err(HarnessError::io(format!("'{text}' to {}", path.display())))
    }

    /// So much of one processor.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn limit_processor(&self, percent: u64) -> Result<(), HarnessError> {
        self.write("cpu.cfs_period_us", &PERIOD_US.to_string())?;
        self.write("cpu.cfs_quota_us", &(PERIOD_US * percent / 100).to_string())?;
        if self.path.join("cpu.rt_runtime_us").exists() {
            self.write("cpu.rt_runtime_us", &(REAL_TIME_PERIOD_US * percent / 100).to_string())?;
        }
        Ok(())
    }

    /// So much memory.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn limit_memory(&self, bytes: u64) -> Result<(), HarnessError> {
        self.write("memory.limit_in_bytes", &bytes.to_string())
    }

    fn members(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// Takes a process.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn take(&self, pid: Pid) -> Result<(), HarnessError> {
        self.write("cgroup.procs", &pid.to_string())
    }

    /// Takes all processes of a network namespace.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn take_all(&self, namespace: &str) -> Result<(), HarnessError> {
        for pid in processes::inside(namespace)?.into_iter().filter(|pid| processes::is_alive(*pid)) {
            // One that has ended meanwhile can't be moved.
            if let Err(error) = self.take(pid)
                && processes::is_alive(pid)
            {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Whether the limit was ever met: a fault that nobody felt is none.
    #[must_use]
    pub fn was_felt(&self) -> bool {
        let read = |file: &str| std::fs::read_to_string(self.path.join(file)).unwrap_or_default();
        let throttled = read("cpu.stat")
            .lines()
            .any(|line| line.strip_prefix("nr_throttled ").is_some_and(|count| count.trim() != "0"));
        let failed = read("memory.failcnt");
        throttled || !matches!(failed.trim(), "" | "0")
    }

    /// Lets the members go and removes it.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn remove(&self) -> Result<(), HarnessError> {
        let parent = Path::new(ROOT).join(&self.controller).join("cgroup.procs");
        wait::until(EMPTY_TIMEOUT, &format!("{} to be empty", self.path.display()), || {
            let members = std::fs::read_to_string(self.members()).unwrap_or_default();
            for pid in members.lines() {
                std::fs::write(&parent, pid).map_err(|e| format!("{pid}: {e}"))?;
            }
            std::fs::remove_dir(&self.path).map_err(|e| e.to_string())
        })
    }
}
