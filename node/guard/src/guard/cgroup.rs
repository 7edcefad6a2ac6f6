//! A cgroup for each task where the unified hierarchy can be written: one more way to kill, nothing depends on it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where the guard makes its tasks' cgroups.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Cgroups {
    base: Option<PathBuf>,
    made: u64,
}

/// One task's.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Cgroup {
    pub(crate) path: PathBuf,
}

impl Cgroups {
    /// Finds the guard's own cgroup. If systemd delegated it, the guard moves into a leaf of it, because a
    /// cgroup that has members can't give resources to its children; otherwise a directory of its own is made for them.
    /// It is named after the data directory, so that a guard finds what its predecessor left.
    pub(crate) fn find(data_dir: &Path, delegated: bool) -> Self {
        let base = own_cgroup().and_then(|own| {
            if delegated {
                let leaf = own.join("guard");
                make(&leaf)?;
                fs::write(leaf.join("cgroup.procs"), "0").ok()?;
                Some(own)
            } else {
                let data_dir = std::path::absolute(data_dir).ok()?;
                let name = blake3::hash(data_dir.as_os_str().as_bytes()).to_hex();
                Some(own.join(format!("muster-{}", &name[..16])))
            }
        });
        let found = Self { base, made: 0 };
        found.remove();
        found
    }

    /// Makes the cgroup of a new task.
    pub(crate) fn make(&mut self) -> Option<Cgroup> {
        let base = self.base.as_deref()?;
        // Made by the first task, and removed with the guard: most users of a guard never look for it.
        make(base)?;
        self.made += 1;
        let path = base.join(format!("task-{}", self.made));
        make(&path)?;
        Some(Cgroup { path })
    }

    /// Removes all directories of tasks that have ended, and their own. One that is not empty stays.
    pub(crate) fn remove(&self) {
        let Some(base) = &self.base else { return };
        for entry in fs::read_dir(base).into_iter().flatten().flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(b"task-") {
                let _stays = fs::remove_dir(entry.path());
            }
        }
        let _stays = fs::remove_dir(base);
    }
}

impl Cgroup {
    /// Kills all members. Kernels before 5.14 can't; the namespace does it there.
    pub(crate) fn kill(&self) {
        let file = OpenOptions::new().write(true).open(self.path.join("cgroup.kill"));
        let _unsupported = file.and_then(|mut file| file.write_all(b"1"));
    }

    /// Removes it once it is empty.
    pub(crate) fn remove(&self) {
        let _stays = fs::remove_dir(&self.path);
    }
}

fn make(path: &Path) -> Option<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => None,
        _ => Some(()),
    }
}

/// The directory of this process's cgroup in the unified hierarchy.
fn own_cgroup() -> Option<PathBuf> {
    let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = membership.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mount_point = mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        after.starts_with("cgroup2 ").then(|| before.split(' ').nth(4))?
    })?;
    Some(Path::new(mount_point).join(own))
}
