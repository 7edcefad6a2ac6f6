//! The data directory: who may use it, which node it belongs to, and in which format it is.
//!
//! ```text
//! agent.lock      held by the running agent
//! FORMAT          the version of this lay-out
//! identity.json   which node of which cluster this is, on which host
//! raft/log/       the Raft log
//! raft/snapshots/ snapshots
//! history/        derived data
//! tls/, keys/     what nobody else may have
//! ```

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::FileError;
use super::durable;

/// The version of the lay-out that this agent reads and writes.
pub const FORMAT: u32 = 1;
/// The agent warns, and writes no snapshots, with less than this free: the log needs room to go on.
pub const HEADROOM_BYTES: u64 = 256 << 20;

const LOCK_FILE: &str = "agent.lock";
const FORMAT_FILE: &str = "FORMAT";
const IDENTITY_FILE: &str = "identity.json";
const RETIRED_FILE: &str = "identity.left.json";
const MACHINE_ID_FILES: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];

/// Which node of which cluster a data directory belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The cluster's identity, 32 hexadecimal digits.
    pub cluster_id: String,
    /// The cluster's name, for people.
    pub cluster_name: String,
    /// The node's identity.
    pub node_id: u64,
    /// The node's name.
    pub node_name: String,
    /// The cluster's incarnation: a restore or recovery makes a higher one.
    pub incarnation: u64,
    /// The host's machine-id when the directory was made; empty when the host has none.
    pub machine_id: String,
}

/// Why a data directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The system refused a file operation.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another agent runs on it.
    #[error("another agent is using {}: stop it first, or give this one a data_dir of its own", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// A later version wrote it.
    #[error(
        "{} has format {found}, but this version of Muster reads formats up to {FORMAT}: start the version that \
         wrote it, or a later one",
        path.display()
    )]
    NewerFormat {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// A file can't be understood.
    #[error("{} is damaged ({detail}): restore this file, or move the directory away and join again as a new node", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The directory was made on another host.
    #[error(
        "{} belongs to node '{node}' on the host with machine-id {recorded}, but this host has {actual}: it looks like \
         a copy of a disk image. Two hosts with one identity could both run what must run once. If this is a copy, \
         move the directory away and join as a new node; if it is the same host with a new machine-id, set \
         machine_id in its identity.json",
        path.display()
    )]
    ForeignHost {
        /// The directory.
        path: PathBuf,
        /// The node that it belongs to.
        node: String,
        /// The machine-id on record.
        recorded: String,
        /// The machine-id of this host.
        actual: String,
    },
    /// It holds an identity already.
    #[error(
        "{} already belongs to node '{node}' of cluster '{cluster}': to begin anew, move it away first",
        path.display()
    )]
    Taken {
        /// The directory.
        path: PathBuf,
        /// Its node.
        node: String,
        /// Its cluster.
        cluster: String,
    },
}

/// An open data directory, locked for this process.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    identity: Option<Identity>,
    machine_id: String,
    _lock: Flock<File>,
}

impl DataDirectory {
    /// Opens or creates the directory, takes its lock, and checks format and identity against this host.
    ///
    /// # Errors
    /// [`DirectoryError`]; nothing has been changed then, but for a new directory and its lock file.
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        Self::open_on(path, &machine_id())
    }

    /// [`Self::open`] with the host's machine-id as an argument.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_on(path: &Path, machine_id: &str) -> Result<Self, DirectoryError> {
        durable::create_directory(path)?;
        keep_others_out(path)?;
        let lock = lock(path)?;
        let is_new = check_format(path)?;
        let identity = read_identity(path)?;
        if is_new {
            durable::replace_file(&path.join(FORMAT_FILE), format!("{FORMAT}\n").as_bytes())?;
        }
        if let Some(identity) = &identity {
            check_host(path, identity, machine_id)?;
        }
        Ok(Self { path: path.to_owned(), identity, machine_id: machine_id.to_owned(), _lock: lock })
    }

    /// The node that the directory belongs to; none before `init` or `join`.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// This host's machine-id, for a new identity.
    #[must_use]
    pub fn machine_id(&self) -> &str {
        &self.machine_id
    }

    /// Where the Raft log and the snapshots are.
    #[must_use]
    pub fn raft(&self) -> PathBuf {
        self.path.join("raft")
    }

    /// Where the history is.
    #[must_use]
    pub fn history(&self) -> PathBuf {
        self.path.join("history")
    }

    /// Gives the directory its identity, for good.
    ///
    /// # Errors
    /// [`DirectoryError::Taken`] when it has one, or [`DirectoryError::File`].
    pub fn claim(&mut self, identity: Identity) -> Result<(), DirectoryError> {
        if let Some(owner) = &self.identity {
            return Err(DirectoryError::Taken {
                path: self.path.clone(),
                node: owner.node_name.clone(),
                cluster: owner.cluster_name.clone(),
            });
        }
        // A log without an identity is that of a node that has left; it must not be taken for the new one's.
        let old = self.raft();
        if old.exists() {
            let aside = self.path.join(format!("raft.left-{}", identity.node_id));
            fs::rename(&old, &aside).map_err(FileError::of("rename", &old))?;
        }
        self.write_identity(identity)
    }

    /// Moves the node to a new incarnation of its cluster (a restore or `muster recover`).
    ///
    /// # Errors
    /// [`DirectoryError::File`] when it can't be written.
    pub fn set_incarnation(&mut self, incarnation: u64) -> Result<(), DirectoryError> {
        match self.identity.clone() {
            Some(identity) => self.write_identity(Identity { incarnation, ..identity }),
            None => Ok(()),
        }
    }

    fn write_identity(&mut self, identity: Identity) -> Result<(), DirectoryError> {
        let mut text =
            serde_json::to_vec_pretty(&identity).expect("an identity has only strings and numbers");
        text.push(b'\n');
        durable::replace_file(&self.path.join(IDENTITY_FILE), &text)?;
        self.identity = Some(identity);
        Ok(())
    }
}

