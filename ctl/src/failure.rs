//! What can go wrong, each with its exit status, stable code and remedy.

use std::time::Duration;

use crate::context::ContextError;
use crate::exit::Exit;
use crate::file::FileError;
use crate::when;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// An agent answered with an error.
    #[error("{message}")]
    Told {
        /// The stable code.
        code: String,
        /// What happened.
        message: String,
        /// What to do about it.
        hint: Option<String>,
        /// The status that the agent wants.
        exit: Exit,
    },
    /// No agent could be reached.
    #[error("no agent could be reached; tried {}", tried_list(.tried))]
    NoAgent {
        /// Each endpoint and why it failed.
        tried: Vec<(String, String)>,
    },
    /// An agent on another host wants a certificate.
    #[error("{endpoint} wants a certificate, and there is none")]
    NoCertificate {
        /// Where.
        endpoint: String,
    },
    /// The time was over.
    #[error("timed out after {}, still waiting for {}", when::limit(when::as_ms(*.limit)), .waiting_for.join("; "))]
    TimedOut {
        /// How long was waited.
        limit: Duration,
        /// What for.
        waiting_for: Vec<String>,
        /// Whether an act was taken that goes on without us.
        goes_on: bool,
    },
    /// What was waited for cannot happen any more.
    #[error("{message}")]
    Ended {
        /// What happened instead.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// Ctrl-C.
    #[error("interrupted: {0}")]
    Interrupted(&'static str),
    /// A dangerous act without `--yes`.
    #[error("{act}; this needs to be confirmed")]
    Unconfirmed {
        /// What would happen.
        act: String,
    },
    /// The operator said no.
    #[error("nothing was done: the question was not answered with yes")]
    SaidNo,
    /// A service file is wrong.
    #[error(transparent)]
    File(#[from] FileError),
    /// Where to go could not be found out.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// Wrong usage that the parser of arguments cannot see.
    #[error("{0}")]
    Usage(String),
    /// Nothing of that name.
    #[error("there is no {what} {name}{}", nearest_text(.nearest))]
    NoSuch {
        /// Of what.
        what: &'static str,
        /// The name.
        name: String,
        /// A name that is much like it.
        nearest: Option<String>,
    },
    /// The cluster has lost its quorum.
    #[error("{0}")]
    NoQuorum(String),
    /// An answer that this version cannot read.
    #[error("the agent's answer cannot be read: {0}")]
    Unreadable(String),
    /// The editor failed.
    #[error("{0}")]
    Editor(String),
    /// What was edited was not taken; the text is not lost.
    #[error("{failure}")]
    Edited {
        /// Why.
        failure: Box<Failure>,
        /// Where the text is.
        kept: std::path::PathBuf,
    },
    /// Reading or writing here failed.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
}

fn tried_list(tried: &[(String, String)]) -> String {
    let each: Vec<String> = tried.iter().map(|(where_to, why)| format!("{where_to} ({why})")).collect();
    each.join(", ")
}

fn nearest_text(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!("; did you mean {name}?")).unwrap_or_default()
}

impl Failure {
    /// The status to end with.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Told { exit, .. } => *exit,
            Self::NoAgent { .. } => Exit::NoAgent,
            Self::NoCertificate { .. } => Exit::Denied,
            Self::TimedOut { .. } => Exit::TimedOut,
            Self::Ended { .. } | Self::Unreadable(_) | Self::Editor(_) | Self::Io { .. } | Self::SaidNo => {
                Exit::Failed
            }
            Self::Interrupted(_) => Exit::Interrupted,
            Self::Unconfirmed { .. } => Exit::Refused,
            Self::Edited { failure, .. } => failure.exit(),
            Self::File(error) => error.exit(),
            Self::Context(_) => Exit::BadFile,
            Self::Usage(_) => Exit::Usage,
            Self::NoSuch { .. } => Exit::NotFound,
            Self::NoQuorum(_) => Exit::NoQuorum,
        }
    }

    /// The stable code: the agent's own, or one of this command (MU90..).
    pub fn code(&self) -> &str {
        match self {
            Self::Told { code, .. } => code,
            Self::NoSuch { what: "node", .. } => "MU1003",
            Self::NoSuch { what: "service", .. } => "MU1004",
            Self::NoSuch { .. } => "MU1005",
            Self::Usage(_) => "MU9001",
            Self::NoAgent { .. } => "MU9002",
            Self::File(_) => "MU9003",
            Self::Context(_) => "MU9004",
            Self::TimedOut { .. } => "MU9005",
            Self::Interrupted(_) => "MU9006",
            Self::Unconfirmed { .. } | Self::SaidNo => "MU9007",
            Self::Ended { .. } => "MU9008",
            Self::NoQuorum(_) => "MU9009",
            Self::Unreadable(_) => "MU9010",
            Self::Editor(_) => "MU9011",
            Self::Edited { failure, .. } => failure.code(),
            Self::Io { .. } => "MU9012",
            Self::NoCertificate { .. } => "MU9013",
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Told { hint, .. } | Self::Ended { hint, .. } => hint.clone(),
            Self::Edited { failure, kept } => {
                let before = failure.hint().map(|hint| hint + "; ").unwrap_or_default();
                Some(format!("{before}what you wrote is kept in {}", kept.display()))
            }
            Self::NoAgent { .. } => Some(
                "start the agent (systemctl start muster), or say where one is: \
                 --endpoint HOST:PORT or --context NAME|FILE"
                    .to_owned(),
            ),
            Self::NoCertificate { .. } => Some(
                "name a context that holds one (--context FILE or MUSTER_CONTEXT), which an admin makes with \
                 'musterctl user create NAME --role ROLE'; or run this as root on an agent's host, without --endpoint"
                    .to_owned(),
            ),
            Self::TimedOut { goes_on: true, .. } => {
                Some("only the waiting ended, the act goes on; look with 'musterctl status'".to_owned())
            }
            Self::TimedOut { .. } => Some("a longer --timeout waits longer".to_owned()),
            Self::Unconfirmed { .. } => Some("add --yes to do it".to_owned()),
            Self::File(error) => Some(error.hint().to_owned()),
            Self::Context(error) => Some(error.hint().to_owned()),
            Self::Usage(_) => Some("'--help' after any command shows examples".to_owned()),
            Self::NoSuch { what: "node", .. } => Some("'musterctl node list' shows all".to_owned()),
            Self::NoSuch { .. } => Some("'musterctl service list' shows all".to_owned()),
            Self::NoQuorum(_) => Some(
                "bring a majority of the voters back; '--stale' shows one agent's own copy; \
                 if they are gone for good, docs/operate/failures.md says how to begin anew"
                    .to_owned(),
            ),
            Self::Unreadable(_) => Some("use a musterctl of the agents' version".to_owned()),
            Self::Interrupted(_) | Self::SaidNo | Self::Editor(_) | Self::Io { .. } => None,
        }
    }

    /// Whether the cluster could not answer just now: no leader, no quorum, no agent, no time.
    pub fn is_unanswered(&self) -> bool {
        matches!(self.exit(), Exit::NoAgent | Exit::TryAgain | Exit::NoQuorum | Exit::TimedOut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_this_command_has_its_page() {
        let pages = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/errors");
        let index = std::fs::read_to_string(pages.join("README.md")).unwrap();
        for code in 9000..=9013 {
            assert!(pages.join(format!("MU{code}.md")).is_file(), "MU{code}.md is missing");
            assert!(index.contains(&format!("(MU{code}.md)")), "the index does not list MU{code}");
        }
        let known = |failure: Failure| (9000..=9013).any(|code| failure.code() == format!("MU{code}"));
        assert!(known(Failure::SaidNo) && known(Failure::Unreadable(String::new())));
    }

    #[test]
    fn a_timeout_says_what_it_waited_for_and_what_goes_on() {
        let waiting_for = vec!["web/0 (starting)".to_owned(), "web/1 (placed)".to_owned()];
        let failure = Failure::TimedOut { limit: Duration::from_secs(30), waiting_for, goes_on: true };
        let text = "timed out after 30 s, still waiting for web/0 (starting); web/1 (placed)";
        assert_eq!(failure.to_string(), text);
        assert!(failure.hint().is_some_and(|hint| hint.contains("the act goes on")));
        assert_eq!(failure.exit(), Exit::TimedOut);
    }
}
