//! The task's own process, from the fork to the exec.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::SigSet;
use nix::sys::stat::Mode;
use nix::unistd::Pid;

use super::identity::Identity;
use crate::kernel::{self, Fork};
use crate::launch::{Isolation, Launch};
use crate::link::{self, FromInit};
use crate::protocol::EnvText;

/// Steps whose failure the guard reports in its own words.
pub(crate) const ENTER_DIRECTORY: &str = "enter the directory";
/// See [`ENTER_DIRECTORY`].
pub(crate) const EXECUTE: &str = "execute the command";

const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Linux's default timer slack, in nanoseconds; the guard's own is much smaller and would be inherited.
const USUAL_TIMER_SLACK_NS: u64 = 50_000;
/// A shell's exit code for a command that can't be executed.
const CANNOT_EXECUTE: i32 = 127;

/// Which step of a start failed, and the system's reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) step: String,
    pub(crate) errno: Errno,
}

impl Failure {
    fn at(step: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self { step: step.to_owned(), errno }
    }
}

/// What the new process runs and where its output goes.
pub(crate) struct Command<'a> {
    pub(crate) launch: &'a Launch,
    pub(crate) argv: &'a [String],
    /// `None`: nowhere.
    pub(crate) output: Option<BorrowedFd<'a>>,
    /// Where it tells its process id before the exec; `None` for health checks.
    pub(crate) wire: Option<BorrowedFd<'a>>,
}

impl Command<'_> {
    /// Forks the process; its exec comes later, and what fails before that goes to `failure`.
    pub(crate) fn fork(&self, failure: BorrowedFd<'_>) -> Result<Pid, Failure> {
        match self.fork_where_it_belongs().map_err(Failure::at("fork"))? {
            Fork::Parent(pid) => Ok(pid),
            Fork::Child => {
                let failed = match self.become_task() {
                    Ok(never) => match never {},
                    Err(failed) => failed,
                };
                let mut message = (failed.errno as i32).to_be_bytes().to_vec();
                message.extend_from_slice(failed.step.as_bytes());
                // When the init is gone, so is this process in a moment.
                let _unread = nix::unistd::write(failure, &message);
                kernel::exit_now(CANNOT_EXECUTE);
            }
        }
    }

    /// Into its cgroup by the fork itself, because moving it later may wait long for the kernel.
    fn fork_where_it_belongs(&self) -> nix::Result<Fork> {
        let directory = self.launch.cgroup.as_deref().and_then(|path| {
            open(path, OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).ok()
        });
        match directory.map(|directory| kernel::fork_into_cgroup(directory.as_fd())) {
            Some(Ok(side)) => Ok(side),
            // Without the cgroup the namespace alone holds the task, which is enough.
            Some(Err(_)) | None => kernel::fork(0),
        }
    }

    fn become_task(&self) -> Result<std::convert::Infallible, Failure> {
        let spec = &self.launch.spec;
        if let Some(wire) = self.wire {
            link::send_json(wire, &FromInit::Exec).map_err(Failure::at("tell the guard"))?;
        }
        nix::unistd::setsid().map_err(Failure::at("begin a session"))?;
        self.connect_output().map_err(Failure::at("connect the output"))?;
        self.ordinary_priority()?;
        self.limits()?;
        let identity = Identity::find(spec)?;
        if let Some(identity) = &identity {
            identity.assume()?;
        }
        let is_check = self.wire.is_none();
        if is_check || self.launch.isolation == Isolation::Nothing {
            // After the change of user, which clears it.
            kernel::die_with_parent(None).map_err(Failure::at("die with the parent"))?;
        }
        let directory = spec.directory.as_deref().unwrap_or("/");
        nix::unistd::chdir(directory).map_err(Failure::at(ENTER_DIRECTORY))?;
        kernel::default_signal_actions();
        SigSet::empty().thread_set_mask().map_err(Failure::at("unblock signals"))?;
        kernel::close_from(3, true);
        let environment = environment(&spec.env, identity.as_ref());
        Err(Failure { step: EXECUTE.to_owned(), errno: execute(self.argv, &environment) })
    }

    fn connect_output(&self) -> nix::Result<()> {
        let null: OwnedFd = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
        let output = self.output.unwrap_or(null.as_fd());
        kernel::place_fd(null.as_fd(), 0)?;
        kernel::place_fd(output, 1)?;
        kernel::place_fd(output, 2)
    }

    fn ordinary_priority(&self) -> Result<(), Failure> {
        let ordinary = self.launch.ordinary;
        // Refused without privileges, but then the guard could not lower its own either.
        let _refused = std::fs::write("/proc/self/oom_score_adj", ordinary.oom_score_adj.to_string());
        nix::sys::prctl::set_timerslack(USUAL_TIMER_SLACK_NS).map_err(Failure::at("set the timer slack"))?;
        // The init's children are born with ordinary priority; below zero is refused without privileges.
        let _refused = kernel::set_ordinary_priority(ordinary.nice);
        Ok(())
    }

    fn limits(&self) -> Result<(), Failure> {
        if let Some(soft) = self.launch.ordinary.core_bytes {
            let given_back = getrlimit(Resource::RLIMIT_CORE)
                .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_CORE, soft.min(hard), hard));
            given_back.map_err(Failure::at("set the limits"))?;
        }
        let limits = &self.launch.spec.limits;
        let all = [
            (Resource::RLIMIT_NOFILE, limits.nofile),
            (Resource::RLIMIT_NPROC, limits.nproc),
            (Resource::RLIMIT_CORE, limits.core_bytes),
            (Resource::RLIMIT_MEMLOCK, limits.memlock_bytes),
            (Resource::RLIMIT_AS, limits.address_space_bytes),
            (Resource::RLIMIT_FSIZE, limits.file_bytes),
            (Resource::RLIMIT_STACK, limits.stack_bytes),
        ];
        for (resource, limit) in all {
            if let Some(limit) = limit {
                setrlimit(resource, limit, limit).map_err(Failure::at("set the limits"))?;
            }
        }
        Ok(())
    }
}

