//! The `muster` binary.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use muster::command::{self, Agent, Cli, Command, CommandError, StartGuard, init, join, leave};
use muster::node::{self, NodeError, RunOptions};
use muster::{config, dev, stamp, telemetry};
use tokio_util::sync::CancellationToken;

/// Under many clients glibc's allocator took a fifth of an agent's time (docs/decisions/0021-allocator-and-release-build.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Threads of the agent's runtime: it is light work, and the services want the cores.
const WORKER_THREADS: usize = 2;

fn main() -> ExitCode {
    // Before any runtime or thread: the guard forks, and must be the only thread of its process.
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|a| a == "guard") {
        return muster_guard::run(&arguments[2..]);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            command::complain(&error);
            ExitCode::from(error.exit_status())
        }
    }
}

/// Help is no error; wrong usage exits with 64.
fn usage(error: &clap::Error) -> ExitCode {
    // Nothing can be done about a closed terminal.
    let _printed = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(64),
    }
}

fn run(command: Command) -> Result<(), CommandError> {
    match command {
        Command::Init(args) => runtime()?.block_on(init::run(&args)),
        Command::Join(args) => runtime()?.block_on(join::run(&args)),
        Command::Agent(args) => agent(&args),
        Command::Leave(args) => runtime()?.block_on(leave::run(&args)),
        Command::Dev(args) => runtime()?.block_on(dev::run(&args)),
        Command::Guard { .. } => Ok(()),
        Command::Stamp { directory } => stamp::run(&directory)
            .map_err(|source| CommandError::Io { what: directory.display().to_string(), source }),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, CommandError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()
        .map_err(|source| CommandError::Io { what: "starting the runtime".to_owned(), source })
}

fn agent(args: &Agent) -> Result<(), CommandError> {
    let variables: Vec<_> = std::env::vars().collect();
    let config = config::load(args.config.config.as_deref(), &variables).map_err(NodeError::from)?;
    telemetry::start(&config.log);
    telemetry::end_on_panic();
    // Keys and values of secrets are in memory. This is before anything else could have been read.
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        tracing::warn!(%error, "core dumps of the agent can't be ruled out");
    }
    let under_systemd = std::env::var_os("NOTIFY_SOCKET").is_some();
    let autostart_guard = match args.start_guard {
        StartGuard::Auto => !under_systemd,
        StartGuard::Always => true,
        StartGuard::Never => false,
    };
    let guard_exe: PathBuf = std::env::current_exe()
        .map_err(|source| CommandError::Io { what: "the path of this program".to_owned(), source })?;
    let options = RunOptions { config, guard_exe, autostart_guard };
    runtime()?.block_on(async {
        let stop = CancellationToken::new();
        stop_on_signal(&stop)?;
        keep_watchdog_quiet();
        node::run(options, stop).await.map_err(CommandError::from)
    })
}

fn stop_on_signal(stop: &CancellationToken) -> Result<(), CommandError> {
    use tokio::signal::unix::{SignalKind, signal};
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut stream = signal(kind)
            .map_err(|source| CommandError::Io { what: "catching signals".to_owned(), source })?;
        let stop = stop.clone();
        tokio::spawn(async move {
            stream.recv().await;
            tracing::info!("the agent stops; the guard keeps the tasks running");
            stop.cancel();
        });
    }
    Ok(())
}

fn keep_watchdog_quiet() {
    if let Some(period) = muster::notify::watchdog_period() {
        tokio::spawn(async move {
            loop {
                muster::notify::alive();
                tokio::time::sleep(period).await;
            }
        });
    }
}
