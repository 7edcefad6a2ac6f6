//! A service for demonstrations and tests: it stamps the machine's monotonic clock into a file, every
//! millisecond, so that a gap or an overlap of two copies can be read from the files afterwards.
//!
//! Every copy writes a file of its own. All namespaces of a machine share that clock.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Time between two stamps.
pub const PERIOD: Duration = Duration::from_millis(1);
/// What the names of stamp files end with.
pub const SUFFIX: &str = ".stamps";
const STAMP_BYTES: usize = 8;

/// When one copy of a service ran, by `CLOCK_MONOTONIC`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The node that ran it.
    pub node: String,
    /// Its generation.
    pub generation: u64,
    /// First stamp.
    pub first_ns: u64,
    /// Last stamp.
    pub last_ns: u64,
    /// The file.
    pub path: PathBuf,
}

/// Stamps until it is ended. The file is `DIR/SERVICE.NODE.GENERATION.START.stamps`.
///
/// # Errors
/// When the file can't be written.
pub fn run(directory: &Path) -> std::io::Result<()> {
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| "none".to_owned());
    let (service, node) = (variable("MUSTER_SERVICE"), variable("MUSTER_NODE"));
    let generation = variable("MUSTER_GENERATION");
    let start = monotonic_ns();
    let path = directory.join(format!("{service}.{node}.{generation}.{start}{SUFFIX}"));
    // One write a stamp: what was stamped is in the file whatever ends the process.
    let mut file = BufWriter::with_capacity(STAMP_BYTES, File::create(path)?);
    loop {
        file.write_all(&monotonic_ns().to_le_bytes())?;
        file.flush()?;
        std::thread::sleep(PERIOD);
    }
}

/// `CLOCK_MONOTONIC` now.
///
/// # Panics
/// If the kernel has no such clock.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux has CLOCK_MONOTONIC");
    let seconds = u64::try_from(now.tv_sec()).unwrap_or_default();
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec()).unwrap_or_default()
}

/// The runs of a service so far, by their first stamp.
///
/// # Errors
/// When the directory can't be read.
pub fn runs(directory: &Path, service: &str) -> std::io::Result<Vec<Run>> {
    let mut runs = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if let Some(run) = read_run(&path, service)? {
            runs.push(run);
        }
    }
    runs.sort_by_key(|run| run.first_ns);
    Ok(runs)
}

fn read_run(path: &Path, service: &str) -> std::io::Result<Option<Run>> {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let Some(rest) = name.strip_suffix(SUFFIX).and_then(|n| n.strip_prefix(service)?.strip_prefix('.'))
    else {
        return Ok(None);
    };
    // A node's name may hold dots, the two numbers behind it don't.
    let mut parts = rest.rsplitn(3, '.');
    let (_start, generation, node) = (parts.next(), parts.next(), parts.next());
    let Some((first_ns, last_ns)) = ends(&File::open(path)?)? else {
        return Ok(None);
    };
    Ok(Some(Run {
        node: node.unwrap_or_default().to_owned(),
        generation: generation.and_then(|g| g.parse().ok()).unwrap_or_default(),
        first_ns,
        last_ns,
        path: path.to_owned(),
    }))
}

/// The first and the last whole stamp of a file. Only these are read: the files of long runs are large, and who
/// waits for a copy to start looks at all of them again and again.
fn ends(file: &File) -> std::io::Result<Option<(u64, u64)>> {
    let stamp_at = |number: u64| {
        let mut bytes = [0; STAMP_BYTES];
        file.read_exact_at(&mut bytes, number * STAMP_BYTES as u64)?;
        Ok::<_, std::io::Error>(u64::from_le_bytes(bytes))
    };
    match (file.metadata()?.len() / STAMP_BYTES as u64).checked_sub(1) {
        None => Ok(None),
        Some(last) => Ok(Some((stamp_at(0)?, stamp_at(last)?))),
    }
}

/// The longest time that two runs of these overlapped; zero when they never did.
#[must_use]
pub fn longest_overlap(runs: &[Run]) -> Duration {
    let mut longest = 0;
    for (i, a) in runs.iter().enumerate() {
        for b in &runs[i + 1..] {
            longest = longest.max(a.last_ns.min(b.last_ns).saturating_sub(a.first_ns.max(b.first_ns)));
        }
    }
    Duration::from_nanos(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(first_ns: u64, last_ns: u64) -> Run {
        Run { node: "n1".to_owned(), generation: 1, first_ns, last_ns, path: PathBuf::new() }
    }

    #[test]
    fn two_copies_at_once_are_seen_and_one_after_the_other_is_not() {
        assert_eq!(longest_overlap(&[run(0, 10), run(11, 20)]), Duration::ZERO);
        assert_eq!(longest_overlap(&[run(0, 10), run(11, 20), run(15, 30)]), Duration::from_nanos(5));
    }

    #[test]
    fn a_run_is_read_from_its_file_even_when_the_last_stamp_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes: Vec<u8> = [5u64, 6, 7].iter().flat_map(|s| s.to_le_bytes()).collect();
        bytes.truncate(20);
        std::fs::write(dir.path().join("web.node.1.42.5.stamps"), bytes).unwrap();
        let runs = runs(dir.path(), "web").unwrap();
        assert_eq!((runs[0].node.as_str(), runs[0].generation), ("node.1", 42));
        assert_eq!((runs[0].first_ns, runs[0].last_ns), (5, 6));
    }
}