fn environment(wanted: &BTreeMap<String, EnvText>, identity: Option<&Identity>) -> BTreeMap<String, EnvText> {
    let mut all = wanted.clone();
    all.entry("PATH".to_owned()).or_insert_with(|| USUAL_PATH.into());
    for (name, value) in identity.map(Identity::variables).unwrap_or_default() {
        all.entry(name.to_owned()).or_insert(value.into());
    }
    all
}

/// Returns only when it failed.
fn execute(argv: &[String], environment: &BTreeMap<String, EnvText>) -> Errno {
    let c_string = |text: &str| CString::new(text).map_err(|_| Errno::EINVAL);
    let argv_c = argv.iter().map(|text| c_string(text)).collect::<Result<Vec<_>, _>>();
    let variables = environment.iter().map(|(name, value)| c_string(&format!("{name}={}", value.as_str())));
    let (Ok(argv_c), Ok(variables)) = (argv_c, variables.collect::<Result<Vec<_>, _>>()) else {
        return Errno::EINVAL;
    };
    let Some(name) = argv.first() else { return Errno::EINVAL };
    if name.contains('/') {
        return failure_of(argv_c[0].as_c_str(), &argv_c, &variables);
    }
    let mut reason = Errno::ENOENT;
    for directory in environment["PATH"].as_str().split(':').filter(|directory| !directory.is_empty()) {
        let Ok(path) = c_string(&format!("{directory}/{name}")) else { return Errno::EINVAL };
        match failure_of(&path, &argv_c, &variables) {
            Errno::ENOENT | Errno::ENOTDIR => {}
            // Another directory may hold one that may be executed; if none does, this is the reason.
            Errno::EACCES => reason = Errno::EACCES,
            other => return other,
        }
    }
    reason
}

fn failure_of(path: &std::ffi::CStr, argv: &[CString], environment: &[CString]) -> Errno {
    match nix::unistd::execve(path, argv, environment) {
        Ok(never) => match never {},
        Err(errno) => errno,
    }
}
