//! The inside of a task's namespaces: the identity in a user namespace, and a /proc of its own.

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::unistd::{Gid, Uid};

use crate::launch::Isolation;

/// Maps the guard's user and group to themselves. Must be called first in a new user namespace.
pub(crate) fn map_identity(uid: Uid, gid: Gid) -> std::io::Result<()> {
    // Without this the kernel lets no unprivileged process write a group map.
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))
}

/// Mounts a /proc that shows the task's own PID namespace. The result is a note when that is refused, as it is
/// in many containers: the task goes on with the host's /proc, which shows it foreign process ids.
pub(crate) fn own_proc(isolation: Isolation) -> Option<String> {
    let refused = |step: &str, errno: Errno| Some(format!("no /proc of its own: {step}: {errno}"));
    if isolation == Isolation::Nothing {
        return Some("no namespaces: its processes are found and killed one by one".to_owned());
    }
    // Slave, not private: what the host mounts later still appears in here.
    let slave = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    if let Err(errno) = mount(None::<&str>, "/", None::<&str>, slave, None::<&str>) {
        return refused("mount propagation", errno);
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    match mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>) {
        Ok(()) => None,
        Err(errno) => refused("mount", errno),
    }
}