/// The free space of the file system, for users without special rights.
///
/// # Errors
/// [`FileError`] when it can't be asked.
pub fn free_bytes(path: &Path) -> Result<u64, FileError> {
    let stat = nix::sys::statvfs::statvfs(path)
        .map_err(|errno| FileError::of("measure the free space of", path)(errno.into()))?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

/// Sets the identity of a node that has left aside; the directory can be claimed for a new one after that.
///
/// # Errors
/// When the file can't be renamed.
pub fn retire(directory: &Path) -> io::Result<PathBuf> {
    let retired = directory.join(RETIRED_FILE);
    fs::rename(directory.join(IDENTITY_FILE), &retired)?;
    Ok(retired)
}

/// Whether less than [`HEADROOM_BYTES`] are free. A file system that can't be asked counts as roomy: this
/// only warns and defers.
#[must_use]
pub fn is_short_of_space(path: &Path) -> bool {
    free_bytes(path).is_ok_and(|free| free < HEADROOM_BYTES)
}

/// This host's machine-id; empty when it has none.
#[must_use]
pub fn machine_id() -> String {
    let read = |path| fs::read_to_string(path).ok();
    MACHINE_ID_FILES.into_iter().find_map(read).map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// The directory holds keys: who made it with other permissions, as a package or a careless copy does, gets them taken
/// back. What is in it can be reached by nobody else then, whatever its own permissions are.
fn keep_others_out(path: &Path) -> Result<(), FileError> {
    let metadata = fs::metadata(path).map_err(FileError::of("look at", path))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
        .map_err(FileError::of("take the permissions of other users from", path))?;
    tracing::warn!(
        path = %path.display(),
        mode = format!("{mode:o}"),
        "other users could look into the data directory, which holds keys; now it is 700"
    );
    Ok(())
}

fn lock(path: &Path) -> Result<Flock<File>, DirectoryError> {
    let lock_path = path.join(LOCK_FILE);
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock_path)
        .map_err(FileError::of("open", &lock_path))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((_, nix::Error::EWOULDBLOCK)) => Err(DirectoryError::InUse { path: path.to_owned() }),
        Err((_, errno)) => Err(FileError::of("lock", lock_path)(errno.into()).into()),
    }
}

/// Checks the format; true when the directory is new and has none yet.
fn check_format(path: &Path) -> Result<bool, DirectoryError> {
    let file = path.join(FORMAT_FILE);
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // The format is written before anything else: without it there must be nothing else.
            if path.join(IDENTITY_FILE).exists() || path.join("raft").exists() {
                return Err(DirectoryError::Damaged { path: file, detail: "it is missing".into() });
            }
            return Ok(true);
        }
        Err(error) => return Err(FileError::of("read", file)(error).into()),
    };
    match text.trim().parse::<u32>() {
        Ok(found) if found > FORMAT => Err(DirectoryError::NewerFormat { path: path.to_owned(), found }),
        Ok(_) => Ok(false),
        Err(error) => Err(DirectoryError::Damaged { path: file, detail: error.to_string() }),
    }
}

/// The identity in a data directory, whoever uses that; `None` when there is none.
///
/// # Errors
/// When it can't be read, or is damaged.
pub fn identity_in(path: &Path) -> Result<Option<Identity>, DirectoryError> {
    read_identity(path)
}

fn read_identity(path: &Path) -> Result<Option<Identity>, DirectoryError> {
    let file = path.join(IDENTITY_FILE);
    let text = match fs::read(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::of("read", file)(error).into()),
    };
    let identity = serde_json::from_slice(&text);
    identity.map(Some).map_err(|error| DirectoryError::Damaged { path: file, detail: error.to_string() })
}

fn check_host(path: &Path, identity: &Identity, machine_id: &str) -> Result<(), DirectoryError> {
    // A host without a machine-id (some containers) can't be told from another one.
    if identity.machine_id.is_empty() || machine_id.is_empty() || identity.machine_id == machine_id {
        return Ok(());
    }
    Err(DirectoryError::ForeignHost {
        path: path.to_owned(),
        node: identity.node_name.clone(),
        recorded: identity.machine_id.clone(),
        actual: machine_id.to_owned(),
    })
}
