//! One kind of long test.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::report::Section;
use crate::harness::wait::Moment;

/// What the processors owe a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It judges times: one at a time, at ordinary priority, with nothing that computes beside it, unless that was asked for.
    Foreground,
    /// It computes: it gets what the others leave over, one at a time.
    Background,
    /// It watches: beside the others from the beginning to the end.
    Throughout,
}

/// When a stage has to end.
pub struct Limit<'a> {
    /// By time.
    pub end: Moment,
    /// By Ctrl-C.
    pub is_interrupted: &'a (dyn Fn() -> bool + Sync),
}

impl Limit<'_> {
    /// Whether it is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        Moment::now() >= self.end || (self.is_interrupted)()
    }
}

/// One kind of long test.
pub trait Stage: Send {
    /// Its name in the table and on the command line.
    fn name(&self) -> String;

    /// What it needs.
    fn place(&self) -> Place;

    /// How much of the time of its place it gets, in proportion to the other stages there.
    fn share(&self) -> u32 {
        1
    }

    /// Why it can't run here.
    fn obstacle(&self) -> Option<String> {
        None
    }

    /// Runs until the limit.
    fn run(&mut self, limit: &Limit<'_>) -> Section;
}

/// Runs a stage; one that can't run or panics is told about as such.
pub fn play(mut stage: Box<dyn Stage>, limit: &Limit<'_>) -> Section {
    let name = stage.name();
    if let Some(obstacle) = stage.obstacle() {
        return Section::skipped(&name, &obstacle);
    }
    let played = catch_unwind(AssertUnwindSafe(|| stage.run(limit)));
    played.unwrap_or_else(|_| Section::broken(&name, "the stage panicked"))
}
