//! `muster dev --netns`: its nodes can be cut off, and nothing of it is left at the end, however it ends.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use libtest_mimic::Trial;
use muster_tests::harness::binaries::Binaries;
use muster_tests::harness::stamps::Stamps;
use muster_tests::harness::tool::{self, Finished};
use muster_tests::harness::{HarnessError, processes, wait};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::expect::says;
use crate::scene::{FAILOVER_LIMIT, START_TIMEOUT};
use crate::stage::{Played, Stage};

/// How long a cluster may take to be up or to end.
const LIMIT: Duration = Duration::from_secs(30);
/// How long a write may wait at an agent that reaches no majority: far below `musterctl`'s own 30 s.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// The service that `muster dev` writes as an example.
const SERVICE: &str = "hello";

pub fn trials(stage: &Stage) -> Vec<Trial> {
    vec![
        stage.alone("dev::a_node_is_cut_off_and_comes_back", cut_and_heal),
        stage.alone("dev::what_a_killed_one_left_is_removed_by_the_next", killed),
        stage.alone("dev::on_loopback_no_cable_can_be_pulled", loopback),
    ]
}

fn cut_and_heal() -> Played {
    let mut dev = Dev::start(&["--netns"])?;
    // Bridge and cables are none of the host's.
    for name in ["sw0", "n1"] {
        if Path::new("/sys/class/net").join(name).exists() {
            return Err(HarnessError::broken(format!("the host has an interface {name}")));
        }
    }
    let example = dev.dir().join("hello.toml").display().to_string();
    says(&dev.ctl(&["service", "apply", "-f", &example])?, 0, &[])?;
    let stamps = Stamps::new(dev.dir().join("stamps"));
    let old = stamps.running(SERVICE, START_TIMEOUT)?;
    // As the leader it would wait for ever for somebody to take a write.
    says(&dev.ctl(&["raft", "transfer-leader", "--to", &old.node])?, 0, &[])?;

    says(&dev.cable("cut", "n9")?, 105, &["n9", "n1, n2, n3"])?;
    says(&dev.cable("cut", &old.node)?, 0, &["is cut off", "musterctl", "events", "dev heal"])?;
    says(&dev.cable("cut", &old.node)?, 0, &["already"])?;
    let (new, gap) = stamps.next_run(SERVICE, &old, START_TIMEOUT)?;
    println!("    {} cut off: {SERVICE} runs on {}, gap {:.1} ms", old.node, new.node, wait::millis(gap));
    if gap > FAILOVER_LIMIT {
        return Err(HarnessError::broken(format!("a gap of {:.1} ms", wait::millis(gap))));
    }
    // Through any agent: the first of the context may be the one that is cut off.
    dev.until_node(&old.node, "lost")?;
    let asked = wait::Moment::now();
    says(&dev.ctl_at(&old.node, &["node", "cordon", "n2"])?, 106, &["no quorum"])?;
    if asked.elapsed() > WRITE_LIMIT {
        return Err(HarnessError::broken("a leader that was cut off let its caller wait"));
    }
    says(&dev.cable("heal", &old.node)?, 0, &["connected again"])?;
    says(&dev.cable("heal", &old.node)?, 0, &["nothing was changed"])?;
    dev.until_node(&old.node, "alive")?;
    stamps.never_two(SERVICE)?;
    stamps.untouched(SERVICE, &new)?;

    dev.end(Signal::SIGINT)?;
    dev.nothing_is_left()?;
    says(&dev.cable("cut", "n1")?, 105, &["no development cluster", "muster dev --netns"])
}

fn killed() -> Played {
    let mut first = Dev::start(&["--netns", "--nodes", "1"])?;
    let example = first.dir().join("hello.toml").display().to_string();
    says(&first.ctl(&["service", "apply", "-f", &example])?, 0, &[])?;
    Stamps::new(first.dir().join("stamps")).running(SERVICE, START_TIMEOUT)?;
    processes::signal(first.pid, Signal::SIGKILL);
    first.ended()?;
    if first.processes()?.is_empty() || first.namespaces().is_empty() {
        return Err(HarnessError::broken(
            "a killed 'muster dev' left nothing behind: the case shows nothing",
        ));
    }
    let mut second = Dev::start(&["--netns", "--nodes", "1"])?;
    first.nothing_is_left()?;
    second.end(Signal::SIGTERM)?;
    second.nothing_is_left()
}

fn loopback() -> Played {
    let mut dev = Dev::start(&["--nodes", "1"])?;
    says(&dev.cable("cut", "n1")?, 107, &["loopback", "muster dev --netns"])?;
    dev.end(Signal::SIGINT)?;
    dev.nothing_is_left()
}

