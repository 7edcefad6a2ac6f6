//! One host: its files, its agent and guard, and what befalls them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::binaries::Binaries;
use super::machine::{Machine, Started};
use super::tool::Finished;
use super::{HarnessError, client, network, processes, wait};

/// The port of agents.
pub const PORT: u16 = 7420;
/// Where a machine's own processes complain.
const MACHINE_LOG: &str = "machine.log";
/// How long an agent may take to end when asked to.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// The port of HTTP.
pub const HTTP_PORT: u16 = 7421;

/// One host.
#[derive(Debug)]
pub struct Host {
    name: String,
    namespace: String,
    address: String,
    dir: PathBuf,
    binaries: Binaries,
    machine: Machine,
    agent: Option<Started>,
}

impl Host {
    /// A host that is switched on, without an agent yet; writes its configuration.
    ///
    /// # Errors
    /// When its files can't be written.
    pub fn new(
        name: &str,
        namespace: String,
        address: String,
        dir: PathBuf,
        binaries: Binaries,
    ) -> Result<Self, HarnessError> {
        std::fs::create_dir_all(&dir).map_err(HarnessError::io(format!("{}", dir.display())))?;
        let machine = Machine::boot(&namespace, 0, &dir.join(MACHINE_LOG))?;
        let host = Self { name: name.to_owned(), namespace, address, dir, binaries, machine, agent: None };
        host.configure("auto")?;
        Ok(host)
    }

