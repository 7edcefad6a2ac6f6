//! What can go wrong in the harness or in a case.

use std::path::PathBuf;

/// Why a case can't go on.
#[derive(Debug, thiserror::Error)]
pub enum HarnessError {
    /// The system.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A tool or one of Muster's commands ended with an error.
    #[error("'{command}' failed with status {status}: {detail}")]
    Tool {
        /// What was called.
        command: String,
        /// Its exit status.
        status: i32,
        /// What it said.
        detail: String,
    },
    /// A condition did not come true.
    #[error("waited {waited_ms} ms in vain for {what}; last: {last}")]
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long.
        waited_ms: u64,
        /// What was seen instead.
        last: String,
    },
    /// An agent ended although nobody ended it.
    #[error("the agent of {node} ended by itself: {status}")]
    AgentEnded {
        /// Which.
        node: String,
        /// How.
        status: String,
    },
    /// An agent answered with an error.
    #[error("{call}: {}", .status.message())]
    Refused {
        /// What was asked.
        call: &'static str,
        /// The answer.
        status: Box<tonic::Status>,
    },
    /// A service file of a case is wrong.
    #[error("the service file of the case is wrong: {0}")]
    ServiceFile(String),
    /// There is no such host.
    #[error("there is no host {0}")]
    NoHost(String),
    /// A binary is missing.
    #[error("{} is missing; 'cargo build --workspace' makes it", .0.display())]
    NoBinary(PathBuf),
    /// A promise of Muster was broken, or the case's expectation was not met.
    #[error("{0}")]
    Broken(String),
}

impl HarnessError {
    /// Turns an error of the system into one that says what was tried.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// The same for an errno.
    pub fn errno(what: impl Into<String>) -> impl FnOnce(nix::errno::Errno) -> Self {
        let what = what.into();
        move |errno| Self::Io { what, source: errno.into() }
    }

    /// Something that must hold does not.
    pub fn broken(why: impl Into<String>) -> Self {
        Self::Broken(why.into())
    }
}
