//! What an init gets to know about the task that it shall start.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;

use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::{Deserialize, Serialize};

use crate::protocol::TaskSpec;

/// What separates a task from the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Isolation {
    /// PID and mount namespace, made with privileges.
    Namespaces,
    /// The same inside a user namespace, made without privileges.
    UserNamespace,
    /// Nothing: processes are found and killed one by one.
    Nothing,
}

impl Isolation {
    /// Its number on the wire to a shim.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Namespaces => 1,
            Self::UserNamespace => 2,
            Self::Nothing => 3,
        }
    }

    pub(crate) const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Namespaces),
            2 => Some(Self::UserNamespace),
            3 => Some(Self::Nothing),
            _ => None,
        }
    }

    /// The flags for `clone`.
    pub(crate) const fn clone_flags(self) -> libc::c_int {
        match self {
            Self::Namespaces => libc::CLONE_NEWPID | libc::CLONE_NEWNS,
            Self::UserNamespace => libc::CLONE_NEWUSER | libc::CLONE_NEWPID | libc::CLONE_NEWNS,
            Self::Nothing => 0,
        }
    }
}

/// How the guard found itself before it raised its own priority: tasks get this back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ordinary {
    pub(crate) nice: i32,
    pub(crate) oom_score_adj: i32,
    /// The largest core dump; not known of a guard that an older one became.
    #[serde(default)]
    pub(crate) core_bytes: Option<u64>,
}

/// A task to be started, as it travels from the guard through the shim to the init.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Launch {
    pub(crate) isolation: Isolation,
    pub(crate) spec: TaskSpec,
    pub(crate) ordinary: Ordinary,
    /// The cgroup's directory that was made for the task.
    pub(crate) cgroup: Option<String>,
}

impl Launch {
    /// Writes it into an anonymous file.
    pub(crate) fn to_file(&self) -> std::io::Result<OwnedFd> {
        let mut file = File::from(memfd_create(c"launch", MFdFlags::MFD_CLOEXEC)?);
        file.write_all(&serde_json::to_vec(self)?)?;
        file.rewind()?;
        Ok(file.into())
    }

    /// Reads it back.
    pub(crate) fn from_file(file: OwnedFd) -> std::io::Result<Self> {
        let mut bytes = Vec::new();
        File::from(file).read_to_end(&mut bytes)?;
        Ok(serde_json::from_slice(&bytes)?)
    }
}
