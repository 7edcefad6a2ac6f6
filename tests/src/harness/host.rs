//! One host: its files, its agent and guard, and what befalls them.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::binaries::Binaries;
use super::tool::Finished;
use super::{HarnessError, client, network, processes, tool, wait};

/// The port of agents.
pub const PORT: u16 = 7420;
/// The port of HTTP.
pub const HTTP_PORT: u16 = 7421;
/// How long processes may take to vanish after SIGKILL.
const GONE_TIMEOUT: Duration = Duration::from_secs(5);

/// One host.
#[derive(Debug)]
pub struct Host {
    name: String,
    namespace: String,
    address: String,
    dir: PathBuf,
    binaries: Binaries,
    agent: Option<Child>,
}

impl Host {
    /// A host without an agent yet; writes its configuration.
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
        let host = Self { name: name.to_owned(), namespace, address, dir, binaries, agent: None };
        std::fs::create_dir_all(&host.dir).map_err(HarnessError::io(format!("{}", host.dir.display())))?;
        host.configure("auto")?;
        Ok(host)
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

    /// Runs `muster SUBCOMMAND --config … ARGS` on the host.
    ///
    /// # Errors
    /// When it can't be started; its exit status is not judged.
    pub fn muster(&self, subcommand: &str, args: &[&str]) -> Result<Finished, HarnessError> {
        let config = self.config();
        let mut line = vec![subcommand, "--config", &config];
        line.extend_from_slice(args);
        tool::run_inside(&self.namespace, &self.binaries.muster, &line)
    }

    /// Runs `muster ARGS` on the host.
    ///
    /// # Errors
    /// When it can't be started; its exit status is not judged.
    pub fn muster_plain(&self, args: &[&str]) -> Result<Finished, HarnessError> {
        tool::run_inside(&self.namespace, &self.binaries.muster, args)
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
        let config = self.config();
        let args = ["agent", "--config", &config, "--start-guard", "always"];
        let log = self.dir.join("agent.log");
        self.agent = Some(tool::spawn_inside(&self.namespace, &self.binaries.muster, &args, &log)?);
        Ok(())
    }

    /// The guard's process, by the file that it keeps.
    #[must_use]
    pub fn guard_pid(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(self.run_dir().join("guard.pid")).ok()?;
        let pid = Pid::from_raw(text.trim().parse().ok()?);
        // The number may be another process's by now: only one of this host's namespace counts.
        processes::inside(&self.namespace).ok()?.contains(&pid).then_some(pid)
    }

    /// The agent's process.
    #[must_use]
    pub fn agent_pid(&self) -> Option<Pid> {
        let id = self.agent.as_ref()?.id();
        i32::try_from(id).ok().map(Pid::from_raw)
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
        let Some(mut agent) = self.agent.take() else { return Ok(()) };
        let failed = || HarnessError::io(format!("killing the agent of {}", self.name));
        agent.kill().map_err(failed())?;
        agent.wait().map_err(failed())?;
        Ok(())
    }

    /// Asks the agent to end, and waits for it; the exit status.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop_agent(&mut self) -> Result<i32, HarnessError> {
        let Some(mut agent) = self.agent.take() else { return Ok(0) };
        processes::signal(Pid::from_raw(agent.id().cast_signed()), Signal::SIGTERM);
        wait::until(Duration::from_secs(10), &format!("the agent of {} to end", self.name), || {
            match agent.try_wait() {
                Ok(Some(status)) => Ok(status.code().unwrap_or(-1)),
                Ok(None) => Err("it runs".to_owned()),
                Err(error) => Err(error.to_string()),
            }
        })
    }

    /// Waits until the agent has ended by itself; the exit status and what it logged last.
    ///
    /// # Errors
    /// When it goes on.
    pub fn agent_ends(&mut self, limit: Duration) -> Result<(i32, String), HarnessError> {
        let Some(mut agent) = self.agent.take() else {
            return Err(HarnessError::broken(format!("{} has no agent", self.name)));
        };
        let ended =
            wait::until(limit, &format!("the agent of {} to end", self.name), || match agent.try_wait() {
                Ok(Some(status)) => Ok(status.code().unwrap_or(-1)),
                Ok(None) => Err("it runs".to_owned()),
                Err(error) => Err(error.to_string()),
            });
        match ended {
            Ok(status) => Ok((status, self.log_tail(10))),
            Err(error) => {
                self.agent = Some(agent);
                Err(error)
            }
        }
    }

    /// Fails when the agent ended although it should run.
    ///
    /// # Errors
    /// [`HarnessError::AgentEnded`].
    pub fn check(&mut self) -> Result<(), HarnessError> {
        let Some(agent) = self.agent.as_mut() else { return Ok(()) };
        match agent.try_wait().map_err(HarnessError::io("looking at an agent"))? {
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

    /// The host loses power: agent and guard die at once, the rest must follow by itself; what lived in memory
    /// is gone, so that [`Host::start`] boots it.
    ///
    /// # Errors
    /// When something of the host survives.
    pub fn crash(&mut self) -> Result<(), HarnessError> {
        let guard = self.guard_pid();
        // The agent first: it would start another guard.
        for pid in [self.agent_pid(), guard].into_iter().flatten() {
            processes::signal(pid, Signal::SIGKILL);
        }
        self.kill_agent()?;
        self.wait_until_empty()?;
        match std::fs::remove_dir_all(self.run_dir()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(HarnessError::io("emptying the run directory")(error))
            }
            _ => Ok(()),
        }
    }

    fn wait_until_empty(&self) -> Result<(), HarnessError> {
        wait::until(GONE_TIMEOUT, &format!("all processes of {} to be gone", self.name), || {
            let left = processes::inside(&self.namespace).map_err(|e| e.to_string())?;
            let alive = left.into_iter().filter(|pid| processes::is_alive(*pid));
            let alive: Vec<_> = alive.map(processes::describe).collect();
            if alive.is_empty() { Ok(()) } else { Err(alive.join(", ")) }
        })
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
        self.kill_agent()?;
        // A second look: the agent may have been starting a guard.
        for _look in 0..2 {
            self.signal_all(Signal::SIGKILL)?;
        }
        self.wait_until_empty()
    }

    /// The last lines of the agent's log.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        tail(&self.dir.join("agent.log"), lines)
    }

    /// The last lines of the guard's log.
    #[must_use]
    pub fn guard_log_tail(&self, lines: usize) -> String {
        tail(&self.data_dir().join("logs/guard.log"), lines)
    }
}

fn tail(path: &Path, lines: usize) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
