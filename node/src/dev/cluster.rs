//! The processes and files of a development cluster.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::DevError;
use crate::clock;
use crate::command::{init, join};
use crate::config::{self, Config};

/// How long a process may take to end in order.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// The port of the first agent, if it is free; the others follow in steps of ten.
const FIRST_PORT: u16 = 7420;
const CONTEXT_FILE: &str = "context.toml";
const EXAMPLE_FILE: &str = "hello.toml";

/// A cluster of processes.
pub(super) struct DevCluster {
    dir: PathBuf,
    /// Whether `dir` was made here, so that all of it may be removed.
    own_dir: bool,
    exe: PathBuf,
    nodes: Vec<DevNode>,
    token: String,
}

/// One agent and its guard.
pub(super) struct DevNode {
    name: String,
    dir: PathBuf,
    grpc: SocketAddr,
    http: SocketAddr,
    agent: Option<Child>,
}

impl DevCluster {
    pub(super) fn create(nodes: u16, dir: Option<PathBuf>) -> Result<Self, DevError> {
        let exe = std::env::current_exe().map_err(DevError::io("the path of this program"))?;
        let own_dir = dir.is_none();
        let dir = match dir {
            Some(dir) => dir,
            None => std::env::temp_dir().join(format!("muster-dev-{}", std::process::id())),
        };
        std::fs::create_dir_all(dir.join("stamps")).map_err(DevError::io(format!("{}", dir.display())))?;
        let dir = dir.canonicalize().map_err(DevError::io(format!("{}", dir.display())))?;
        let nodes = (1..=nodes).map(|i| DevNode::create(&dir, i)).collect::<Result<_, _>>()?;
        Ok(Self { dir, own_dir, exe, nodes, token: String::new() })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn stamps(&self) -> PathBuf {
        self.dir.join("stamps")
    }

    pub(super) fn exe(&self) -> &Path {
        &self.exe
    }

    pub(super) fn size(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn nodes(&self) -> &[DevNode] {
        &self.nodes
    }

    /// The agents' sockets.
    pub(super) fn sockets(&self) -> Vec<PathBuf> {
        self.nodes.iter().map(|n| n.dir.join("run").join("api.sock")).collect()
    }

    pub(super) fn http_address(&self) -> SocketAddr {
        self.nodes[0].http
    }

    /// How this machine calls musterctl: beside this program, or through cargo.
    pub(super) fn musterctl(&self) -> String {
        let beside = self.exe.with_file_name("musterctl");
        if beside.is_file() {
            beside.display().to_string()
        } else {
            "cargo run -q --release -p musterctl --".to_owned()
        }
    }

    /// Keeps a context; it holds a key, so it is for its owner alone.
    pub(super) fn write_context(&self, text: &str) -> Result<PathBuf, DevError> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let path = self.dir.join(CONTEXT_FILE);
        let file =
            std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(DevError::io(format!("{}", path.display())))?;
        Ok(path)
    }

    /// An example service that says when it runs and where.
    pub(super) fn write_example(&self) -> Result<PathBuf, DevError> {
        let path = self.dir.join(EXAMPLE_FILE);
        let text = format!(
            "[[service]]\nname = \"hello\"\nmode = \"exclusive\"\n\n[[service.task]]\nname = \"stamp\"\n\
             [service.task.exec]\ncommand = [{:?}, \"stamp\", {:?}]\n",
            self.exe.display().to_string(),
            self.stamps().display().to_string()
        );
        std::fs::write(&path, text).map_err(DevError::io(format!("{}", path.display())))?;
        Ok(path)
    }

    /// Makes the cluster on the first node and starts its agent.
    pub(super) fn start_first(&mut self) -> Result<(), DevError> {
        let config = self.nodes[0].config()?;
        if crate::seed::Seed::read(&config.node.data_dir).ok().flatten().is_none() {
            let made =
                init::prepare(&config, "dev").map_err(|e| DevError::Broken(format!("init failed: {e}")))?;
            self.token = made.token;
        }
        self.nodes[0].start(&self.exe)
    }

    /// Joins and starts all the other agents.
    pub(super) async fn start_others(&mut self) -> Result<(), DevError> {
        let first = self.nodes[0].grpc.to_string();
        for node in &mut self.nodes[1..] {
            let config = node.config()?;
            if crate::seed::Seed::read(&config.node.data_dir).ok().flatten().is_none() {
                let agents = std::slice::from_ref(&first);
                join::join(&config, &self.token, agents)
                    .await
                    .map_err(|e| DevError::Broken(format!("{} could not join: {e}", node.name)))?;
            }
            node.start(&self.exe)?;
        }
        Ok(())
    }

    pub(super) fn node_mut(&mut self, name: &str) -> Result<&mut DevNode, DevError> {
        let found = self.nodes.iter_mut().find(|n| n.name == name);
        found.ok_or_else(|| DevError::Broken(format!("there is no agent {name}")))
    }

    /// Starts an agent again, which starts its guard again.
    pub(super) fn start_again(&mut self, name: &str) -> Result<(), DevError> {
        let exe = self.exe.clone();
        self.node_mut(name)?.start(&exe)
    }

    /// Fails when an agent that should run has ended.
    pub(super) fn check(&mut self) -> Result<(), DevError> {
        self.nodes.iter_mut().try_for_each(DevNode::check)
    }

    /// Ends every process that was started: agents first, then guards, which end their tasks.
    pub(super) async fn stop(&mut self) -> Result<(), DevError> {
        for node in &mut self.nodes {
            node.stop_agent().await;
        }
        let guards: Vec<Pid> = self.nodes.iter().filter_map(DevNode::guard_pid).collect();
        for guard in &guards {
            end(*guard, Signal::SIGTERM);
        }
        let until = clock::monotonic() + STOP_TIMEOUT;
        while guards.iter().any(|g| is_alive(*g)) && clock::monotonic() < until {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for guard in guards.iter().filter(|g| is_alive(**g)) {
            end(*guard, Signal::SIGKILL);
        }
        Ok(())
    }

    pub(super) fn remove_files(&self) -> Result<(), DevError> {
        if self.own_dir {
            return std::fs::remove_dir_all(&self.dir)
                .map_err(DevError::io(format!("removing {}", self.dir.display())));
        }
        // A directory of the user's own keeps what was there before.
        let directories = self.nodes.iter().map(|n| n.dir.clone()).chain([self.stamps()]);
        for directory in directories.filter(|d| d.exists()) {
            std::fs::remove_dir_all(&directory)
                .map_err(DevError::io(format!("removing {}", directory.display())))?;
        }
        for file in [CONTEXT_FILE, EXAMPLE_FILE].map(|f| self.dir.join(f)).iter().filter(|f| f.exists()) {
            std::fs::remove_file(file).map_err(DevError::io(format!("removing {}", file.display())))?;
        }
        Ok(())
    }
}

impl DevNode {
    fn create(dir: &Path, number: u16) -> Result<Self, DevError> {
        let name = format!("n{number}");
        let port = FIRST_PORT + (number - 1) * 10;
        let node = Self {
            dir: dir.join(&name),
            grpc: free_address(port)?,
            http: free_address(port + 1)?,
            agent: None,
            name,
        };
        std::fs::create_dir_all(&node.dir).map_err(DevError::io(format!("{}", node.dir.display())))?;
        node.write_config()?;
        Ok(node)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
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

    fn config(&self) -> Result<Config, DevError> {
        config::load(Some(&self.config_path()), &[]).map_err(|e| DevError::Broken(e.to_string()))
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "a development cluster's agents are children of this program"
    )]
    fn start(&mut self, exe: &Path) -> Result<(), DevError> {
        let log_path = self.dir.join("agent.log");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&log_path);
        let log = log.map_err(DevError::io(format!("{}", log_path.display())))?;
        let errors = log.try_clone().map_err(DevError::io("duplicating a descriptor"))?;
        let child = Command::new(exe)
            .arg("agent")
            .arg("--config")
            .arg(self.config_path())
            .args(["--start-guard", "always"])
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(DevError::io(format!("starting agent {}", self.name)))?;
        self.agent = Some(child);
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

    fn check(&mut self) -> Result<(), DevError> {
        let Some(agent) = self.agent.as_mut() else { return Ok(()) };
        let ended = agent.try_wait().map_err(DevError::io("looking at an agent"))?;
        let Some(status) = ended else { return Ok(()) };
        let log = self.dir.join("agent.log");
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(10)..].join("\n");
        Err(DevError::AgentEnded { node: self.name.clone(), status: status.to_string(), log, tail })
    }

    async fn stop_agent(&mut self) {
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

fn end(pid: Pid, signal: Signal) {
    // It may have ended by itself.
    let _sent = kill(pid, signal);
}

fn is_alive(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    state.is_some_and(|s| s != 'Z' && s != 'X')
}
