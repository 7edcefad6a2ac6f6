//! Writes that survive a power cut: file, rename, directory, each synced in that order.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::FileError;

/// Only the agent's user may read the data directory: it holds keys and session secrets.
const DIRECTORY_MODE: u32 = 0o700;
/// The same for the files in it.
const FILE_MODE: u32 = 0o600;

/// Creates the directory and its parents if they are missing, and makes its name durable.
///
/// # Errors
/// [`FileError`] when it can't be created or synced.
pub fn create_directory(path: &Path) -> Result<(), FileError> {
    if path.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(path)
        .map_err(FileError::of("create the directory", path))?;
    sync_directory(path.parent().unwrap_or(path))
}

/// Makes the names in a directory durable: without this a new file can be gone after a power cut.
///
/// # Errors
/// [`FileError`] when the directory can't be opened or synced.
pub fn sync_directory(path: &Path) -> Result<(), FileError> {
    // The parent of a relative path with one component is the empty path, which means "here".
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    File::open(path).and_then(|directory| directory.sync_all()).map_err(FileError::of("sync", path))
}

/// Creates a file for writing that must not exist yet.
///
/// # Errors
/// [`FileError`] when it exists or can't be created.
pub fn create_file(path: &Path) -> Result<File, FileError> {
    OpenOptions::new()
        .write(true)
        .read(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path)
        .map_err(FileError::of("create", path))
}

/// Replaces the file's content: readers and power cuts see the old or the new one, nothing between.
///
/// # Errors
/// [`FileError`] names the step that failed; the old content is then still in place.
pub fn replace_file(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = Path::new(&partial);
    // A leftover of an earlier attempt that a crash ended.
    remove_if_present(partial)?;
    let mut file = create_file(partial)?;
    file.write_all(content).map_err(FileError::of("write", partial))?;
    file.sync_all().map_err(FileError::of("sync", partial))?;
    rename(partial, path)
}

/// Renames within one directory and makes the new name durable.
///
/// # Errors
/// [`FileError`] when the rename or the sync of the directory fails.
pub fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    fs::rename(from, to).map_err(FileError::of("rename to", to))?;
    sync_directory(to.parent().unwrap_or(to))
}

/// Removes a file; that it does not exist is no error.
///
/// # Errors
/// [`FileError`] when it exists and can't be removed.
pub fn remove_if_present(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(FileError::of("remove", path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
