//! A host on which a process of low priority holds a lock that the end of every other process needs.
//!
//! Whoever ends, forks or executes a program takes a lock of each file that it maps (the kernel's `i_mmap_rwsem`). Others
//! hold it while they look for who maps a page of that file, for example to move it in memory, and let more
//! important processes run meanwhile. Here it is the file of a library that only the guard's family maps, so that
//! the rest of the host is not slowed down.

use std::fs::File;
use std::io::Read;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use muster_core::id::Generation;
use muster_guard::protocol::{Binding, Request, TaskSpec};
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::mman::{MapFlags, ProtFlags, mmap};
use nix::sys::signal::Signal;

use crate::ending::MS;
use crate::harness::{
    Host, TTL_MS, TestResult, boottime_ns, descendants, eventually, last_stamp_ns, runs, shell, signal, slot,
    task_name, trial,
};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a_crowd_delays_the_death_of_processes", true, a_crowd_delays_the_death_of_processes),
        trial("a_crowd_keeps_no_task_of_a_frozen_guard_alive", true, || ends_with_lease(&freeze)),
        trial("a_crowd_keeps_no_checked_task_alive", true, || ends_with_lease(&check_and_lose_acks)),
        trial("a_crowd_keeps_no_revoked_task_alive", true, a_crowd_keeps_no_revoked_task_alive),
    ]
}

/// The lock is held most of the time, not always.
const ROUNDS: u32 = 3;
/// How often the holder maps the file: so long takes it to look for all who map its page.
const MAPPINGS: usize = 2000;
const PAGE_BYTES: usize = 4096;
const PAGE: i64 = 4096;
/// A library that this program uses and tasks don't.
const NAME: &str = "libgcc_s.so.1";
/// A task that stamps every millisecond has ended when it did not for so long.
const LONG_NS: u64 = 600 * MS;
/// Ample for what happens at once, on a host whose processors are all busy.
const LIMIT_NS: u64 = 100 * MS;
const GATHERED: Duration = Duration::from_millis(500);
/// Behind everything that the library's own mappings show.
const TAIL_BYTES: u64 = 1 << 20;

/// What this binary does as the holder: it drops a page of the file that many mappings show, again and again.
pub fn hold(path: &Path) -> ExitCode {
    let file = File::options().read(true).write(true).open(path).expect("the library can be opened");
    let tail = i64::try_from(file.metadata().expect("it has a size").len()).expect("it fits") - PAGE;
    let length = NonZeroUsize::new(PAGE_BYTES).expect("not zero");
    for _ in 0..MAPPINGS {
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_POPULATE;
        // SAFETY: a new mapping at a place of the kernel's choice, which nothing ever reads.
        let mapped = unsafe { mmap(None, length, ProtFlags::PROT_READ, flags, file.as_fd(), tail) };
        mapped.expect("a page of the library can be mapped");
    }
    println!("holds");
    loop {
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(&file, hole, tail, PAGE).expect("the page can be dropped");
    }
}

/// A library of the guard's own, and those who crowd around it until this is dropped.
struct Crowd {
    library: PathBuf,
    members: Vec<Child>,
}

impl Crowd {
    /// Copies a library that this program uses into `directory`.
    fn new(directory: &Path) -> Result<Self, Failed> {
        let maps = std::fs::read_to_string("/proc/self/maps")?;
        let known = maps
            .lines()
            .find_map(|line| line.find("/").map(|at| &line[at..]).filter(|path| path.contains(NAME)));
        let library = directory.join(NAME);
        std::fs::copy(known.ok_or("this program doesn't use the library")?, &library)?;
        let file = File::options().write(true).open(&library)?;
        let length = file.metadata()?.len().next_multiple_of(PAGE_BYTES as u64);
        file.set_len(length + TAIL_BYTES)?;
        Ok(Self { library, members: Vec::new() })
    }

    /// What a guard has to be started through to use the copy, and to have no cgroups: they would hide what is tested.
    fn wrapper(&self) -> Vec<String> {
        let directory = self.library.parent().expect("it lies in a directory").display();
        let script = format!("umount -l -a -t cgroup2; LD_LIBRARY_PATH={directory} exec \"$@\"");
        ["unshare", "-m", "/bin/sh", "-c", &script, "sh"].map(str::to_owned).to_vec()
    }

    fn gather(&mut self) -> TestResult {
        let exe = std::env::current_exe()?;
        let mut hold = Command::new("nice");
        let mut holder = self.join(hold.args(["-n", "19"]).arg(exe).arg("hold").arg(&self.library))?;
        holder.read_exact(&mut [0; 6])?;
        for _ in 0..4 * std::thread::available_parallelism()?.get() {
            self.join(Command::new("/bin/sh").args(["-c", "while :; do :; done"]))?;
        }
        // What the holder had a claim to, it has used up by then.
        std::thread::sleep(GATHERED);
        Ok(())
    }

