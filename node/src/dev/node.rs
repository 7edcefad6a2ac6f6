//! One node of a development cluster: its agent, its guard and its files.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::DevError;
use super::netns::{self, Network};
use crate::clock;
use crate::config::{self, Config};

/// How long a process may take to end in order.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// The port of the first agent, if it is free; on loopback the others follow in steps of ten.
const FIRST_PORT: u16 = 7420;

/// One agent and its guard.
pub(super) struct DevNode {
    name: String,
    dir: PathBuf,
    grpc: SocketAddr,
    http: SocketAddr,
    /// Where its processes live, if not in the host's own namespace.
    namespace: Option<String>,
    agent: Option<Child>,
}

impl DevNode {
    /// Makes the node's files, and its namespace if there is a network for it.
    pub(super) fn create(
        dir: &Path,
        name: &str,
        number: u8,
        network: Option<&Network>,
    ) -> Result<Self, DevError> {
        let (grpc, http) = match network {
            Some(network) => {
                let ip = network.connect(name, number)?;
                (SocketAddr::new(ip, FIRST_PORT), SocketAddr::new(ip, FIRST_PORT + 1))
            }
            None => {
                let port = FIRST_PORT + u16::from(number - 1) * 10;
                (free_address(port)?, free_address(port + 1)?)
            }
        };
        let (namespace, name) = (network.map(|network| network.of(name)), name.to_owned());
        let node = Self { dir: dir.join(&name), grpc, http, namespace, agent: None, name };
        std::fs::create_dir_all(&node.dir).map_err(DevError::io(format!("{}", node.dir.display())))?;
        node.write_config()?;
        Ok(node)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Where its agent listens.
    pub(super) fn address(&self) -> String {
        self.grpc.to_string()
    }

    pub(super) fn http_address(&self) -> SocketAddr {
        self.http
    }

    pub(super) fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    fn config_path(&self) -> PathBuf {
        self.dir.join("agent.toml")
    }

    fn write_config(&self) -> Result<(), DevError> {
        let zone = &self.name;
        let text = format!(
            "[node]\nname = {:?}\ndata_dir = {:?}\nrun_dir = {:?}\nlisten = [\"{}\"]\n\n[node.labels]\nzone = {zone:?}\n\n\
             [http]\nlisten = [\"{}\"]\n",
            self.name,
            self.dir.join("data").display().to_string(),
            self.dir.join("run").display().to_string(),
            self.grpc,
            self.http
        );
        std::fs::write(self.config_path(), text)
            .map_err(DevError::io(format!("{}", self.config_path().display())))
    }

    pub(super) fn config(&self) -> Result<Config, DevError> {
        config::load(Some(&self.config_path()), &[]).map_err(|e| DevError::Broken(e.to_string()))
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "a development cluster's agents are children of this program"
    )]
    pub(super) fn start(&mut self, exe: &Path) -> Result<(), DevError> {
        let log_path = self.dir.join("agent.log");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&log_path);
        let log = log.map_err(DevError::io(format!("{}", log_path.display())))?;
        let errors = log.try_clone().map_err(DevError::io("duplicating a descriptor"))?;
        let mut command = Command::new(exe);
        command
            .arg("agent")
            .arg("--config")
            .arg(self.config_path())
            .args(["--start-guard", "always"])
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors);
        let started = match &self.namespace {
            None => command.spawn(),
            // A child lives where the thread lived that started it; its guard will, too.
            Some(namespace) => netns::inside(namespace, || command.spawn())?,
        };
        self.agent = Some(started.map_err(DevError::io(format!("starting agent {}", self.name)))?);
        Ok(())
    }

    /// The guard's process, by the file that it keeps.
    pub(super) fn guard_pid(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(self.dir.join("run").join("guard.pid")).ok()?;
        text.trim().parse().ok().map(Pid::from_raw)
    }

    fn agent_pid(&self) -> Option<Pid> {
        let id = self.agent.as_ref()?.id();
        i32::try_from(id).ok().map(Pid::from_raw)
    }

    pub(super) fn pids(&self) -> Vec<String> {
        [self.agent_pid(), self.guard_pid()].into_iter().flatten().map(|p| p.to_string()).collect()
    }

    /// Kills agent and guard at once, as a crash of the host would.
    pub(super) fn crash(&mut self) -> Result<(), DevError> {
        for pid in [self.guard_pid(), self.agent_pid()].into_iter().flatten() {
            end(pid, Signal::SIGKILL);
        }
        if let Some(mut agent) = self.agent.take() {
            agent.wait().map_err(DevError::io("waiting for a killed agent"))?;
        }
        Ok(())
    }

    pub(super) fn check(&mut self) -> Result<(), DevError> {
        let Some(agent) = self.agent.as_mut() else { return Ok(()) };
        let ended = agent.try_wait().map_err(DevError::io("looking at an agent"))?;
        let Some(status) = ended else { return Ok(()) };
        let log = self.dir.join("agent.log");
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(10)..].join("\n");
        Err(DevError::AgentEnded { node: self.name.clone(), status: status.to_string(), log, tail })
    }

    pub(super) async fn stop_agent(&mut self) {
        let Some(mut agent) = self.agent.take() else { return };
        if let Ok(id) = i32::try_from(agent.id()) {
            end(Pid::from_raw(id), Signal::SIGTERM);
        }
        let until = clock::monotonic() + STOP_TIMEOUT;
        while matches!(agent.try_wait(), Ok(None)) {
            if clock::monotonic() > until {
                // It does not end in order; a dead one is as good here.
                let _killed = agent.kill();
                let _reaped = agent.wait();
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn free_address(port: u16) -> Result<SocketAddr, DevError> {
    let wished = SocketAddr::from(([127, 0, 0, 1], port));
    let listener = TcpListener::bind(wished).or_else(|_| TcpListener::bind(("127.0.0.1", 0)));
    let listener = listener.map_err(DevError::io("no free port on 127.0.0.1"))?;
    listener.local_addr().map_err(DevError::io("a port of 127.0.0.1"))
}

/// Sends a signal.
pub(super) fn end(pid: Pid, signal: Signal) {
    // It may have ended by itself.
    let _sent = kill(pid, signal);
}

/// Whether a process still runs; a zombie does not.
pub(super) fn is_alive(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    state.is_some_and(|s| s != 'Z' && s != 'X')
}
