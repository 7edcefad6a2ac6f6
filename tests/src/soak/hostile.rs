//! Hostile input: every target in turn, with changes of its corpus by ever new seeds.

use super::report::Section;
use super::stage::{Limit, Place, Stage};
use crate::hostile::{TARGETS, corpus, mutated};
use crate::sim::rng::Rng;

/// How many inputs a target gets in one turn.
const TURN: u64 = 500;

/// It.
#[derive(Debug)]
pub struct HostileInput {
    /// Where its seeds begin.
    pub seed: u64,
}

impl Stage for HostileInput {
    fn name(&self) -> String {
        "hostile input".to_owned()
    }

    fn place(&self) -> Place {
        Place::Background
    }

    fn obstacle(&self) -> Option<String> {
        let missing = TARGETS.iter().find(|target| !target.directory().is_dir());
        missing.map(|target| format!("the corpus {} is not there", target.directory().display()))
    }

    fn run(&mut self, limit: &Limit<'_>) -> Section {
        let mut section = Section::new(&self.name());
        let (mut inputs, mut seed) = (0, self.seed);
        while !limit.is_over() {
            for target in TARGETS {
                let read = corpus::read(target).unwrap_or_default();
                let known: Vec<Vec<u8>> = read.into_iter().map(|(_, bytes)| bytes).collect();
                let mut rng = Rng::new(seed);
                // The slow ones have few rounds, and get as much less here.
                for _ in 0..TURN.min(u64::from(target.rounds)) {
                    if limit.is_over() {
                        break;
                    }
                    inputs += 1;
                    if let Err(found) = target.survives(&mutated(&mut rng, &known)) {
                        let again =
                            format!("MUSTER_HOSTILE_SEED={seed} cargo test -p muster-tests --test hostile");
                        let what = format!("{}: {}", found.target, found.what);
                        section.violations.push(format!("seed {seed}: {what}\nplay it again: {again}"));
                        break;
                    }
                }
            }
            seed += 1;
        }
        section.count("inputs", inputs);
        section.count("targets", TARGETS.len() as u64);
        section
    }
}
