//! Running the system's tools and Muster's commands: the one place of the harness that starts processes.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};

use super::HarnessError;

/// What a process left behind.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The command line, for messages.
    pub command: String,
    /// Its exit status; -1 when a signal ended it.
    pub status: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Finished {
    /// Itself, if the exit status was 0.
    ///
    /// # Errors
    /// [`HarnessError::Tool`] with what it said.
    pub fn success(self) -> Result<Self, HarnessError> {
        if self.status == 0 {
            return Ok(self);
        }
        let detail = format!("{}{}", self.stdout, self.stderr).trim().to_owned();
        Err(HarnessError::Tool { command: self.command, status: self.status, detail })
    }

    /// Standard output and error together.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the harness starts tools, agents and commands here and nowhere else"
)]
fn command(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).env_remove("MUSTER_CONTEXT").env("NO_COLOR", "1");
    command
}

/// Runs a program to its end.
///
/// # Errors
/// When it can't be started. Its exit status is not judged.
pub fn run(program: &str, args: &[&str]) -> Result<Finished, HarnessError> {
    let line = format!("{program} {}", args.join(" "));
    let output = command(program, args).output().map_err(HarnessError::io(line.clone()))?;
    Ok(Finished {
        command: line,
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Runs a program inside a network namespace.
///
/// # Errors
/// As [`run`].
pub fn run_inside(namespace: &str, program: &Path, args: &[&str]) -> Result<Finished, HarnessError> {
    let program = program.to_string_lossy();
    let mut line = vec!["netns", "exec", namespace, program.as_ref()];
    line.extend_from_slice(args);
    run("ip", &line)
}

/// Starts a program inside a network namespace; both outputs are appended to `log`.
///
/// # Errors
/// When it can't be started.
pub fn spawn_inside(
    namespace: &str,
    program: &Path,
    args: &[&str],
    log: &Path,
) -> Result<Child, HarnessError> {
    let program = program.to_string_lossy();
    let mut line = vec!["netns", "exec", namespace, program.as_ref()];
    line.extend_from_slice(args);
    // 'ip netns exec' becomes the program: the child's process id is the program's.
    spawn(Path::new("ip"), &line, log)
}

/// Starts a program; both outputs are appended to `log`.
///
/// # Errors
/// When it can't be started.
pub fn spawn(program: &Path, args: &[&str], log: &Path) -> Result<Child, HarnessError> {
    let out = File::options().create(true).append(true).open(log);
    let out = out.map_err(HarnessError::io(format!("{}", log.display())))?;
    let errors = out.try_clone().map_err(HarnessError::io("duplicating a descriptor"))?;
    let program = program.to_string_lossy();
    let child = command(&program, args).stdout(out).stderr(errors).spawn();
    child.map_err(HarnessError::io(format!("starting {program} {}", args.join(" "))))
}

type Job = Box<dyn FnOnce() + Send>;

/// As [`spawn`], by a thread that lasts as long as this process: the signal that a child gets when its parent dies
/// is sent when the thread dies that started it.
///
/// # Errors
/// As [`spawn`].
pub fn spawn_lasting(program: &str, args: &[&str], log: &Path) -> Result<Child, HarnessError> {
    static STARTER: OnceLock<SyncSender<Job>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (sender, jobs) = sync_channel::<Job>(0);
        std::thread::spawn(move || jobs.into_iter().for_each(|job| job()));
        sender
    });
    let (answer, answered) = sync_channel(1);
    let (program, log) = (program.to_owned(), log.to_owned());
    let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
    let job = move || {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        // Nobody who asked can be gone before the answer.
        answer.send(spawn(Path::new(&program), &args, &log)).expect("the caller waits");
    };
    starter.send(Box::new(job)).expect("the starter never ends");
    answered.recv().expect("the starter answers every job")
}

/// `ip` with arguments separated by blanks.
///
/// # Errors
/// Also when it ends with an error.
pub fn ip(line: &str) -> Result<(), HarnessError> {
    let args: Vec<&str> = line.split_whitespace().collect();
    run("ip", &args)?.success().map(|_| ())
}
