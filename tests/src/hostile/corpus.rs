//! The committed inputs: `tests/fuzz/corpus/TARGET/`, one file each. Files that begin with `seed-` are made from valid
//! values; all others were found, and stay.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::Target;

/// What the names of made inputs begin with.
const SEED: &str = "seed-";

/// The committed inputs of a target, in the order of their names.
///
/// # Errors
/// When they can't be read.
pub fn read(target: &Target) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(target.directory())?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
    paths.sort();
    paths.into_iter().map(|path| fs::read(&path).map(|bytes| (path, bytes))).collect()
}

/// The seeds as they would be written now: name and content.
#[must_use]
pub fn seeds(target: &Target) -> Vec<(String, Vec<u8>)> {
    (target.seeds)().into_iter().map(|(name, bytes)| (format!("{SEED}{name}"), bytes)).collect()
}

/// Writes the seeds anew; what was found is left alone.
///
/// # Errors
/// When they can't be written.
pub fn write(target: &Target) -> io::Result<()> {
    let directory = target.directory();
    fs::create_dir_all(&directory)?;
    for entry in fs::read_dir(&directory)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(SEED)) {
            fs::remove_file(path)?;
        }
    }
    for (name, bytes) in seeds(target) {
        fs::write(directory.join(name), bytes)?;
    }
    Ok(())
}
