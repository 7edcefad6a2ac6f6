//! The exit statuses: stable, scripts depend on them.

use std::process::ExitCode;

/// How the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, or nothing to do.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// `plan`: there are changes; `check`: something needs attention.
    Attention = 2,
    /// Wrong usage.
    Usage = 64,
    /// No agent could be reached.
    NoAgent = 69,
    /// Try again: there is no leader yet.
    TryAgain = 75,
    /// Not allowed.
    Denied = 77,
    /// A file or configuration is wrong.
    BadFile = 78,
    /// No such item.
    NotFound = 105,
    /// No quorum.
    NoQuorum = 106,
    /// Refused as unsafe or because of a conflict.
    Refused = 107,
    /// Exists already.
    Exists = 108,
    /// Timed out.
    TimedOut = 124,
    /// Ctrl-C: the waiting ended, the act goes on.
    Interrupted = 130,
}

impl Exit {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Done,
        Self::Failed,
        Self::Attention,
        Self::Usage,
        Self::NoAgent,
        Self::TryAgain,
        Self::Denied,
        Self::BadFile,
        Self::NotFound,
        Self::NoQuorum,
        Self::Refused,
        Self::Exists,
        Self::TimedOut,
        Self::Interrupted,
    ];

    /// The number that the process ends with.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The status that an agent names in `muster-exit`; one that this version does not know is a failure.
    pub fn from_agent(text: &str) -> Self {
        let code = text.trim().parse::<u8>().ok();
        Self::ALL
            .into_iter()
            .find(|exit| Some(exit.code()) == code && *exit != Self::Done)
            .unwrap_or(Self::Failed)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statuses_are_those_of_the_contract() {
        let codes = Exit::ALL.map(Exit::code);
        assert_eq!(codes, [0, 1, 2, 64, 69, 75, 77, 78, 105, 106, 107, 108, 124, 130]);
    }

    #[test]
    fn an_agent_names_the_status_but_never_success() {
        assert_eq!(Exit::from_agent("105"), Exit::NotFound);
        assert_eq!(Exit::from_agent("0"), Exit::Failed);
        assert_eq!(Exit::from_agent("99"), Exit::Failed);
        assert_eq!(Exit::from_agent("x"), Exit::Failed);
    }
}
