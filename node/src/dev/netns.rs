//! The hosts of `muster dev --netns`: a network namespace for each node, and one in the middle with the bridge that
//! their cables lead to. The host's own network stays as it is.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::DevError;
use crate::clock;

/// Where `ip` keeps namespaces.
const NAMESPACES: &str = "/run/netns";
/// Where `ip` is looked for: `su` may leave root without the directories of its tools.
const TOOLS: [&str; 3] = ["ip", "/usr/sbin/ip", "/sbin/ip"];
/// The bridge.
const BRIDGE: &str = "sw0";
/// The last byte of the bridge's own address: who stands there sees the cluster as its clients do.
const BRIDGE_ADDRESS: u8 = 254;
/// How long killed processes may take to be gone.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// The namespaces of one cluster.
#[derive(Clone, Debug)]
pub(super) struct Network {
    prefix: String,
}

impl Network {
    /// The namespaces whose names begin with `prefix`, whether they are there or not.
    pub(super) fn named(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// What the names of its namespaces begin with.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The namespace in the middle.
    pub(super) fn middle(&self) -> String {
        format!("{}-net", self.prefix)
    }

    /// The namespace of a node.
    pub(super) fn of(&self, node: &str) -> String {
        format!("{}-{node}", self.prefix)
    }

    /// Makes the bridge.
    pub(super) fn create(&self) -> Result<(), DevError> {
        let middle = self.middle();
        ip(&format!("netns add {middle}"))?;
        ip(&format!("-n {middle} link set lo up"))?;
        // Without the delay a healed cable carries at once.
        ip(&format!("-n {middle} link add {BRIDGE} type bridge forward_delay 0"))?;
        ip(&format!("-n {middle} addr add {}/24 dev {BRIDGE}", address(BRIDGE_ADDRESS)))?;
        ip(&format!("-n {middle} link set {BRIDGE} up")).map(drop)
    }

    /// Makes a node's namespace and plugs its cable in; the node's address.
    pub(super) fn connect(&self, node: &str, number: u8) -> Result<IpAddr, DevError> {
        let (middle, own, address) = (self.middle(), self.of(node), address(number));
        ip(&format!("netns add {own}"))?;
        ip(&format!("-n {middle} link add {node} type veth peer name eth0 netns {own}"))?;
        ip(&format!("-n {middle} link set {node} master {BRIDGE} up"))?;
        ip(&format!("-n {own} link set lo up"))?;
        ip(&format!("-n {own} addr add {address}/24 dev eth0"))?;
        ip(&format!("-n {own} link set eth0 up"))?;
        Ok(address)
    }

    /// Whether a node's cable is plugged in.
    pub(super) fn is_connected(&self, node: &str) -> Result<bool, DevError> {
        let shown = ip(&format!("-n {} -o link show dev {node} up", self.middle()))?;
        Ok(!shown.trim().is_empty())
    }

    /// Pulls a node's cable out: nothing passes any more, in either direction.
    pub(super) fn cut(&self, node: &str) -> Result<(), DevError> {
        ip(&format!("-n {} link set dev {node} down", self.middle())).map(drop)
    }

    /// Plugs it in again.
    pub(super) fn heal(&self, node: &str) -> Result<(), DevError> {
        ip(&format!("-n {} link set dev {node} up", self.middle())).map(drop)
    }

    /// Removes the namespaces, and with them their cables and the bridge.
    pub(super) fn remove(&self) -> Result<(), DevError> {
        self.existing().iter().try_for_each(|name| ip(&format!("netns del {name}")).map(drop))
    }

    /// Kills whatever runs inside, and waits until it is gone.
    pub(super) fn kill_inside(&self) -> Result<(), DevError> {
        let until = clock::monotonic() + KILL_TIMEOUT;
        loop {
            let left = self.processes();
            if left.is_empty() {
                return Ok(());
            }
            if clock::monotonic() > until {
                let what = format!("the processes in {}-* to end", self.prefix);
                return Err(DevError::TimedOut { what, waited_s: KILL_TIMEOUT.as_secs() });
            }
            for pid in left {
                // It may have ended by itself.
                let _sent = kill(pid, Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn existing(&self) -> Vec<String> {
        let entries = std::fs::read_dir(NAMESPACES).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let begin = format!("{}-", self.prefix);
        names.filter(|name| name.starts_with(&begin)).collect()
    }

    fn processes(&self) -> Vec<Pid> {
        let identity = |path: PathBuf| std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()));
        let names = self.existing();
        let inside: Vec<_> =
            names.iter().filter_map(|name| identity(Path::new(NAMESPACES).join(name))).collect();
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        // A process may end between the two looks; a zombie has no namespace any more.
        let of = |pid: &i32| identity(PathBuf::from(format!("/proc/{pid}/ns/net")));
        pids.filter(|pid| of(pid).is_some_and(|ns| inside.contains(&ns))).map(Pid::from_raw).collect()
    }
}

fn address(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
}

/// Runs `act` on a thread of its own inside a namespace. What it starts or opens there stays there.
pub(super) fn inside<T: Send>(namespace: &str, act: impl FnOnce() -> T + Send) -> Result<T, DevError> {
    let path = Path::new(NAMESPACES).join(namespace);
    let file = File::open(&path).map_err(DevError::io(path.display().to_string()))?;
    let entered = || {
        setns(file, CloneFlags::CLONE_NEWNET)
            .map_err(|errno| DevError::io(format!("entering {}", path.display()))(errno.into()))?;
        Ok(act())
    };
    std::thread::scope(|scope| scope.spawn(entered).join())
        .unwrap_or_else(|_| Err(DevError::Broken(format!("a thread inside {namespace} panicked"))))
}

/// The same for a future that opens connections.
pub(super) fn block_on_inside<T: Send>(
    namespace: &str,
    act: impl Future<Output = T> + Send,
) -> Result<T, DevError> {
    let waited = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map(|runtime| runtime.block_on(act)).map_err(DevError::io("starting a runtime"))
    };
    // The caller's own runtime goes on meanwhile.
    tokio::task::block_in_place(|| inside(namespace, waited))?
}

/// Runs `ip` with arguments separated by blanks; what it printed.
fn ip(line: &str) -> Result<String, DevError> {
    let output = TOOLS.iter().map(|tool| run(tool, line)).find(|ran| !is_missing(ran));
    let output = output.ok_or(DevError::NoIpTool)?.map_err(DevError::io(format!("ip {line}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let detail = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(DevError::Ip { line: line.to_owned(), detail })
}

fn is_missing(ran: &std::io::Result<Output>) -> bool {
    ran.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

#[allow(
    clippy::disallowed_methods,
    reason = "docs/decisions/0012-dev-netns.md: namespaces are made with 'ip'"
)]
fn run(tool: &str, line: &str) -> std::io::Result<Output> {
    // In a process group of its own: a Ctrl-C at the terminal must not end it half way.
    Command::new(tool).args(line.split_whitespace()).stdin(Stdio::null()).process_group(0).output()
}
