//! A guard in a process of its own, and a look at processes from outside.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use muster_core::id::{ClusterId, Generation, Incarnation, NodeId};
use muster_core::id::{ServiceName, SessionId, SlotId, TaskName};
use muster_core::lease::{Grant, Tenure};
use muster_guard::client::{Client, ClientError};
use muster_guard::key::SessionKey;
use muster_guard::protocol::{
    Binding, ClientRole, Event, LeasePhase, Prepared, Refusal, Reply, Request, SessionGrant, StartTask,
    TaskSpec,
};

use crate::voter::Voter;

/// How long anything may take that is not measured.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const TTL_MS: u32 = 1000;
pub const HEARTBEAT_MS: u32 = 50;
pub const KILL_BUDGET_MS: u32 = 50;

/// The user `nobody`.
pub const NOBODY: u32 = 65_534;

pub type TestResult = Result<(), Failed>;

/// A test; `needs_root` ones are skipped, or fail if everything is required, where there is no root.
pub fn trial(name: &'static str, needs_root: bool, test: fn() -> TestResult) -> Trial {
    Trial::test(name, move || {
        if needs_root && !nix::unistd::geteuid().is_root() {
            if std::env::var_os("MUSTER_REQUIRE_ALL").is_some_and(|value| value == "1") {
                return Err("needs root, and MUSTER_REQUIRE_ALL=1".into());
            }
            println!("SKIPPED {name}: needs root");
            return Ok(());
        }
        test()
    })
}

/// What this binary does when a guard runs it as a task: a clock that stamps the monotonic time into a file
/// every millisecond, so that its last instruction can be told.
pub fn task_role(arguments: &[String]) -> Option<ExitCode> {
    match arguments {
        [role, path] if role == "stamp" => {
            let file = std::fs::File::create(path).expect("the stamp file can be made");
            loop {
                let now = boottime_ns().to_be_bytes();
                std::os::unix::fs::FileExt::write_all_at(&file, &now, 0).expect("the stamp can be written");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        [role, path] if role == "daemon" => {
            // The usual double fork; the grandchild stamps, the first process waits for ever.
            let exe = std::env::current_exe().expect("the binary has a path");
            let script = format!("setsid {} stamp {path} & exec sleep 1000", exe.display());
            let status = Command::new("/bin/sh").args(["-c", &script]).status();
            Some(ExitCode::from(u8::from(status.is_err())))
        }
        [role, path] if role == "hold" => Some(crate::crowd::hold(Path::new(path))),
        _ => None,
    }
}

pub fn boottime_ns() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).expect("there is such a clock");
    u64::try_from(Duration::from(now).as_nanos()).expect("it fits")
}

/// The last time that a stamping task wrote; `None` before its first.
pub fn last_stamp_ns(path: &Path) -> Option<u64> {
    let bytes: [u8; 8] = std::fs::read(path).ok()?.try_into().ok()?;
    Some(u64::from_be_bytes(bytes))
}

