//! Finding and killing processes where no PID namespace holds them (enforcement `user`).

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Rounds until a process that forks all the time is given up; the caller tries again later.
const ROUNDS_MAX: usize = 64;

/// Kills all descendants of this process, but not the children in `spared` nor anything below them.
/// As a subreaper this process becomes the parent of what loses its own, so nothing hides for long: true when
/// nothing was left to be killed.
pub(crate) fn kill_descendants(spared: &[Pid]) -> bool {
    let me = nix::unistd::getpid();
    for _ in 0..ROUNDS_MAX {
        let mut waiting: Vec<Pid> = children_of(me).into_iter().filter(|pid| !spared.contains(pid)).collect();
        let mut living = 0;
        while let Some(pid) = waiting.pop() {
            waiting.extend(children_of(pid));
            if !is_zombie(pid) {
                living += 1;
                // It may end by itself between the two looks.
                let _ended = kill(pid, Signal::SIGKILL);
            }
        }
        if living == 0 {
            return true;
        }
    }
    false
}

fn children_of(parent: Pid) -> Vec<Pid> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect()
}

fn is_zombie(pid: Pid) -> bool {
    crate::process::Process::read(pid).is_none_or(|process| process.zombie)
}
