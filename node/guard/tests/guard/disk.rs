//! A disk that stalls: whoever waits for it can't be killed, and nothing exclusive may hang on whoever waits.

use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::{Failed, Trial};
use muster_guard::protocol::{Binding, LogSpec, TaskSpec};
use nix::sys::signal::Signal;

use crate::ending::dies_in_time;
use crate::harness::{
    Host, TestResult, boottime_ns, descendants, eventually, last_stamp_ns, shell, signal, trial,
};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("an_init_never_waits_for_the_disk", false, an_init_never_waits_for_the_disk),
        trial("a_stalled_disk_keeps_no_task_alive", true, a_stalled_disk_keeps_no_task_alive),
    ]
}

/// A file system of its own that can be stalled.
struct Disk {
    mounted: PathBuf,
}

impl Disk {
    fn mount(host: &Host) -> Result<Self, Failed> {
        let (image, mounted) = (host.path("disk.img"), host.path("disk"));
        std::fs::File::create(&image)?.set_len(64 << 20)?;
        std::fs::create_dir(&mounted)?;
        run("mkfs.ext4", &[Path::new("-q"), &image])?;
        run("mount", &[Path::new("-o"), Path::new("loop"), &image, &mounted])?;
        Ok(Self { mounted })
    }

    fn stall(&self) -> TestResult {
        run("fsfreeze", &[Path::new("--freeze"), &self.mounted])
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It may not be stalled, and something may still be on its way out.
        let _thawed = run("fsfreeze", &[Path::new("--unfreeze"), &self.mounted]);
        if let Err(error) = run("umount", &[Path::new("--lazy"), &self.mounted]) {
            eprintln!("cleaning up: {error:?}");
        }
    }
}

fn run(program: &str, arguments: &[&Path]) -> TestResult {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(program).args(arguments).env("PATH", path).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr)).into())
}

fn logged(spec: TaskSpec, path: &Path) -> TaskSpec {
    let log = LogSpec { path: path.display().to_string(), max_bytes: 1 << 20, keep: 1 };
    TaskSpec { log: Some(log), ..spec }
}

/// A namespace is killed when the last thread of its first process ends.
fn an_init_never_waits_for_the_disk() -> TestResult {
    let mut host = Host::start()?;
    let spec = logged(shell("while :; do echo output; sleep 0.01; done"), &host.path("out.log"));
    let order = host.order("web", 3, Binding::Free, spec);
    host.start_task(order)?;
    eventually("the log is written", || {
        std::fs::metadata(host.path("out.log")).ok().filter(|m| m.len() > 0)
    })?;
    let inits = descendants(host.pid(), "muster-init");
    assert_eq!(inits.len(), 1);
    let threads = std::fs::read_dir(format!("/proc/{}/task", inits[0]))?.count();
    assert_eq!(threads, 1, "an init that has threads dies when the last of them does");
    let files = std::fs::read_dir(format!("/proc/{}/fd", inits[0]))?.flatten();
    let open: Vec<_> = files.filter_map(|fd| std::fs::read_link(fd.path()).ok()).collect();
    assert!(!open.contains(&host.path("out.log")), "{open:?}");
    Ok(())
}

fn a_stalled_disk_keeps_no_task_alive() -> TestResult {
    let mut host = Host::start()?;
    let disk = Disk::mount(&host)?;
    host.open_session()?;
    // It stamps elsewhere, and writes to its log all the time.
    let stamping = host.stamping("stamp", "db");
    let script = "(while :; do echo output; sleep 0.005; done) & exec \"$0\" \"$@\"";
    let mut argv = shell(script).argv;
    argv.extend(stamping.argv);
    let log = disk.mounted.join("out.log");
    let spec = logged(TaskSpec { argv, ..TaskSpec::default() }, &log);
    let order = host.order("db", 5, Binding::Exclusive, spec);
    let pid = host.start_task(order)?;
    eventually("the task stamps", || last_stamp_ns(&host.path("db")))?;
    eventually("the log is written", || std::fs::metadata(&log).ok().filter(|m| m.len() > 0))?;
    disk.stall()?;
    eventually("somebody waits for the disk", || {
        let threads =
            |pid: i32| std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let waits = |thread: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.contains(") D ")
        };
        descendants(host.pid(), "muster-log").into_iter().flat_map(threads).any(waits).then_some(())
    })?;
    let stopped_ns = boottime_ns();
    signal(host.pid(), Signal::SIGSTOP);
    dies_in_time(&host, "db", pid, stopped_ns)
}
