//! Which development clusters root runs on this machine: a file for each, locked for as long as it runs.
//!
//! `muster dev cut` finds the cluster there, and the next `muster dev` finds what a killed one left behind.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::DevError;
use super::netns::Network;

/// For root alone: what stands there is acted upon.
const DIRECTORY: &str = "/run/muster-dev";
/// Held while clusters are entered and removed, so that nobody takes one for abandoned that is just being entered.
const GATE: &str = "gate";
const EXTENSION: &str = "json";

/// A development cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// The `muster dev` that runs it.
    pub(super) pid: u32,
    /// When it began.
    pub(super) started_ms: u64,
    /// Where its files are.
    pub(super) dir: PathBuf,
    /// Whether the directory goes with it.
    pub(super) remove_dir: bool,
    /// Its nodes.
    pub(super) nodes: Vec<String>,
    /// What the names of its namespaces begin with; none: it is on loopback.
    pub(super) namespaces: Option<String>,
}

/// The place of a running cluster in the registry.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Place {
    /// Enters a cluster, after what others left behind was removed.
    pub(super) fn take(entry: &Entry) -> Result<Self, DevError> {
        Self::take_in(Path::new(DIRECTORY), entry)
    }

    fn take_in(directory: &Path, entry: &Entry) -> Result<Self, DevError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(DevError::io(directory.display().to_string()))?;
        let _gate = lock(&directory.join(GATE))?;
        sweep(directory)?;
        let path = directory.join(format!("{}.{EXTENSION}", entry.pid));
        let lock = lock(&path)?;
        let text = serde_json::to_string_pretty(entry).map_err(|e| DevError::Broken(e.to_string()))?;
        fs::write(&path, text).map_err(DevError::io(path.display().to_string()))?;
        Ok(Self { path, _lock: lock })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Nobody acts on one that is left: its lock goes with this process.
        let _removed = fs::remove_file(&self.path);
    }
}

/// The running cluster with these files; without any, the one that was started last.
pub(super) fn find(dir: Option<&Path>) -> Result<Entry, DevError> {
    find_in(Path::new(DIRECTORY), dir)
}

fn find_in(directory: &Path, dir: Option<&Path>) -> Result<Entry, DevError> {
    let dir = dir.map(|dir| dir.canonicalize().unwrap_or_else(|_| dir.to_owned()));
    let mut running: Vec<Entry> = Vec::new();
    for path in files(directory) {
        if is_locked(&path) {
            running.extend(read(&path));
        }
    }
    running.sort_by_key(|entry| entry.started_ms);
    let found = running.into_iter().rfind(|entry| dir.as_ref().is_none_or(|dir| *dir == entry.dir));
    found.ok_or(DevError::NoCluster { dir })
}

/// Removes what belongs to clusters whose `muster dev` was killed.
fn sweep(directory: &Path) -> Result<(), DevError> {
    for path in files(directory) {
        if is_locked(&path) {
            continue;
        }
        if let Some(Entry { namespaces: Some(prefix), dir, remove_dir, .. }) = read(&path) {
            let network = Network::named(&prefix);
            network.kill_inside()?;
            network.remove()?;
            if remove_dir && dir.exists() {
                fs::remove_dir_all(&dir).map_err(DevError::io(format!("removing {}", dir.display())))?;
            }
        }
        fs::remove_file(&path).map_err(DevError::io(format!("removing {}", path.display())))?;
    }
    Ok(())
}

/// Whether somebody who lives has entered it. One that is gone meanwhile is nobody's.
fn is_locked(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    matches!(Flock::lock(file, FlockArg::LockSharedNonblock), Err((_, nix::Error::EWOULDBLOCK)))
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == EXTENSION)).collect()
}

/// What stands in a file; none in one whose writer was killed before it wrote: it had made nothing yet.
fn read(path: &Path) -> Option<Entry> {
    serde_json::from_str(&fs::read_to_string(path).ok()?).ok()
}

fn lock(path: &Path) -> Result<Flock<File>, DevError> {
    let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(path);
    let file = file.map_err(DevError::io(path.display().to_string()))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| DevError::io(format!("locking {}", path.display()))(errno.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(pid: u32, dir: &str) -> Entry {
        let nodes = vec!["n1".to_owned()];
        Entry { pid, started_ms: u64::from(pid), dir: dir.into(), remove_dir: false, nodes, namespaces: None }
    }

    #[test]
    fn the_last_one_is_found_or_the_one_with_that_directory() {
        let registry = tempfile::tempdir().unwrap();
        assert!(matches!(find_in(registry.path(), None), Err(DevError::NoCluster { dir: None })));
        let first = Place::take_in(registry.path(), &entry(1, "/nowhere/a")).unwrap();
        let second = Place::take_in(registry.path(), &entry(2, "/nowhere/b")).unwrap();
        assert_eq!(find_in(registry.path(), None).unwrap().pid, 2);
        assert_eq!(find_in(registry.path(), Some(Path::new("/nowhere/a"))).unwrap().pid, 1);
        assert!(find_in(registry.path(), Some(Path::new("/nowhere/c"))).is_err());
        drop(second);
        assert_eq!(find_in(registry.path(), None).unwrap().pid, 1);
        drop(first);
        assert!(find_in(registry.path(), None).is_err());
    }

    #[test]
    fn one_that_was_killed_is_not_found_and_is_swept_away() {
        let registry = tempfile::tempdir().unwrap();
        let place = Place::take_in(registry.path(), &entry(1, "/nowhere/a")).unwrap();
        let path = place.path.clone();
        drop(place);
        // A killed process leaves its file and no lock.
        fs::write(&path, serde_json::to_string(&entry(1, "/nowhere/a")).unwrap()).unwrap();
        assert!(find_in(registry.path(), None).is_err());
        let _second = Place::take_in(registry.path(), &entry(2, "/nowhere/b")).unwrap();
        assert!(!path.exists());
    }
}
