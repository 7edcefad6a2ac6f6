//! Finding and killing processes where no PID namespace holds them (enforcement `user`).

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process::Process;

/// Rounds until a process that forks all the time is given up; the caller tries again later.
const ROUNDS_MAX: usize = 64;
/// One look can miss a process that is born behind it from a parent that ends before it: so look twice.
const CLEAN_ROUNDS: usize = 2;

/// Kills all descendants of this process, but not the children in `spared` nor anything below them.
/// As a subreaper this process becomes the parent of what loses its own, so nothing hides for long: true when
/// nothing was left to be killed.
pub(crate) fn kill_descendants(spared: &[Pid]) -> bool {
    let mut clean = 0;
    for _ in 0..ROUNDS_MAX {
        let living: Vec<Process> =
            descendants(spared).into_iter().filter(|process| !process.zombie).collect();
        if living.is_empty() {
            clean += 1;
            if clean == CLEAN_ROUNDS {
                return true;
            }
            continue;
        }
        clean = 0;
        for process in living {
            // It may end by itself between the look and the kill.
            let _ended = kill(process.pid(), Signal::SIGKILL);
        }
    }
    false
}

fn descendants(spared: &[Pid]) -> Vec<Process> {
    let all = Process::all();
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![nix::unistd::getpid()];
    while let Some(parent) = parents.pop() {
        for child in all.iter().filter(|process| process.parent == parent.as_raw()) {
            if !spared.contains(&child.pid()) {
                found.push(*child);
                parents.push(child.pid());
            }
        }
    }
    found
}