/// A `muster dev`.
struct Dev {
    child: Child,
    pid: Pid,
    binaries: Binaries,
    /// Its `--dir` is below this one.
    parent: tempfile::TempDir,
}

impl Dev {
    /// Starts it, and waits until it says what to try.
    fn start(args: &[&str]) -> Result<Self, HarnessError> {
        let binaries = Binaries::find()?;
        let parent = tempfile::Builder::new().prefix("muster-test-dev-").tempdir();
        let parent = parent.map_err(HarnessError::io("a directory"))?;
        let dir = parent.path().join("dev").display().to_string();
        let mut line = vec!["dev", "--dir", &dir];
        line.extend_from_slice(args);
        let child = tool::spawn(&binaries.muster, &line, &parent.path().join("log"))?;
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or_default());
        let mut dev = Self { child, pid, binaries, parent };
        wait::until(LIMIT, "'muster dev' to be up", || {
            let log = std::fs::read_to_string(dev.parent.path().join("log")).unwrap_or_default();
            match dev.child.try_wait() {
                Ok(None) if log.contains("Ctrl-C ends all of it") => Ok(()),
                _ => Err(log),
            }
        })?;
        Ok(dev)
    }

    fn dir(&self) -> PathBuf {
        self.parent.path().join("dev")
    }

    /// `musterctl` on the host itself, with the context that was written.
    fn ctl(&self, args: &[&str]) -> Result<Finished, HarnessError> {
        let context = self.dir().join("context.toml").display().to_string();
        let mut line = vec!["--context", &context];
        line.extend_from_slice(args);
        tool::run(&self.binaries.musterctl.display().to_string(), &line)
    }

    /// By the socket of one agent.
    fn ctl_at(&self, node: &str, args: &[&str]) -> Result<Finished, HarnessError> {
        let socket = self.dir().join(node).join("run/api.sock").display().to_string();
        let mut line = vec!["--endpoint", &socket];
        line.extend_from_slice(args);
        tool::run(&self.binaries.musterctl.display().to_string(), &line)
    }

    fn cable(&self, act: &str, node: &str) -> Result<Finished, HarnessError> {
        let dir = self.dir().display().to_string();
        tool::run(&self.binaries.muster.display().to_string(), &["dev", act, node, "--dir", &dir])
    }

    fn until_node(&self, node: &str, state: &str) -> Result<(), HarnessError> {
        wait::until(LIMIT, &format!("{node} to be {state}"), || {
            let shown = self.ctl(&["node", "show", node, "-o", "json"]).map_err(|e| e.to_string())?;
            let is = |text: &str| text.contains(&format!("\"state\": \"{state}\""));
            if shown.status == 0 && is(&shown.stdout) { Ok(()) } else { Err(shown.text()) }
        })
    }

    fn end(&mut self, how: Signal) -> Result<(), HarnessError> {
        processes::signal(self.pid, how);
        let status = self.ended()?;
        if status == 0 { Ok(()) } else { Err(HarnessError::broken(format!("it ended with {status}"))) }
    }

    fn ended(&mut self) -> Result<i32, HarnessError> {
        wait::until(LIMIT, "'muster dev' to end", || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status.code().unwrap_or(-1)),
            other => Err(format!("{other:?}")),
        })
    }

    /// Its agents, guards and tasks, by the directory in their command lines.
    fn processes(&self) -> Result<Vec<String>, HarnessError> {
        let dir = self.dir().display().to_string();
        let entries = std::fs::read_dir("/proc").map_err(HarnessError::io("/proc"))?;
        let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let own = pids.map(Pid::from_raw).filter(|pid| {
            processes::is_alive(*pid) && processes::arguments(*pid).any(|word| word.contains(&dir))
        });
        Ok(own.map(processes::describe).collect())
    }

    fn namespaces(&self) -> Vec<String> {
        let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| name.starts_with(&format!("muster-dev-{}-", self.pid))).collect()
    }

    fn nothing_is_left(&self) -> Played {
        let entry = PathBuf::from(format!("/run/muster-dev/{}.json", self.pid));
        let mut left = self.processes()?;
        left.extend(self.namespaces());
        left.extend(entry.exists().then(|| entry.display().to_string()));
        if left.is_empty() { Ok(()) } else { Err(HarnessError::broken(format!("left behind: {left:?}"))) }
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // A case that failed: the next 'muster dev' removes what one leaves that does not end in order.
            processes::signal(self.pid, Signal::SIGTERM);
            if let Err(error) = self.ended() {
                eprintln!("cleaning up: {error}");
            }
        }
    }
}