/// Waits until `reached` gives something; fails with `what` when it takes too long.
pub fn eventually<T>(what: &str, mut reached: impl FnMut() -> Option<T>) -> Result<T, Failed> {
    let start = Instant::now();
    loop {
        if let Some(value) = reached() {
            return Ok(value);
        }
        if start.elapsed() > PATIENCE {
            return Err(format!("waited in vain until {what}").into());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn signal(pid: i32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).expect("the process can be signalled");
}

/// Whether the process runs: zombies don't.
pub fn runs(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// Process ids below `parent` whose name is `name`.
pub fn descendants(parent: i32, name: &str) -> Vec<i32> {
    let mut found = Vec::new();
    let mut waiting = vec![parent];
    while let Some(pid) = waiting.pop() {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for task in tasks {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            waiting.extend(children.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
        }
        let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if comm.trim() == name {
            found.push(pid);
        }
    }
    found
}

/// A guard, its directories and the connection of an agent.
pub struct Host {
    directory: tempfile::TempDir,
    guard: Option<Child>,
    pub agent: Option<Client>,
    pub voter: Voter,
    sessions: u64,
    user: Option<u32>,
    /// Run the guard through this command.
    wrapper: Vec<String>,
}

/// A user namespace in which no PID namespace can be made.
const WITHOUT_NAMESPACES: [&str; 6] =
    ["unshare", "-Ur", "/bin/sh", "-c", "echo 0 > /proc/sys/user/max_pid_namespaces && exec \"$@\"", "sh"];

impl Host {
    pub fn start() -> Result<Self, Failed> {
        Self::start_as(None)
    }

    /// With another user for the guard.
    pub fn start_as(user: Option<u32>) -> Result<Self, Failed> {
        Self::start_with(user, Vec::new())
    }

    /// With a guard that can make no PID namespaces; `None` where that can't be arranged.
    pub fn start_without_namespaces() -> Result<Option<Self>, Failed> {
        let mut trial = Command::new(WITHOUT_NAMESPACES[0]);
        if !trial.args(&WITHOUT_NAMESPACES[1..]).arg("true").status().is_ok_and(|status| status.success()) {
            println!("SKIPPED the rest: user namespaces can't be limited here");
            return Ok(None);
        }
        Self::start_through(WITHOUT_NAMESPACES.iter().map(ToString::to_string).collect()).map(Some)
    }

    /// With the guard as the last argument of a command.
    pub fn start_through(wrapper: Vec<String>) -> Result<Self, Failed> {
        Self::start_with(None, wrapper)
    }

    fn start_with(user: Option<u32>, wrapper: Vec<String>) -> Result<Self, Failed> {
        let directory = tempfile::tempdir()?;
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(directory.path(), open)?;
        let voter = Voter::start();
        let mut host = Self { directory, guard: None, agent: None, voter, sessions: 0, user, wrapper };
        host.start_guard()?;
        host.connect()?;
        Ok(host)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn start_guard(&mut self) -> TestResult {
        self.agent = None;
        let exe = std::env::current_exe()?.display().to_string();
        let words: Vec<&str> = self.wrapper.iter().map(String::as_str).chain([exe.as_str()]).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg("guard").arg("--foreground");
        command.arg("--run-dir").arg(self.path("run")).arg("--data-dir").arg(self.path("data"));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        if std::env::var_os("GUARD_LOG").is_none() {
            command.stderr(Stdio::null());
        }
        if let Some(user) = self.user {
            std::os::unix::process::CommandExt::uid(&mut command, user);
            std::os::unix::process::CommandExt::gid(&mut command, user);
        }
        self.guard = Some(command.spawn()?);
        Ok(())
    }

    pub fn connect(&mut self) -> TestResult {
        self.agent = Some(self.client(ClientRole::Agent)?);
        Ok(())
    }

    pub fn client(&self, role: ClientRole) -> Result<Client, Failed> {
        let socket = self.path("run/guard.sock");
        let (client, _) = eventually("the guard listens", || Client::connect(&socket, role).ok())?;
        client.set_timeout(Some(PATIENCE))?;
        Ok(client)
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.guard.as_ref().expect("a guard runs").id()).expect("a process id")
    }

    /// Lets another guard be started beside it.
    pub fn take_guard(&mut self) -> Option<Child> {
        self.guard.take()
    }

    pub fn put_guard(&mut self, guard: Option<Child>) {
        self.guard = guard;
    }

    /// The guard's name in `/proc`.
    pub fn own_name(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/comm", self.pid())).unwrap_or_default().trim().to_owned()
    }

    /// Kills the guard and waits until it is reaped.
    pub fn kill_guard(&mut self) -> TestResult {
        let mut guard = self.guard.take().expect("a guard runs");
        // It may have ended by itself.
        guard.kill().ok();
        guard.wait()?;
        Ok(())
    }

    /// Waits until the guard ends by itself.
    pub fn wait_for_guard(&mut self) -> Result<bool, Failed> {
        let guard = self.guard.as_mut().expect("a guard runs");
        let status = eventually("the guard ended", || guard.try_wait().ok().flatten())?;
        self.guard = None;
        Ok(status.success())
    }

    pub fn call(&mut self, request: Request) -> Result<Reply, ClientError> {
        self.agent.as_mut().expect("an agent is connected").call(request)
    }

    /// Opens the next session and waits until its lease is valid.
    pub fn open_session(&mut self) -> Result<SessionId, Failed> {
        let session = self.open_session_without_lease()?;
        self.wait_for_phase(LeasePhase::Valid)?;
        Ok(session)
    }

    pub fn prepare(&mut self) -> Result<Prepared, Failed> {
        match self.call(Request::PrepareSession)? {
            Reply::Prepared(prepared) => Ok(prepared),
            other => Err(format!("{other:?}").into()),
        }
    }

    pub fn open_session_without_lease(&mut self) -> Result<SessionId, Failed> {
        self.sessions += 10;
        let session = SessionId(self.sessions);
        let prepared = self.prepare()?;
        let key = SessionKey::from_hex(&prepared.key).expect("a key");
        self.voter.keys.lock().expect("not poisoned").insert(session, key);
        let tenure = Tenure {
            cluster: ClusterId(u128::MAX - 5),
            incarnation: Incarnation(1),
            node: NodeId(7),
            session,
        };
        let grant = Grant {
            tenure,
            ttl_ms: TTL_MS,
            heartbeat_ms: HEARTBEAT_MS,
            kill_budget_ms: KILL_BUDGET_MS,
            list: self.voter.list(),
        };
        self.call(Request::OpenSession(SessionGrant { guard_boot: prepared.guard_boot, grant }))?;
        Ok(session)
    }

    pub fn session(&self) -> SessionId {
        SessionId(self.sessions)
    }

    pub fn phase(&mut self) -> Result<LeasePhase, Failed> {
        match self.call(Request::LeaseStatus)? {
            Reply::Lease(status) => Ok(status.phase),
            other => Err(format!("{other:?}").into()),
        }
    }

    pub fn wait_for_phase(&mut self, wanted: LeasePhase) -> TestResult {
        let start = Instant::now();
        loop {
            let phase = self.phase()?;
            if phase == wanted {
                return Ok(());
            }
            if start.elapsed() > PATIENCE {
                return Err(format!("waited in vain for {wanted:?}, it is {phase:?}").into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A task that stamps the time into the file of that name.
    pub fn stamping(&self, role: &str, file: &str) -> TaskSpec {
        let exe = std::env::current_exe().expect("the binary has a path");
        let argv = vec![exe.display().to_string(), role.to_owned(), self.path(file).display().to_string()];
        TaskSpec { argv, ..TaskSpec::default() }
    }

    pub fn order(&self, name: &str, generation: u64, binding: Binding, spec: TaskSpec) -> StartTask {
        StartTask {
            slot: slot(name),
            task: TaskName::new("main").expect("a name"),
            generation: Generation(generation),
            session: self.session(),
            binding,
            stop_on_quorum_loss: false,
            spec,
        }
    }

    /// Starts a task and returns its process id.
    pub fn start_task(&mut self, order: StartTask) -> Result<i32, Failed> {
        match self.call(Request::StartTask(Box::new(order)))? {
            Reply::Started { pid, .. } => Ok(pid),
            other => Err(format!("{other:?}").into()),
        }
    }

    /// Starts an exclusive task that stamps into `file`, and waits for its first stamp.
    pub fn start_stamping(&mut self, name: &str, role: &str) -> Result<i32, Failed> {
        let order = self.order(name, 5, Binding::Exclusive, self.stamping(role, name));
        let pid = self.start_task(order)?;
        let file = self.path(name);
        eventually("the task stamps", || last_stamp_ns(&file))?;
        Ok(pid)
    }

    pub fn refusal(&mut self, order: StartTask) -> Result<Refusal, Failed> {
        match self.call(Request::StartTask(Box::new(order))) {
            Err(ClientError::Refused(refusal)) => Ok(refusal),
            other => Err(format!("not refused: {other:?}").into()),
        }
    }

    pub fn wait_for_event(&mut self, what: impl Fn(&Event) -> bool) -> Result<Event, Failed> {
        let agent = self.agent.as_mut().expect("an agent is connected");
        loop {
            let event = agent.next_event()?;
            if what(&event) {
                return Ok(event);
            }
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            // A stopped one too.
            guard.kill().ok();
            guard.wait().ok();
        }
        // What a killed guard leaves of its cgroups is for its successor, and here there is none.
        let name = blake3::hash(self.path("data").as_os_str().as_encoded_bytes()).to_hex();
        for root in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
            let base = Path::new(root).join(format!("muster-{}", &name[..16]));
            for entry in std::fs::read_dir(&base).into_iter().flatten().flatten() {
                let empty = || std::fs::remove_dir(entry.path()).ok();
                eventually("the task's processes are gone", || {
                    if entry.path().is_dir() && entry.file_name().as_encoded_bytes().starts_with(b"task-") {
                        empty()
                    } else {
                        Some(())
                    }
                })
                .ok();
            }
            std::fs::remove_dir(&base).ok();
        }
    }
}

pub fn slot(name: &str) -> SlotId {
    SlotId { service: ServiceName::new(name).expect("a name"), index: 0 }
}

pub fn task_name() -> TaskName {
    TaskName::new("main").expect("a name")
}

pub fn shell(script: &str) -> TaskSpec {
    let argv = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    TaskSpec { argv, ..TaskSpec::default() }
}