    fn join(&mut self, command: &mut Command) -> std::io::Result<std::process::ChildStdout> {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().expect("it is a pipe");
        self.members.push(child);
        Ok(stdout)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // The last ones first: they keep the holder from ending.
        for mut member in self.members.drain(..).rev() {
            // It may have ended by itself.
            let _ended = member.kill();
            let _reaped = member.wait();
        }
    }
}

/// Starts a task, gathers the crowd, has `end` begin the task's end, and looks whether the last stamp came within
/// `limit_ns` of that.
fn in_a_crowd(end: &dyn Fn(&mut Host) -> TestResult, limit_ns: u64) -> TestResult {
    for round in 0..ROUNDS {
        let directory = tempfile::tempdir()?;
        let mut crowd = Crowd::new(directory.path())?;
        let mut host = Host::start_through(crowd.wrapper())?;
        host.open_session()?;
        let spec = TaskSpec { checks: true, ..host.stamping("stamp", "db") };
        let order = host.order("db", 5, Binding::Exclusive, spec);
        host.start_task(order)?;
        eventually("the task stamps", || last_stamp_ns(&host.path("db")))?;
        crowd.gather()?;
        let since_ns = boottime_ns();
        let begun = end(&mut host);
        let last_ns = last_of_all_stamps_ns(&host.path("db"));
        // Before anything else, which would wait for it.
        drop(crowd);
        begun?;
        let ran_ns = last_ns?.saturating_sub(since_ns);
        if ran_ns > limit_ns {
            return Err(format!("round {round}: it ran for {} ms", ran_ns / MS).into());
        }
    }
    Ok(())
}

fn last_of_all_stamps_ns(path: &Path) -> Result<u64, Failed> {
    eventually("there are no stamps any more", || {
        last_stamp_ns(path).filter(|last_ns| boottime_ns().saturating_sub(*last_ns) > LONG_NS)
    })
}

/// What the other tests stand on: the same death takes no time without the crowd.
fn a_crowd_delays_the_death_of_processes() -> TestResult {
    let directory = tempfile::tempdir()?;
    let mut crowd = Crowd::new(directory.path())?;
    let mut host = Host::start_through(crowd.wrapper())?;
    let death = |host: &mut Host, name: &str| -> Result<Duration, Failed> {
        let order = host.order(name, 5, Binding::Promotable, shell("exec sleep 1000"));
        let before = descendants(host.pid(), "muster-shim");
        host.start_task(order)?;
        let shims = descendants(host.pid(), "muster-shim");
        let shim = *shims.iter().find(|shim| !before.contains(shim)).ok_or("no new shim")?;
        std::thread::sleep(GATHERED);
        let start = Instant::now();
        signal(shim, Signal::SIGKILL);
        eventually("the shim is dead", || (!runs(shim)).then_some(start.elapsed()))
    };
    let alone = death(&mut host, "alone")?;
    crowd.gather()?;
    let crowded =
        ["a", "b", "c", "d"].map(|name| death(&mut host, name)).into_iter().collect::<Result<Vec<_>, _>>()?;
    drop(crowd);
    println!("the death of a shim: {alone:?} alone, {crowded:?} in a crowd");
    assert!(
        crowded.iter().max() > Some(&Duration::from_nanos(LIMIT_NS)),
        "the crowd holds nobody up: {crowded:?}"
    );
    Ok(())
}

fn ends_with_lease(end: &dyn Fn(&mut Host) -> TestResult) -> TestResult {
    in_a_crowd(end, u64::from(TTL_MS) * MS)
}

fn freeze(host: &mut Host) -> TestResult {
    signal(host.pid(), Signal::SIGSTOP);
    Ok(())
}

/// Checks are forked all the time, and a fork takes the lock too.
fn check_and_lose_acks(host: &mut Host) -> TestResult {
    host.voter.acks.store(false, Ordering::Relaxed);
    let mut agent = host.agent.take().ok_or("no agent")?;
    std::thread::spawn(move || {
        let argv = vec!["/bin/true".to_owned()];
        let check = Request::RunCheck { slot: slot("db"), task: task_name(), argv, timeout_ms: 5000 };
        while agent.call(check.clone()).is_ok() {}
    });
    Ok(())
}

/// A task whose generation is revoked is killed at once, and so it must be: another one waits for it.
fn a_crowd_keeps_no_revoked_task_alive() -> TestResult {
    let revoke = |host: &mut Host| {
        let mut agent = host.agent.take().ok_or("no agent")?;
        let revoke = Request::Revoke { slot: slot("db"), generation: Generation(5) };
        // The answer comes when nothing is left, which waits for the crowd.
        std::thread::spawn(move || agent.call(revoke));
        Ok(())
    };
    in_a_crowd(&revoke, LIMIT_NS)
}
