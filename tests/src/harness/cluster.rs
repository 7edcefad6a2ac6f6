//! The cluster: hosts, their network, and an operator who looks at it from the switch.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use tempfile::TempDir;

use super::binaries::Binaries;
use super::tool::Finished;
use super::{Api, HarnessError, Host, Network, Operator, Stamps, sweep, tool, wait};

/// How long a cluster may take to become whole again after a case.
pub const WHOLE_TIMEOUT: Duration = Duration::from_secs(20);
/// How many voters a cluster of many hosts has.
const VOTERS: usize = 3;

/// A cluster of real processes. Dropping it ends and removes everything.
#[derive(Debug)]
pub struct Cluster {
    api: Api,
    hosts: Vec<Host>,
    outsiders: Vec<Host>,
    stamps: Stamps,
    token: String,
    operator: Operator,
    binaries: Binaries,
    // Removed last: the namespaces, then the files.
    network: Network,
    dir: TempDir,
}

impl Cluster {
    /// Hosts with a configuration and a network, and nothing that runs.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn prepare(hosts: usize) -> Result<Self, HarnessError> {
        let binaries = Binaries::find()?;
        let network = Network::new()?;
        let dir = tempfile::Builder::new()
            .prefix(&format!("{}{}-", sweep::DIRECTORY_PREFIX, std::process::id()))
            .tempdir();
        let dir = dir.map_err(HarnessError::io("a temporary directory"))?;
        let stamps = dir.path().join("stamps");
        std::fs::create_dir(&stamps).map_err(HarnessError::io("the directory of stamps"))?;
        let operator = Operator::default();
        let api = Api::new(&network.switch(), operator.clone())?;
        let stamps = Stamps::new(stamps);
        let mut cluster = Self {
            api,
            hosts: Vec::new(),
            outsiders: Vec::new(),
            stamps,
            token: String::new(),
            operator,
            binaries,
            network,
            dir,
        };
        for _ in 0..hosts {
            cluster.add_host()?;
        }
        Ok(cluster)
    }

    /// A cluster of so many hosts that is whole.
    ///
    /// # Errors
    /// When it does not become whole.
    pub fn start(hosts: usize) -> Result<Self, HarnessError> {
        let mut cluster = Self::prepare(hosts)?;
        cluster.form()?;
        Ok(cluster)
    }

    /// Makes the cluster on prepared hosts: init, join, start.
    ///
    /// # Errors
    /// When it does not become whole.
    pub fn form(&mut self) -> Result<(), HarnessError> {
        self.token = self.hosts[0].init()?;
        self.hosts[0].start()?;
        self.make_operator()?;
        self.whole_of(1)?;
        let (token, first) = (self.token.clone(), self.hosts[0].endpoint());
        for host in &mut self.hosts[1..] {
            host.join(&token, &first)?;
            host.start()?;
        }
        self.whole()
    }

    /// Where the operator's context is, with key and certificate.
    #[must_use]
    pub fn context(&self) -> PathBuf {
        self.dir().join("operator.toml")
    }

    /// The operator's credentials.
    #[must_use]
    pub fn operator(&self) -> &Operator {
        &self.operator
    }

    /// On the first host root makes a user, who operates the cluster from then on.
    ///
    /// # Errors
    /// When no agent makes it in time.
    pub fn make_operator(&self) -> Result<(), HarnessError> {
        let socket = format!("unix:{}", self.hosts[0].run_dir().join("api.sock").display());
        let context = self.context().display().to_string();
        let line = [
            "--endpoint",
            &socket,
            "-q",
            "--yes",
            "user",
            "create",
            "operator",
            "--role",
            "admin",
            "--out",
            &context,
        ];
        wait::until(WHOLE_TIMEOUT, "the operator's certificate", || {
            let made = tool::run_inside(self.hosts[0].namespace(), &self.binaries.musterctl, &line);
            made.and_then(Finished::success).map(drop).map_err(|e| e.to_string())
        })?;
        self.operator.become_user(&self.context())
    }

    /// A host on the network that does not count as one of the cluster's; its name.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn outsider(&mut self) -> Result<String, HarnessError> {
        let host = self.make_host("outsider")?;
        self.outsiders.push(host);
        Ok("outsider".to_owned())
    }

    /// An outsider.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn outside(&self, name: &str) -> Result<&Host, HarnessError> {
        let found = self.outsiders.iter().find(|h| h.name() == name);
        found.ok_or_else(|| HarnessError::NoHost(name.to_owned()))
    }

    fn make_host(&mut self, name: &str) -> Result<Host, HarnessError> {
        let address = self.network.add_host(name)?;
        let namespace = self.network.namespace(name);
        Host::new(name, namespace, address, self.dir.path().join(name), self.binaries.clone())
    }

    /// One more host, which neither joins nor starts yet; its name.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn add_host(&mut self) -> Result<String, HarnessError> {
        let name = format!("n{}", self.hosts.len() + 1);
        let host = self.make_host(&name)?;
        self.api.add(&name, &host.endpoint())?;
        self.hosts.push(host);
        Ok(name)
    }

    /// A host.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn host(&mut self, name: &str) -> Result<&mut Host, HarnessError> {
        let found = self.hosts.iter_mut().find(|h| h.name() == name);
        found.ok_or_else(|| HarnessError::NoHost(name.to_owned()))
    }

    /// All hosts.
    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// All hosts, to do something to them.
    pub fn hosts_mut(&mut self) -> &mut [Host] {
        &mut self.hosts
    }

    /// The names of hosts other than these.
    #[must_use]
    pub fn others(&self, than: &[&str]) -> Vec<String> {
        self.hosts.iter().map(Host::name).filter(|n| !than.contains(n)).map(str::to_owned).collect()
    }

    /// The links between the hosts.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Stamps of the services.
    #[must_use]
    pub fn stamps(&self) -> &Stamps {
        &self.stamps
    }

    /// The programs.
    #[must_use]
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// A directory for files of a case.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// The token that `init` printed.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The API.
    #[must_use]
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// One more client of the API, for a thread of a case.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn second_api(&self) -> Result<Api, HarnessError> {
        let mut api = Api::new(&self.network.switch(), self.operator.clone())?;
        for host in &self.hosts {
            api.add(host.name(), &host.endpoint())?;
        }
        Ok(api)
    }

    /// Runs `musterctl` as an operator on the switch who knows all agents.
    ///
    /// # Errors
    /// When it can't be started; its exit status is not judged.
    pub fn musterctl(&self, args: &[&str]) -> Result<Finished, HarnessError> {
        let line = self.operators_line(args);
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        tool::run_inside(&self.network.switch(), &self.binaries.musterctl, &line)
    }

    /// Starts `musterctl` as such an operator; what it prints is appended to `log`.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start_musterctl(&self, args: &[&str], log: &Path) -> Result<Child, HarnessError> {
        let line = self.operators_line(args);
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        tool::spawn_inside(&self.network.switch(), &self.binaries.musterctl, &line, log)
    }

    fn operators_line(&self, args: &[&str]) -> Vec<String> {
        let endpoints = self.hosts.iter().flat_map(|host| ["--endpoint".to_owned(), host.endpoint()]);
        let context = Some(self.context()).filter(|path| path.exists());
        let context =
            context.into_iter().flat_map(|path| ["--context".to_owned(), path.display().to_string()]);
        endpoints.chain(context).chain(args.iter().map(|&arg| arg.to_owned())).collect()
    }

    /// Joins and starts a prepared host.
    ///
    /// # Errors
    /// When it can't join.
    pub fn join(&mut self, node: &str, role: &str) -> Result<(), HarnessError> {
        let (token, first) = (self.token().to_owned(), self.hosts()[0].endpoint());
        let host = self.host(node)?;
        host.configure(role)?;
        host.join(&token, &first)?;
        host.start()
    }

    /// Waits until every host's agent is ready and its node alive, every voter votes and every service is as wished.
    ///
    /// # Errors
    /// [`HarnessError::TimedOut`], or an agent that ended.
    pub fn whole(&mut self) -> Result<(), HarnessError> {
        self.whole_of(self.hosts.len())
    }

    fn whole_of(&mut self, hosts: usize) -> Result<(), HarnessError> {
        for host in &mut self.hosts {
            host.check()?;
        }
        for host in self.hosts.iter().filter(|host| host.has_agent()) {
            wait::until(WHOLE_TIMEOUT, &format!("the agent of {} to be ready", host.name()), || {
                host.ready()
            })?;
        }
        let voters = if hosts < VOTERS { 1 } else { VOTERS };
        self.api.until(WHOLE_TIMEOUT, "the cluster to be whole", |status| {
            let alive = status.nodes.iter().filter(|n| n.state == "alive" && n.agent != "down").count();
            let ill: Vec<_> = status
                .services
                .iter()
                .filter(|s| s.state != "running" && s.state != "stopped")
                .map(|s| format!("{} is {}: {}", s.name, s.state, s.reason))
                .collect();
            let (all, up) = (status.voters, status.voters_alive);
            let is_whole = alive == hosts
                && usize::try_from(all).is_ok_and(|v| v >= voters)
                && up == all
                && ill.is_empty();
            if is_whole {
                return Ok(());
            }
            let nodes: Vec<_> = status
                .nodes
                .iter()
                .map(|n| format!("{} {} {} agent {}", n.name, n.role, n.state, n.agent))
                .collect();
            Err(format!("{}; voters {up} of {all}; {}", nodes.join(", "), ill.join(", ")))
        })
    }

    /// The last lines of every log, for a case that failed.
    #[must_use]
    pub fn logs(&self, lines: usize) -> String {
        let each = self.hosts.iter().map(|host| {
            let (agent, guard) = (host.log_tail(lines), host.guard_log_tail(lines / 2));
            format!("--- agent {}\n{agent}\n--- guard {}\n{guard}\n", host.name(), host.name())
        });
        each.collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for host in self.hosts.iter_mut().chain(&mut self.outsiders) {
            if let Err(error) = host.end() {
                eprintln!("cleaning up {}: {error}", host.name());
            }
        }
    }
}
