//! The core simulation, seed after seed.

use super::report::Section;
use super::stage::{Limit, Place, Stage};
use crate::sim;

/// It.
#[derive(Debug)]
pub struct Simulation {
    /// Where its seeds begin.
    pub seed: u64,
}

impl Stage for Simulation {
    fn name(&self) -> String {
        "core simulation".to_owned()
    }

    fn place(&self) -> Place {
        Place::Background
    }

    fn share(&self) -> u32 {
        7
    }

    fn run(&mut self, limit: &Limit<'_>) -> Section {
        let mut section = Section::new(&self.name());
        let survey = sim::survey(self.seed..u64::MAX, || limit.is_over());
        // The table has a line for violations of its own.
        for (name, count) in survey.tally.counts().into_iter().filter(|(name, _)| *name != "violations") {
            section.count(name, count);
        }
        section.violations = survey
            .failures
            .iter()
            .map(|(seed, violation)| format!("seed {seed}: {violation}\nplay it again: just replay {seed}"))
            .collect();
        section
    }
}
