//! What the guard is started with.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The arguments behind `muster guard`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Options {
    pub(crate) run_dir: PathBuf,
    pub(crate) data_dir: PathBuf,
    /// Standard error stays what it is; otherwise it becomes `data_dir/logs/guard.log`.
    pub(crate) foreground: bool,
    /// The guard's own binary, for an upgrade by SIGHUP.
    pub(crate) exe: PathBuf,
    /// The process that writes `guard.log`.
    pub(crate) log_writer: Option<i32>,
}

/// Which of the guard's roles is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Be the guard.
    Guard(Options),
    /// Go on as the guard from the state in this descriptor.
    Resume(i32),
    /// Say whether this binary could go on from the state in this descriptor.
    CheckHandover(i32),
}

/// How to call it.
pub(crate) const USAGE: &str = "usage: muster guard --run-dir DIR --data-dir DIR [--foreground]";

impl Role {
    /// Reads the arguments; `None` when they are wrong.
    pub(crate) fn parse(arguments: &[String]) -> Option<Self> {
        let (mut run_dir, mut data_dir, mut foreground) = (None, None, false);
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match argument.as_str() {
                "--run-dir" => run_dir = Some(PathBuf::from(rest.next()?)),
                "--data-dir" => data_dir = Some(PathBuf::from(rest.next()?)),
                "--foreground" => foreground = true,
                "--resume" => return rest.next()?.parse().ok().map(Self::Resume),
                "--check-handover" => return rest.next()?.parse().ok().map(Self::CheckHandover),
                _ => return None,
            }
        }
        let exe = std::env::current_exe().ok()?;
        Some(Self::Guard(Options {
            run_dir: run_dir?,
            data_dir: data_dir?,
            foreground,
            exe,
            log_writer: None,
        }))
    }
}
