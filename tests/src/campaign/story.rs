//! What happened, line by line, with the time since the beginning.

use crate::harness::wait::{Moment, millis};

/// The story of a campaign; printed as it happens when it is to be told.
#[derive(Debug)]
pub struct Story {
    begun: Moment,
    told: bool,
    lines: Vec<String>,
}

impl Story {
    /// Begins.
    #[must_use]
    pub fn new(told: bool) -> Self {
        Self { begun: Moment::now(), told, lines: Vec::new() }
    }

    /// Something happened.
    pub fn tell(&mut self, what: &str) {
        self.tell_at(Moment::now(), what);
    }

    /// Something happened then.
    #[allow(clippy::print_stdout, reason = "the story is printed")]
    pub fn tell_at(&mut self, when: Moment, what: &str) {
        let line = format!("{:>9.3} s  {what}", millis(when.since(self.begun)) / 1000.0);
        if self.told {
            println!("{line}");
        }
        self.lines.push(line);
    }

    /// The last lines.
    #[must_use]
    pub fn tail(&self, lines: usize) -> String {
        self.lines[self.lines.len().saturating_sub(lines)..].join("\n")
    }
}
