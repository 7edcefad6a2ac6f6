//! Several histograms, printed one below the other.

use std::fmt;

use crate::Histogram;

/// Named histograms to print together. The published crate draws bars; this one prints a line of percentiles each.
#[derive(Debug, Clone)]
pub struct AsciiChart<T = ()> {
    series: Vec<(String, Histogram<T>)>,
}

impl<T> AsciiChart<T> {
    /// Nothing to print yet.
    #[must_use]
    pub fn new() -> Self {
        Self { series: Vec::new() }
    }

    /// Adds a histogram under a name.
    #[must_use]
    pub fn add(mut self, name: &str, histogram: Histogram<T>) -> Self {
        self.series.push((name.to_owned(), histogram));
        self
    }

    /// A value that prints all of them.
    #[must_use]
    pub fn detailed(&self) -> DetailedDisplay<'_, T> {
        DetailedDisplay { chart: self }
    }
}

impl<T> Default for AsciiChart<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Prints a chart, a line for each histogram.
#[derive(Debug)]
pub struct DetailedDisplay<'a, T> {
    chart: &'a AsciiChart<T>,
}

impl<T> fmt::Display for DetailedDisplay<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.chart
            .series
            .iter()
            .try_for_each(|(name, histogram)| writeln!(f, "{name}: {}", histogram.percentile_stats()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_has_a_line_for_each_histogram() {
        let mut latency = Histogram::<()>::new();
        latency.record(5);
        let chart = AsciiChart::new().add("latency", latency).add("size", Histogram::new());
        let lines: Vec<_> = chart.detailed().to_string().lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("latency: [samples: 1, P0.1: 5,"), "{lines:?}");
    }
}