    /// What it runs on.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// A directory of the host that its crashes leave alone.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes the configuration with a role.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn configure(&self, role: &str) -> Result<(), HarnessError> {
        let Self { name, address, .. } = self;
        let text = format!(
            "[node]\nname = {name:?}\ndata_dir = {:?}\nrun_dir = {:?}\nlisten = [\"{address}:{PORT}\"]\n\
             role = {role:?}\n\n[node.labels]\nzone = {name:?}\n\n[http]\nlisten = [\"{address}:{HTTP_PORT}\"]\n",
            self.data_dir().display().to_string(),
            self.run_dir().display().to_string(),
        );
        self.write("agent.toml", &text).map(|_| ())
    }

    /// Writes a file into the host's directory; its path.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf, HarnessError> {
        let path = self.dir.join(name);
        std::fs::write(&path, text).map_err(HarnessError::io(format!("{}", path.display())))?;
        Ok(path)
    }

    /// Its name, which is also its zone.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its network namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its address without a port.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where its agent listens.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("{}:{PORT}", self.address)
    }

    /// Its data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Its run directory.
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    fn config(&self) -> String {
        self.dir.join("agent.toml").display().to_string()
    }

    /// Gives the host another name in its configuration, as when a machine is renamed.
    ///
    /// # Errors
    /// When the configuration can't be read or written.
    pub fn rename(&self, name: &str) -> Result<(), HarnessError> {
        let text = std::fs::read_to_string(self.config()).map_err(HarnessError::io("reading agent.toml"))?;
        let (own, other) = (format!("name = {:?}\n", self.name), format!("name = {name:?}\n"));
        let renamed = text.replacen(&own, &other, 1);
        if renamed == text {
            return Err(HarnessError::broken(format!(
                "agent.toml of {} does not name it:\n{text}",
                self.name
            )));
        }
        self.write("agent.toml", &renamed).map(|_| ())
    }

    /// Runs `muster SUBCOMMAND --config … ARGS` on the host.
    ///
    /// # Errors
    /// When it can't be started; its exit status is not judged.
    pub fn muster(&self, subcommand: &str, args: &[&str]) -> Result<Finished, HarnessError> {
        let config = self.config();
        let mut line = vec![subcommand, "--config", &config];
        line.extend_from_slice(args);
        self.machine.run(&self.binaries.muster, &line)
    }

    /// Runs `muster ARGS` on the host.
    ///
    /// # Errors
    /// When it can't be started; its exit status is not judged.
    pub fn muster_plain(&self, args: &[&str]) -> Result<Finished, HarnessError> {
        self.machine.run(&self.binaries.muster, args)
    }

    /// Runs `musterctl ARGS` on the host, which asks the host's own agent.
    ///
    /// # Errors
    /// When it can't be started; its exit status is not judged.
    pub fn musterctl(&self, args: &[&str]) -> Result<Finished, HarnessError> {
        let socket = format!("unix:{}", self.run_dir().join("api.sock").display());
        let mut line = vec!["--endpoint", &socket];
        line.extend_from_slice(args);
        self.machine.run(&self.binaries.musterctl, &line)
    }

    /// Empties the data directory.
    ///
    /// # Errors
    /// When it can't be removed.
    pub fn forget(&self) -> Result<(), HarnessError> {
        std::fs::remove_dir_all(self.data_dir()).map_err(HarnessError::io("emptying the data directory"))
    }

    /// Makes the cluster; the join token that was printed.
    ///
    /// # Errors
    /// When `muster init` fails.
    pub fn init(&self) -> Result<String, HarnessError> {
        let said = self.muster("init", &["--name", "test"])?.success()?.text();
        let token = said.split_whitespace().skip_while(|word| *word != "--token").nth(1);
        token.map(str::to_owned).ok_or_else(|| HarnessError::broken(format!("init printed no token: {said}")))
    }

    /// Joins a cluster.
    ///
    /// # Errors
    /// When `muster join` fails.
    pub fn join(&self, token: &str, endpoint: &str) -> Result<(), HarnessError> {
        self.muster("join", &["--token", token, endpoint])?.success().map(|_| ())
    }

    /// Starts the agent, which starts the guard if none answers.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(&mut self) -> Result<(), HarnessError> {
        self.start_under(&[])
    }

    /// Starts the agent unless it runs.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn ensure_started(&mut self) -> Result<(), HarnessError> {
        let runs = self.agent.as_mut().map(Started::ended).transpose()?.is_some_and(|ended| ended.is_none());
        if runs { Ok(()) } else { self.start() }
    }

    /// Lets a process of the host go on that was stopped, if it is still there.
    ///
    /// # Errors
    /// When the host's processes can't be listed.
    pub fn resume(&self, pid: Pid) -> Result<(), HarnessError> {
        if processes::inside(&self.namespace)?.contains(&pid) {
            processes::signal(pid, Signal::SIGCONT);
        }
        Ok(())
    }

    /// The same by a program that becomes the agent: one that sets limits or an environment.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start_under(&mut self, wrapper: &[&str]) -> Result<(), HarnessError> {
        let (config, muster) = (self.config(), self.binaries.muster.display().to_string());
        let mut line = wrapper.to_vec();
        line.extend([&muster, "agent", "--config", &config, "--start-guard", "always"]);
        let log = self.dir.join("agent.log");
        self.agent = Some(self.machine.spawn(Path::new(line[0]), &line[1..], &log)?);
        Ok(())
    }

    /// The guard's process, by the file that it keeps.
    #[must_use]
    pub fn guard_pid(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(self.run_dir().join("guard.pid")).ok()?;
        let pid = self.machine.process(text.trim().parse().ok()?)?;
        // The number may be another process's by now.
        processes::is_alive(pid)
            .then_some(pid)
            .filter(|pid| processes::arguments(*pid).any(|word| word == "guard"))
    }

    /// The shims of its guard: the parents of its exclusive tasks, which the kernel ends at the lease's deadline.
    #[must_use]
    pub fn shims(&self) -> Vec<Pid> {
        let children = self.guard_pid().map(processes::children).unwrap_or_default();
        children.into_iter().filter(|pid| processes::is_alive(*pid)).collect()
    }

    /// Whether an agent was started and not ended since by this harness.
    #[must_use]
    pub fn has_agent(&self) -> bool {
        self.agent.is_some()
    }

    /// The agent's process.
    #[must_use]
    pub fn agent_pid(&self) -> Option<Pid> {
        self.agent.as_ref()?.pid()
    }

    /// Whether the agent says that it is ready; why not, otherwise.
    ///
    /// # Errors
    /// Its answer, or why there is none.
    pub fn ready(&self) -> Result<(), String> {
        let (namespace, to) = (self.namespace.clone(), format!("{}:{HTTP_PORT}", self.address));
        let asking = std::thread::spawn(move || {
            network::enter(&namespace).map_err(|e| e.to_string())?;
            client::get(&to, "/readyz").map_err(|e| e.to_string())
        });
        let answer = asking.join().map_err(|_| "the thread panicked".to_owned())??;
        if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(answer) }
    }

    /// Kills the agent alone.
    ///
    /// # Errors
    /// When it can't be waited for.
    pub fn kill_agent(&mut self) -> Result<(), HarnessError> {
        self.agent.take().map_or(Ok(()), |mut agent| agent.kill())
    }

    /// Asks the agent to end, and waits for it; the exit status.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop_agent(&mut self) -> Result<i32, HarnessError> {
        if let Some(pid) = self.agent_pid() {
            processes::signal(pid, Signal::SIGTERM);
        }
        self.agent_ends(END_TIMEOUT).map(|(status, _)| status)
    }

    /// Waits until the agent has ended by itself; the exit status and what it logged last.
    ///
    /// # Errors
    /// When it goes on.
    pub fn agent_ends(&mut self, limit: Duration) -> Result<(i32, String), HarnessError> {
        let Some(agent) = self.agent.as_mut() else {
            return Err(HarnessError::broken(format!("{} has no agent", self.name)));
        };
        let status =
            wait::until(limit, &format!("the agent of {} to end", self.name), || match agent.ended() {
                Ok(Some(status)) => Ok(status.code().unwrap_or(-1)),
                Ok(None) => Err("it runs".to_owned()),
                Err(error) => Err(error.to_string()),
            })?;
        self.agent = None;
        Ok((status, self.log_tail(10)))
    }

    /// Fails when the agent ended although it should run.
    ///
    /// # Errors
    /// [`HarnessError::AgentEnded`].
    pub fn check(&mut self) -> Result<(), HarnessError> {
        let Some(agent) = self.agent.as_mut() else { return Ok(()) };
        match agent.ended()? {
            None => Ok(()),
            Some(status) => {
                Err(HarnessError::AgentEnded { node: self.name.clone(), status: status.to_string() })
            }
        }
    }

    /// Kills the guard alone. Its tasks must die with it.
    ///
    /// # Errors
    /// When there is none.
    pub fn kill_guard(&self) -> Result<(), HarnessError> {
        let guard = self.guard_pid().ok_or_else(|| self.no_guard())?;
        processes::signal(guard, Signal::SIGKILL);
        Ok(())
    }

    /// Has the guard execute its binary anew in place.
    ///
    /// # Errors
    /// When there is none.
    pub fn reload_guard(&self) -> Result<(), HarnessError> {
        let guard = self.guard_pid().ok_or_else(|| self.no_guard())?;
        processes::signal(guard, Signal::SIGHUP);
        Ok(())
    }

    fn no_guard(&self) -> HarnessError {
        HarnessError::broken(format!("{} has no guard", self.name))
    }

    /// The host loses power: all its processes end in the same moment, and what lived in memory is gone. It is
    /// switched on again, and [`Host::start`] starts its agent.
    ///
    /// # Errors
    /// When something of the host survives.
    pub fn crash(&mut self) -> Result<(), HarnessError> {
        self.crash_to(0)
    }

    /// The same; it comes back with clocks that count so many seconds more since boot.
    ///
    /// # Errors
    /// As [`Host::crash`].
    pub fn crash_to(&mut self, uptime_s: i64) -> Result<(), HarnessError> {
        self.end()?;
        match std::fs::remove_dir_all(self.run_dir()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(HarnessError::io("emptying the run directory")(error));
            }
            _ => {}
        }
        self.machine = Machine::boot(&self.namespace, uptime_s, &self.dir.join(MACHINE_LOG))?;
        Ok(())
    }

    /// Stops every process of the host where it stands.
    ///
    /// # Errors
    /// When they can't be listed.
    pub fn freeze(&self) -> Result<(), HarnessError> {
        // What is forked between two looks is caught by the next one.
        for _look in 0..2 {
            self.signal_all(Signal::SIGSTOP)?;
        }
        Ok(())
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// When they can't be listed.
    pub fn thaw(&self) -> Result<(), HarnessError> {
        self.signal_all(Signal::SIGCONT)
    }

    fn signal_all(&self, signal: Signal) -> Result<(), HarnessError> {
        for pid in processes::inside(&self.namespace)? {
            processes::signal(pid, signal);
        }
        Ok(())
    }

    /// Ends everything on the host.
    ///
    /// # Errors
    /// When something survives.
    pub fn end(&mut self) -> Result<(), HarnessError> {
        self.machine.cut_power()?;
        self.kill_agent()?;
        self.machine.until_empty()
    }

    /// The last lines of the agent's log.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        tail(&self.dir.join("agent.log"), lines)
    }

    /// The last lines of the guard's log.
    #[must_use]
    pub fn guard_log_tail(&self, lines: usize) -> String {
        tail(&self.machine.path(&self.data_dir().join("logs/guard.log")), lines)
    }
}

fn tail(path: &Path, lines: usize) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
