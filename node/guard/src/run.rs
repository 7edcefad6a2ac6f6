//! Starting the guard: what it locks, opens and raises before its loop begins.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::sync::atomic::AtomicU64;

use muster_core::id::BootId;
use nix::errno::Errno;

use crate::guard::{Foundation, Guard, handover};
use crate::kernel::{self, Fork};
use crate::launch::{Isolation, Ordinary};
use crate::log_file::RotatedFile;
use crate::memory;
use crate::options::{Options, Role, USAGE};
use crate::priority;
use crate::protocol::LogSpec;
use crate::report::report;

/// Wake up when asked, not up to 50 µs later.
const TIMER_SLACK_NS: u64 = 1000;
/// The out-of-memory killer takes everything else first.
const OOM_SCORE_ADJ: &str = "-1000";
const OOM_SCORE_ADJ_PATH: &str = "/proc/self/oom_score_adj";
/// Size of `guard.log` in bytes, and how many older ones are kept.
const LOG_BYTES: u64 = 4 << 20;
const LOGS_KEPT: u32 = 3;
const BACKLOG: i32 = 16;

/// Why the guard can't begin or go on.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error("another guard holds {path}")]
    Locked { path: String },
    #[error("{what} failed")]
    Io {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the state of the guard before this binary is of no use")]
    Handover(#[source] handover::HandoverError),
}

fn io_error<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> RunError {
    move |source| RunError::Io { what, source: source.into() }
}

/// The guard's process and its roles; see [`crate::run`].
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let result = match Role::parse(arguments) {
        Some(Role::Guard(options)) => begin(options),
        Some(Role::Resume(fd)) => resume(fd),
        Some(Role::CheckHandover(fd)) => return check_handover(fd),
        None => {
            report!("{USAGE}");
            return ExitCode::from(64);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
            report!("{error}{}", source.unwrap_or_default());
            ExitCode::FAILURE
        }
    }
}

fn begin(mut options: Options) -> Result<(), RunError> {
    // Whatever loses its parent below the guard becomes the guard's child, to be killed and reaped.
    nix::sys::prctl::set_child_subreaper(true).map_err(io_error("becoming a subreaper"))?;
    make_directory(&options.run_dir, 0o755).map_err(io_error("making the run directory"))?;
    make_directory(&options.data_dir, 0o700).map_err(io_error("making the data directory"))?;
    let lock = lock(&options.data_dir.join("guard.lock"))?;
    let run_lock = self::lock(&options.run_dir.join("guard.run.lock"))?;
    let ordinary =
        Ordinary { nice: kernel::nice(), oom_score_adj: oom_score_adj(), core_bytes: memory::core_bytes() };
    if !options.foreground {
        options.log_writer = start_log_writer(&options.data_dir).map_err(io_error("starting the log"))?;
    } else if !io::IsTerminal::is_terminal(&io::stderr()) {
        kernel::set_nonblocking(io::stderr().as_fd()).map_err(io_error("opening the log"))?;
    }
    let isolation = find_isolation().map_err(io_error("trying namespaces"))?;
    let boot = random_boot().map_err(io_error("getting randomness"))?;
    let realtime = raise_priority();
    memory::keep_out_of_core_dumps(isolation);
    fs::write(options.run_dir.join("guard.pid"), format!("{}\n", std::process::id()))
        .map_err(io_error("writing the process id"))?;
    report!("starts: boot {boot}, isolation {isolation:?}, real-time priority: {realtime}");
    let socket = options.run_dir.join("guard.sock");
    let listener = listen(&socket).map_err(io_error("opening the socket"))?;
    let mut guard = Guard::new(Foundation {
        options,
        boot,
        isolation,
        ordinary,
        realtime,
        locks: [lock, run_lock],
        listener,
    });
    // Only now may anyone connect: the predecessor's processes are gone.
    nix::sys::socket::listen(
        guard.listener_fd(),
        nix::sys::socket::Backlog::new(BACKLOG).expect("below the maximum"),
    )
    .map_err(io_error("opening the socket"))?;
    crate::notify::notify("READY=1");
    guard.run().map_err(io_error("the guard's loop"))
}

fn resume(fd: i32) -> Result<(), RunError> {
    let mut guard = handover::restore(kernel::inherited(fd)).map_err(RunError::Handover)?;
    // All but these survived the exec.
    raise_priority();
    guard.ordinary.core_bytes = guard.ordinary.core_bytes.or_else(memory::core_bytes);
    memory::keep_out_of_core_dumps(guard.isolation);
    guard.resumed();
    guard.run().map_err(io_error("the guard's loop"))
}

