//! One round through all agents, and what they said.

use std::time::Duration;

use super::{PAUSE_FIRST, PAUSE_LONGEST};
use crate::failure::Failure;

/// Why another try is worth it.
pub(super) enum Again {
    /// Nobody there.
    Unreachable(String),
    /// An agent asks for patience.
    Told(Failure),
    /// Another agent may do what this one will never do.
    Elsewhere(Failure),
    /// This agent reaches no majority; one on the other side of the cut may.
    CutOff(Failure),
}

/// One round through all endpoints.
pub(super) struct Round {
    pub(super) number: u32,
    pub(super) pause: Duration,
    endpoints: usize,
    unreachable: Vec<(String, String)>,
    told: Option<Failure>,
    /// What the last agent that asked for patience said, in the rounds before.
    told_before: Option<Failure>,
    elsewhere: Option<Failure>,
    cut_off: Option<Failure>,
    tries: usize,
}

impl Round {
    pub(super) fn new(endpoints: usize) -> Self {
        Self {
            number: 0,
            pause: PAUSE_FIRST,
            endpoints,
            unreachable: Vec::new(),
            told: None,
            told_before: None,
            elsewhere: None,
            cut_off: None,
            tries: 0,
        }
    }

    /// Why some agent asked for patience, if one did in this round or the one before.
    pub(super) fn told_last(self) -> Option<Failure> {
        self.told.or(self.told_before)
    }

    /// Notes a failed try; whether all endpoints have been tried, so that it is time for a pause.
    pub(super) fn add(&mut self, endpoint: String, why: Again) -> bool {
        self.tries += 1;
        match why {
            Again::Unreachable(reason) => self.unreachable.push((endpoint, reason)),
            Again::Told(failure) => self.told = Some(failure),
            Again::Elsewhere(failure) => self.elsewhere = Some(failure),
            Again::CutOff(failure) => self.cut_off = Some(failure),
        }
        self.tries >= self.endpoints
    }

    /// Whether somebody answered.
    pub(super) fn worth_waiting(&self) -> bool {
        self.told.is_some()
    }

    /// Whether all that answered will never do it.
    pub(super) fn is_in_vain(&self) -> bool {
        self.elsewhere.is_some() && self.told.is_none() && self.unreachable.is_empty()
    }

    /// Whether nobody that answered reaches a majority or expects to soon.
    pub(super) fn has_no_quorum(&self) -> bool {
        self.cut_off.is_some() && self.told.is_none()
    }

    pub(super) fn start_next(&mut self) {
        self.number += 1;
        self.pause = (self.pause * 2).min(PAUSE_LONGEST);
        self.unreachable.clear();
        self.told_before = self.told.take();
        self.elsewhere = None;
        self.cut_off = None;
        self.tries = 0;
    }

    pub(super) fn into_failure(self) -> Failure {
        self.told.or(self.cut_off).or(self.elsewhere).unwrap_or(Failure::NoAgent { tried: self.unreachable })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn a_round_ends_when_all_were_tried() {
        let mut round = Round::new(2);
        assert!(!round.add("a".to_owned(), Again::Unreachable("refused".to_owned())));
        assert!(round.add("b".to_owned(), Again::Unreachable("refused".to_owned())));
        assert!(!round.worth_waiting());
        let text = round.into_failure().to_string();
        assert_eq!(text, "no agent could be reached; tried a (refused), b (refused)");
    }

    fn told(exit: Exit) -> Failure {
        Failure::Told { code: "MU".to_owned(), message: String::new(), hint: None, exit }
    }

    #[test]
    fn what_was_told_is_remembered_for_one_round() {
        let mut round = Round::new(1);
        round.add("a".to_owned(), Again::Told(told(Exit::TryAgain)));
        round.start_next();
        round.start_next();
        assert!(round.told_last().is_none());
        let mut round = Round::new(1);
        round.add("a".to_owned(), Again::Told(told(Exit::TryAgain)));
        round.start_next();
        assert_eq!(round.told_last().map(|failure| failure.exit()), Some(Exit::TryAgain));
    }

    #[test]
    fn a_lost_quorum_is_final_only_when_nobody_else_expects_a_leader() {
        let mut round = Round::new(2);
        round.add("a".to_owned(), Again::CutOff(told(Exit::NoQuorum)));
        round.add("b".to_owned(), Again::Unreachable("refused".to_owned()));
        assert!(round.has_no_quorum());
        assert_eq!(round.into_failure().exit(), Exit::NoQuorum);
        let mut round = Round::new(2);
        round.add("a".to_owned(), Again::CutOff(told(Exit::NoQuorum)));
        round.add("b".to_owned(), Again::Told(told(Exit::TryAgain)));
        assert!(!round.has_no_quorum() && round.worth_waiting());
        assert_eq!(round.into_failure().exit(), Exit::TryAgain);
    }
}
