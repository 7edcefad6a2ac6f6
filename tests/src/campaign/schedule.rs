//! Which fault comes when: decks of all kinds, shuffled by the seed, so that every kind comes equally often.

use super::fault::{self, Fault};
use super::options::Options;
use crate::sim::rng::Rng;

/// The plan of a campaign.
pub struct Schedule {
    rng: Rng,
    kinds: Vec<Box<dyn Fault>>,
    deck: Vec<usize>,
    number: u64,
    pairs_percent: u64,
}

/// One round of the plan.
pub struct Planned<'a> {
    /// Counts from 1.
    pub number: u64,
    /// What breaks.
    pub fault: &'a dyn Fault,
    /// What breaks on top of it.
    pub second: Option<&'a dyn Fault>,
    /// Decides upon whom and for how long.
    pub rng: Rng,
}

impl Schedule {
    /// The plan of these options; faults that can't be done here are left out.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        let wanted = |name: &str| options.only.as_deref().is_none_or(|only| name.contains(only));
        let kinds = fault::all().into_iter().filter(|f| wanted(f.name()) && f.obstacle().is_none());
        let (rng, pairs_percent) = (Rng::new(options.seed), options.pairs_percent);
        Self { rng, kinds: kinds.collect(), deck: Vec::new(), number: 0, pairs_percent }
    }

    /// How many kinds it has.
    #[must_use]
    pub fn kinds(&self) -> usize {
        self.kinds.len()
    }

    /// The next round; `None` when there is no kind of fault.
    pub fn draw(&mut self) -> Option<Planned<'_>> {
        if self.deck.is_empty() {
            let all: Vec<usize> = (0..self.kinds.len()).collect();
            self.deck = self.rng.shuffled(&all);
        }
        let kind = self.deck.pop()?;
        self.number += 1;
        let mut rng = Rng::new(self.rng.number());
        let may_meet = |other: &usize| *other != kind && !self.kinds[*other].is_alone();
        let others: Vec<usize> = (0..self.kinds.len()).filter(may_meet).collect();
        let meets = rng.percent(self.pairs_percent) && !self.kinds[kind].is_alone();
        let second = rng.pick(&others).filter(|_| meets);
        let second = second.map(|other| self.kinds[other].as_ref());
        Some(Planned { number: self.number, fault: self.kinds[kind].as_ref(), second, rng })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(seed: u64, rounds: usize) -> Vec<(&'static str, u64)> {
        let mut schedule =
            Schedule::new(&Options { seed, rounds: 0, only: None, told: false, pairs_percent: 15 });
        let next = |_| schedule.draw().map(|mut planned| (planned.fault.name(), planned.rng.number()));
        (0..rounds).filter_map(next).collect()
    }

    #[test]
    fn a_seed_is_a_plan_and_another_seed_another_one() {
        assert_eq!(names(7, 50), names(7, 50));
        assert_ne!(names(7, 50), names(8, 50));
    }

    #[test]
    fn every_kind_comes_before_one_comes_again() {
        let kinds =
            Schedule::new(&Options { seed: 3, rounds: 0, only: None, told: false, pairs_percent: 15 })
                .kinds();
        let mut first: Vec<_> = names(3, kinds).into_iter().map(|(name, _)| name).collect();
        first.sort_unstable();
        first.dedup();
        assert_eq!(first.len(), kinds);
    }
}
