//! What a soak came to: one table for people, the same as JSON for programs.

use std::fmt;

use serde::Serialize;

use super::options::Options;

/// The counts of one stage.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Section {
    /// The stage.
    pub name: String,
    /// Why it did not run, if it did not.
    pub skipped: Option<String>,
    /// Names and numbers, in the order of the table.
    pub counts: Vec<(String, f64)>,
    /// What did not hold, with the command that plays it again.
    pub violations: Vec<String>,
}

impl Section {
    /// An empty one.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Of a stage that did not run.
    #[must_use]
    pub fn skipped(name: &str, why: &str) -> Self {
        Self { skipped: Some(why.to_owned()), ..Self::new(name) }
    }

    /// Of a stage that failed as a whole.
    #[must_use]
    pub fn broken(name: &str, why: &str) -> Self {
        Self { violations: vec![why.to_owned()], ..Self::new(name) }
    }

    /// Adds a row.
    #[allow(clippy::cast_precision_loss, reason = "for people; counts stay far below 2^52")]
    pub fn count(&mut self, name: &str, number: u64) {
        self.counts.push((name.to_owned(), number as f64));
    }

    /// Adds a row of something measured.
    pub fn measure(&mut self, name: &str, number: f64) {
        self.counts.push((name.to_owned(), number));
    }
}

/// The whole.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The first seed.
    pub seed: u64,
    /// How long it was to take, in minutes.
    pub minutes: u64,
    /// How long it took, in seconds.
    pub took_s: u64,
    /// By stage.
    pub sections: Vec<Section>,
}

impl Report {
    /// Without any stage yet.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        Self { seed: options.seed, minutes: options.minutes, took_s: 0, sections: Vec::new() }
    }

    /// All violations.
    #[must_use]
    pub fn violations(&self) -> usize {
        self.sections.iter().map(|section| section.violations.len()).sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "soak of {} minutes, seed {}, took {} s", self.minutes, self.seed, self.took_s)?;
        for section in &self.sections {
            writeln!(f, "\n{}", section.name)?;
            if let Some(why) = &section.skipped {
                writeln!(f, "  SKIPPED: {why}")?;
            }
            for (name, number) in &section.counts {
                let digits = usize::from(number.fract() != 0.0);
                writeln!(f, "  {name:<56} {number:>14.digits$}")?;
            }
            writeln!(f, "  {:<56} {:>14}", "violations", section.violations.len())?;
        }
        writeln!(f, "\n{:<58} {:>14}", "violations in all", self.violations())?;
        for section in &self.sections {
            for violation in &section.violations {
                writeln!(f, "\n{}: {violation}", section.name)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_counts_and_every_violation() {
        let mut report = Report::new(&Options::default());
        let mut section = Section::new("things");
        section.count("seeds", 12);
        section.violations.push("two at once\nplay it again: soak --seed 3".to_owned());
        report.sections = vec![section, Section::skipped("others", "no root")];
        let text = report.to_string();
        assert_eq!(report.violations(), 1);
        for words in ["things", "seeds", "12", "SKIPPED: no root", "two at once", "soak --seed 3"] {
            assert!(text.contains(words), "{words} is missing:\n{text}");
        }
    }
}
