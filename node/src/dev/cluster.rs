//! The processes, files and namespaces of a development cluster.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::netns::{self, Network};
use super::node::{self, DevNode, STOP_TIMEOUT};
use super::registry::{Entry, Place};
use super::{DevError, paths, say};
use crate::clock;
use crate::command::{Dev, init, join};
use crate::seed::Seed;

/// So many names are tried for a new directory: those of killed clusters with this process id are taken.
const DIRECTORY_TRIES: u32 = 100;

/// A cluster of processes.
pub(super) struct DevCluster {
    dir: PathBuf,
    /// Whether `dir` was made here, so that all of it may be removed.
    own_dir: bool,
    keep: bool,
    exe: PathBuf,
    names: Vec<String>,
    nodes: Vec<DevNode>,
    network: Option<Network>,
    place: Option<Place>,
    token: String,
}

impl DevCluster {
    /// A cluster of which nothing is there yet but its directory.
    pub(super) fn create(args: &Dev) -> Result<Self, DevError> {
        if args.netns && !nix::unistd::geteuid().is_root() {
            return Err(DevError::NeedsRoot { what: "making network namespaces" });
        }
        let exe = std::env::current_exe().map_err(DevError::io("the path of this program"))?;
        let own_dir = args.dir.is_none();
        let dir = match &args.dir {
            Some(dir) => dir.clone(),
            None => new_directory(&std::env::temp_dir())?,
        };
        let stamps = paths::stamps(&dir);
        std::fs::create_dir_all(&stamps).map_err(DevError::io(format!("{}", dir.display())))?;
        let dir = dir.canonicalize().map_err(DevError::io(format!("{}", dir.display())))?;
        let network = args.netns.then(|| Network::named(&format!("muster-dev-{}", std::process::id())));
        Ok(Self {
            dir,
            own_dir,
            keep: args.keep,
            exe,
            names: (1..=args.nodes).map(|number| format!("n{number}")).collect(),
            nodes: Vec::new(),
            network,
            place: None,
            token: String::new(),
        })
    }

    /// Enters the cluster into the registry, and makes its namespaces and the nodes' files.
    pub(super) fn prepare(&mut self) -> Result<(), DevError> {
        self.enter()?;
        if let Some(network) = &self.network {
            network.create()?;
        }
        for (number, name) in (1..).zip(&self.names) {
            self.nodes.push(DevNode::create(&self.dir, name, number, self.network.as_ref())?);
        }
        Ok(())
    }

    fn enter(&mut self) -> Result<(), DevError> {
        if !nix::unistd::geteuid().is_root() {
            return Ok(());
        }
        let entry = Entry {
            pid: std::process::id(),
            started_ms: clock::wall_now().0,
            dir: self.dir.clone(),
            remove_dir: self.own_dir && !self.keep,
            nodes: self.names.clone(),
            namespaces: self.network.as_ref().map(|network| network.prefix().to_owned()),
        };
        match Place::take(&entry) {
            Ok(place) => self.place = Some(place),
            Err(error) if self.network.is_some() => return Err(error),
            // On loopback it only serves the words of 'muster dev cut'.
            Err(error) => say(&format!("not entered among the running clusters: {error}")),
        }
        Ok(())
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn stamps(&self) -> PathBuf {
        paths::stamps(&self.dir)
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
        self.names.iter().map(|name| paths::api_socket(&self.dir, name)).collect()
    }

    /// The namespaces, if the nodes have some.
    pub(super) fn network(&self) -> Option<&Network> {
        self.network.as_ref()
    }

    /// Keeps a context; it may hold a key, so it is for its owner alone.
    pub(super) fn write_context(&self, text: &str) -> Result<PathBuf, DevError> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let path = paths::context(&self.dir);
        let file =
            std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(DevError::io(format!("{}", path.display())))?;
        Ok(path)
    }

    /// An example service that says when it runs and where.
    pub(super) fn write_example(&self) -> Result<PathBuf, DevError> {
        let path = paths::example(&self.dir);
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
        if Seed::read(&config.node.data_dir).ok().flatten().is_none() {
            let made =
                init::prepare(&config, "dev").map_err(|e| DevError::Broken(format!("init failed: {e}")))?;
            self.token = made.token;
        }
        self.nodes[0].start(&self.exe)
    }

    /// Joins and starts all the other agents.
    pub(super) async fn start_others(&mut self) -> Result<(), DevError> {
        let first = self.nodes[0].address();
        for node in &mut self.nodes[1..] {
            let config = node.config()?;
            if Seed::read(&config.node.data_dir).ok().flatten().is_none() {
                let agents = std::slice::from_ref(&first);
                let joining = join::join(&config, &self.token, agents);
                let joined = match node.namespace() {
                    None => joining.await,
                    Some(namespace) => netns::block_on_inside(namespace, joining)?,
                };
                joined.map_err(|e| DevError::Broken(format!("{} could not join: {e}", node.name())))?;
            }
            node.start(&self.exe)?;
        }
        Ok(())
    }

    pub(super) fn node_mut(&mut self, name: &str) -> Result<&mut DevNode, DevError> {
        let found = self.nodes.iter_mut().find(|n| n.name() == name);
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

    /// Ends every process that was started, agents first, then guards, which end their tasks; then removes the
    /// namespaces.
    pub(super) async fn stop(&mut self) -> Result<(), DevError> {
        for node in &mut self.nodes {
            node.stop_agent().await;
        }
        let guards: Vec<Pid> = self.nodes.iter().filter_map(DevNode::guard_pid).collect();
        for guard in &guards {
            node::end(*guard, Signal::SIGTERM);
        }
        let until = clock::monotonic() + STOP_TIMEOUT;
        while guards.iter().any(|g| node::is_alive(*g)) && clock::monotonic() < until {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for guard in guards.iter().filter(|g| node::is_alive(**g)) {
            node::end(*guard, Signal::SIGKILL);
        }
        self.network.as_ref().map_or(Ok(()), Network::remove)
    }

    pub(super) fn remove_files(&self) -> Result<(), DevError> {
        if self.own_dir {
            return std::fs::remove_dir_all(&self.dir)
                .map_err(DevError::io(format!("removing {}", self.dir.display())));
        }
        // A directory of the user's own keeps what was there before.
        let directories = self.names.iter().map(|name| self.dir.join(name)).chain([self.stamps()]);
        for directory in directories.filter(|d| d.exists()) {
            std::fs::remove_dir_all(&directory)
                .map_err(DevError::io(format!("removing {}", directory.display())))?;
        }
        for file in [paths::context(&self.dir), paths::example(&self.dir)].iter().filter(|f| f.exists()) {
            std::fs::remove_file(file).map_err(DevError::io(format!("removing {}", file.display())))?;
        }
        Ok(())
    }
}

/// A directory that nobody else has made: below the system's temporary one others could.
fn new_directory(parent: &Path) -> Result<PathBuf, DevError> {
    let pid = std::process::id();
    let names = (1..=DIRECTORY_TRIES).map(|n| match n {
        1 => format!("muster-dev-{pid}"),
        n => format!("muster-dev-{pid}-{n}"),
    });
    let mut last = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
    for dir in names.map(|name| parent.join(name)) {
        match std::fs::create_dir(&dir) {
            Ok(()) => return Ok(dir),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => last = error,
            Err(error) => return Err(DevError::io(format!("{}", dir.display()))(error)),
        }
    }
    Err(DevError::io(format!("a new directory in {}", parent.display()))(last))
}
