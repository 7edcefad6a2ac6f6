//! Becoming the user that a task shall run as. Runs in the task's own process just before its exec, so that a
//! slow directory service holds up nothing but this task.

use std::ffi::CString;

use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User, initgroups, setgid, setgroups, setuid};

use super::child::Failure;
use crate::protocol::TaskSpec;

/// Steps whose failure the guard reports in its own words.
pub(crate) const FIND_USER: &str = "find the user";
/// See [`FIND_USER`].
pub(crate) const FIND_GROUP: &str = "find the group";
/// See [`FIND_USER`].
pub(crate) const BECOME_USER: &str = "become the user";

/// Who a task runs as.
pub(crate) struct Identity {
    uid: Uid,
    gid: Gid,
    /// For supplementary groups; a number without an entry in the user database has none.
    user: Option<User>,
}

impl Identity {
    /// Looks the user and group up; `None` when the task keeps the guard's.
    pub(crate) fn find(spec: &TaskSpec) -> Result<Option<Self>, Failure> {
        let group = spec.group.as_deref().map(find_group).transpose()?;
        let identity = match &spec.user {
            None if group.is_none() => return Ok(None),
            None => Self { uid: Uid::effective(), gid: Gid::effective(), user: None },
            Some(user) => find_user(user)?,
        };
        Ok(Some(Self { gid: group.unwrap_or(identity.gid), ..identity }))
    }

    /// The variables that follow the user.
    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        let Some(user) = &self.user else { return Vec::new() };
        vec![
            ("HOME", user.dir.to_string_lossy().into_owned()),
            ("LOGNAME", user.name.clone()),
            ("SHELL", user.shell.to_string_lossy().into_owned()),
            ("USER", user.name.clone()),
        ]
    }

    /// Becomes it, for good.
    pub(crate) fn assume(&self) -> Result<(), Failure> {
        if (self.uid, self.gid) == (Uid::effective(), Gid::effective()) && !self.uid.is_root() {
            return Ok(());
        }
        let failed = |errno| Failure { step: BECOME_USER.to_owned(), errno };
        let groups = match &self.user {
            Some(user) => {
                let name = CString::new(user.name.as_str()).map_err(|_| failed(Errno::EINVAL))?;
                initgroups(&name, self.gid)
            }
            None => setgroups(&[self.gid]),
        };
        groups.and_then(|()| setgid(self.gid)).and_then(|()| setuid(self.uid)).map_err(failed)
    }
}

/// A number without an entry is taken as it stands, with the group of the same number.
fn find_user(name: &str) -> Result<Identity, Failure> {
    let failed = |errno| Failure { step: FIND_USER.to_owned(), errno };
    if let Some(user) = User::from_name(name).map_err(failed)? {
        return Ok(Identity { uid: user.uid, gid: user.gid, user: Some(user) });
    }
    let number = name.parse().map_err(|_| failed(Errno::ENOENT))?;
    let uid = Uid::from_raw(number);
    let user = User::from_uid(uid).map_err(failed)?;
    Ok(Identity { uid, gid: user.as_ref().map_or(Gid::from_raw(number), |user| user.gid), user })
}

fn find_group(name: &str) -> Result<Gid, Failure> {
    let failed = |errno| Failure { step: FIND_GROUP.to_owned(), errno };
    match Group::from_name(name).map_err(failed)? {
        Some(group) => Ok(group.gid),
        None => name.parse().map(Gid::from_raw).map_err(|_| failed(Errno::ENOENT)),
    }
}
