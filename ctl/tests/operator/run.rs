//! Starts `musterctl` and collects what it says.

use std::process::{Child, Command, Output, Stdio};

/// How it ended.
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Stdout as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}{}", self.stdout, self.stderr))
    }

    /// The one error object of stderr.
    pub fn error(&self) -> serde_json::Value {
        let object: serde_json::Value =
            serde_json::from_str(&self.stderr).unwrap_or_else(|e| panic!("{e}: {}", self.stderr));
        object["error"].clone()
    }

    /// Panics with all that was said unless it ended so.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The command, with nothing of this process's environment that it would look at.
#[expect(clippy::disallowed_methods, reason = "the test drives the real binary")]
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_musterctl"));
    command.args(arguments).stdin(Stdio::null());
    for variable in ["MUSTER_CONTEXT", "NO_COLOR", "VISUAL", "EDITOR"] {
        command.env_remove(variable);
    }
    command.env("HOME", "/nonexistent");
    // Who calls an agent by its address shows a certificate.
    if arguments.contains(&"--endpoint") && !arguments.contains(&"--context") {
        command.env("MUSTER_CONTEXT", crate::trust::context());
    }
    command
}

/// Runs it to its end.
pub fn ctl(arguments: &[&str]) -> Ended {
    command(arguments).output().unwrap().into()
}

/// Starts it.
pub fn spawn(arguments: &[&str]) -> Child {
    command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}