/// Reads the state as if to go on with it, and says so by the exit code.
fn check_handover(fd: i32) -> ExitCode {
    match handover::restore(kernel::inherited(fd)) {
        Ok(guard) => {
            // Its descriptors are numbers of another process here: they must not be closed.
            std::mem::forget(guard);
            ExitCode::SUCCESS
        }
        Err(error) => {
            report!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path)
}

/// The guard's own lock on the data directory (LEASES.md R11). It has one on the run directory too: a guard that
/// shared only that with a living one would end that one's session in its name, by the note for successors.
fn lock(path: &Path) -> Result<File, RunError> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = file.map_err(io_error("opening the lock"))?;
    match kernel::try_flock(file.as_fd()) {
        Ok(()) => Ok(file),
        Err(Errno::EWOULDBLOCK) => Err(RunError::Locked { path: path.display().to_string() }),
        Err(errno) => Err(io_error("locking a directory")(errno)),
    }
}

/// Binds the socket without listening yet.
fn listen(path: &Path) -> io::Result<UnixListener> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, socket};
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(fd.into())
}

/// A process that writes `guard.log`, so that a slow disk never holds the guard up.
fn start_log_writer(data_dir: &Path) -> io::Result<Option<i32>> {
    let path = data_dir.join("logs").join("guard.log");
    let spec = LogSpec { path: path.to_string_lossy().into_owned(), max_bytes: LOG_BYTES, keep: LOGS_KEPT };
    let (reading, writing) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    match kernel::fork(0)? {
        Fork::Child => {
            // It ends by itself when the guard and all who inherited its standard error are gone. Until then it
            // must hold nothing else of the guard's, above all not its lock.
            let begun = kernel::place_fd(reading.as_fd(), 0);
            std::mem::forget((reading, writing));
            kernel::close_from(1, false);
            let _only_its_name = nix::sys::prctl::set_name(c"muster-log");
            if let (Ok(()), Ok(mut file)) = (begun, RotatedFile::new(&spec)) {
                file.write_all_from(&kernel::inherited(0), &AtomicU64::new(0));
            }
            kernel::exit_now(0);
        }
        Fork::Parent(pid) => {
            kernel::set_nonblocking(writing.as_fd())?;
            kernel::place_fd(writing.as_fd(), 1)?;
            kernel::place_fd(writing.as_fd(), 2)?;
            Ok(Some(pid.as_raw()))
        }
    }
}

fn raise_priority() -> bool {
    // Each of these is refused without privileges; the guard then works with what it has.
    let _refused = fs::write(OOM_SCORE_ADJ_PATH, OOM_SCORE_ADJ);
    let _refused = nix::sys::prctl::set_timerslack(TIMER_SLACK_NS);
    memory::give_back_program();
    kernel::lock_memory();
    priority::raise_this_thread()
}

fn oom_score_adj() -> i32 {
    fs::read_to_string(OOM_SCORE_ADJ_PATH).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

fn random_boot() -> io::Result<BootId> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    // 0 means 'none yet'.
    Ok(BootId(u64::from_be_bytes(bytes).max(1)))
}

/// The strongest isolation that this process may make, found out by making it.
fn find_isolation() -> nix::Result<Isolation> {
    for isolation in [Isolation::Namespaces, Isolation::UserNamespace] {
        let who = (nix::unistd::geteuid(), nix::unistd::getegid());
        match kernel::fork(isolation.clone_flags()) {
            Ok(Fork::Child) => {
                let usable = isolation != Isolation::UserNamespace
                    || crate::init::namespace::map_identity(who.0, who.1).is_ok();
                kernel::exit_now(i32::from(!usable));
            }
            Ok(Fork::Parent(pid)) => {
                let status = nix::sys::wait::waitpid(pid, None)?;
                if matches!(status, nix::sys::wait::WaitStatus::Exited(_, 0)) {
                    return Ok(isolation);
                }
            }
            Err(_) => {}
        }
    }
    Ok(Isolation::Nothing)
}

/// See [`crate::spawn_detached`].
pub(crate) fn spawn_detached(exe: &Path, run_dir: &Path, data_dir: &Path) -> io::Result<()> {
    // The guard works from the root directory.
    let (run_dir, data_dir) = (&std::path::absolute(run_dir)?, &std::path::absolute(data_dir)?);
    let logs = data_dir.join("logs");
    make_directory(&logs, 0o700)?;
    // For what it says before its own log is open.
    let log = OpenOptions::new().append(true).create(true).mode(0o640).open(logs.join("guard.log"))?;
    #[expect(clippy::disallowed_methods, reason = "this is the one place where the guard itself is started")]
    let mut command = std::process::Command::new(exe);
    command.arg("guard").arg("--run-dir").arg(run_dir).arg("--data-dir").arg(data_dir);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir("/");
    // SAFETY: between fork and exec only one system call is made, and nothing is allocated.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            Ok(())
        });
    }
    // It stays this process's child until one of the two ends; a guard that ends leaves a zombie until then.
    command.spawn().map(drop)
}
