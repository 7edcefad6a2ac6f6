//! What was measured: a table for people, JSON for programs, Markdown for the README.

use std::fmt::Write;

use serde::Serialize;

use super::statistics::Samples;

/// Everything that one run of the benchmark measured.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// The machine and the build, since figures mean nothing without them.
    pub setting: String,
    /// Times of repeated events.
    pub timings: Vec<Timing>,
    /// Writes.
    pub writes: Vec<Writes>,
    /// `fdatasync` of 256 bytes, appended by one thread, a second.
    pub syncs_per_s: Option<f64>,
    /// Single amounts.
    pub amounts: Vec<Amount>,
}

/// A time that was measured again and again; milliseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Timing {
    /// Which group it belongs to.
    pub figure: String,
    /// What happened.
    pub case: String,
    /// How often.
    pub runs: usize,
    /// The middle.
    pub median_ms: f64,
    /// The 95th percentile.
    pub p95_ms: f64,
    /// The largest.
    pub max_ms: f64,
    /// What the median should not exceed.
    pub target_median_ms: Option<f64>,
    /// What the largest should not exceed.
    pub target_max_ms: Option<f64>,
    /// The longest time that two copies ran at once.
    pub overlap_ms: f64,
    /// In how many runs the service was restarted although nothing was to happen to it.
    pub touched: Option<usize>,
}

impl Timing {
    /// A row without samples yet.
    #[must_use]
    pub fn new(figure: &str, case: &str, target_median_ms: f64, target_max_ms: f64) -> Self {
        Self {
            target_median_ms: Some(target_median_ms),
            target_max_ms: Some(target_max_ms),
            ..Self::untargeted(figure, case)
        }
    }

    /// A row that is only for information.
    #[must_use]
    pub fn untargeted(figure: &str, case: &str) -> Self {
        Self { figure: figure.to_owned(), case: case.to_owned(), ..Self::default() }
    }

    /// Fills in the statistics of samples in milliseconds.
    #[must_use]
    pub fn with(mut self, samples: &Samples) -> Self {
        self.runs = samples.count();
        self.median_ms = samples.median();
        self.p95_ms = samples.quantile(0.95);
        self.max_ms = samples.max();
        self
    }

    /// Whether the targets are reached; without targets, whether nothing was touched.
    #[must_use]
    pub fn is_met(&self) -> bool {
        let within = |value: f64, target: Option<f64>| target.is_none_or(|t| value <= t);
        within(self.median_ms, self.target_median_ms)
            && within(self.max_ms, self.target_max_ms)
            && self.overlap_ms <= 0.0
            && self.touched.unwrap_or_default() == 0
    }

    fn target(&self) -> String {
        match (self.target_median_ms, self.target_max_ms, self.touched) {
            (Some(median), Some(max), _) => format!("{median:.0} / {max:.0}"),
            (Some(median), None, _) => format!("{median:.0} / –"),
            (_, _, Some(touched)) => format!("restarts 0, seen {touched}"),
            (None, _, None) => String::new(),
        }
    }
}

/// Throughput with so many clients, each with one call at a time.
#[derive(Clone, Debug, Serialize)]
pub struct Writes {
    /// Clients.
    pub clients: usize,
    /// Muster.
    pub muster: Rate,
    /// etcd on the same hosts, disk and network, encrypted as Muster is; absent when it is not installed.
    pub etcd: Option<Rate>,
    /// The same without encryption.
    pub etcd_plain: Option<Rate>,
}

impl Writes {
    /// Muster's rate as a multiple of another one.
    #[must_use]
    pub fn ratio(&self, other: Option<Rate>) -> Option<f64> {
        other.filter(|other| other.per_s > 0.0).map(|other| self.muster.per_s / other.per_s)
    }
}

/// A rate, and how long one call took.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Rate {
    /// Acknowledged writes a second.
    pub per_s: f64,
    /// The middle.
    pub p50_ms: f64,
    /// The 99th percentile.
    pub p99_ms: f64,
    /// Calls that failed; they count for nothing.
    pub failed: u64,
}

/// One amount.
#[derive(Clone, Debug, Serialize)]
pub struct Amount {
    /// Of what.
    pub what: String,
    /// How much.
    pub value: f64,
    /// In which unit.
    pub unit: &'static str,
    /// What it should not exceed.
    pub target: Option<f64>,
}

impl Report {
    /// Adds an amount.
    pub fn amount(&mut self, what: impl Into<String>, value: f64, unit: &'static str, target: Option<f64>) {
        self.amounts.push(Amount { what: what.into(), value, unit, target });
    }

    /// A table of aligned columns.
    #[must_use]
    pub fn table(&self) -> String {
        self.sections().iter().map(|section| section.aligned()).collect::<Vec<_>>().join("\n")
    }

    /// The same as Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        let sections = self.sections().iter().map(Section::markdown).collect::<Vec<_>>().join("\n");
        format!("{sections}\nMeasured on {}.\n", self.setting)
    }

    fn sections(&self) -> Vec<Section> {
        let all = [self.timing_section(), self.writes_section(), self.amounts_section()];
        all.into_iter().filter(|section| !section.rows.is_empty()).collect()
    }

    fn timing_section(&self) -> Section {
        let row = |t: &Timing| {
            let what = format!("{}: {}", t.figure, t.case);
            let numbers = [t.median_ms, t.p95_ms, t.max_ms, t.overlap_ms].map(|ms| format!("{ms:.1}"));
            let mut row = vec![what, t.runs.to_string()];
            row.extend(numbers);
            let target = t.target();
            let reached = if target.is_empty() { String::new() } else { verdict(t.is_met()) };
            row.extend([target, reached]);
            row
        };
        let head = ["gap, ms", "runs", "median", "p95", "max", "overlap", "target (median / max)", "reached"];
        Section::new(&head, self.timings.iter().map(row).collect())
    }

    fn writes_section(&self) -> Section {
        let rate = |r: Rate| [format!("{:.0}", r.per_s), format!("{:.1} / {:.1}", r.p50_ms, r.p99_ms)];
        let row = |w: &Writes| {
            let mut row = vec![w.clients.to_string()];
            row.extend(rate(w.muster));
            for etcd in [w.etcd, w.etcd_plain] {
                row.extend(etcd.map_or_else(|| ["–".to_owned(), "–".to_owned()], rate));
                row.push(w.ratio(etcd).map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}")));
            }
            let all = [Some(w.muster), w.etcd, w.etcd_plain];
            row.push(all.into_iter().flatten().map(|rate| rate.failed).sum::<u64>().to_string());
            row
        };
        let syncs = self.syncs_per_s.map_or_else(String::new, |s| format!(" (fdatasync/s: {s:.0})"));
        let clients = format!("writes: clients{syncs}");
        let latency = "p50 / p99 ms";
        let (with, without) = ("etcd/s, TLS", "etcd/s, no TLS");
        let head =
            [&clients, "Muster/s", latency, with, latency, "ratio", without, latency, "ratio", "failed"];
        Section::new(&head, self.writes.iter().map(row).collect())
    }

    fn amounts_section(&self) -> Section {
        let row = |a: &Amount| {
            let target = a.target.map(|t| format!("{t} {}", a.unit)).unwrap_or_default();
            let reached = a.target.map(|t| verdict(a.value <= t)).unwrap_or_default();
            vec![a.what.clone(), format!("{:.2} {}", a.value, a.unit), target, reached]
        };
        let head = ["amount", "value", "target", "reached"];
        Section::new(&head, self.amounts.iter().map(row).collect())
    }
}

fn verdict(met: bool) -> String {
    if met { "yes" } else { "NO" }.to_owned()
}

/// A head and rows of as many cells.
struct Section {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Section {
    fn new(head: &[&str], rows: Vec<Vec<String>>) -> Self {
        Self { head: head.iter().map(|&h| h.to_owned()).collect(), rows }
    }

    fn aligned(&self) -> String {
        let lines = || std::iter::once(&self.head).chain(&self.rows);
        let width =
            |column: usize| lines().map(|line| line[column].chars().count()).max().unwrap_or_default();
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let mut text = String::new();
        for line in lines() {
            let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
                if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            text.push('\n');
        }
        text
    }

    fn markdown(&self) -> String {
        let mut text = String::new();
        let line = |cells: &[String]| format!("| {} |", cells.join(" | "));
        let rule = vec!["---".to_owned(); self.head.len()];
        for cells in [&self.head, &rule].into_iter().chain(&self.rows) {
            writeln!(text, "{}", line(cells)).expect("a string takes everything");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing() -> Timing {
        let samples: Samples = [1000.0, 1010.0, 1050.0].into_iter().collect();
        Timing::new("failover", "host crash", 1100.0, 1500.0).with(&samples)
    }

    #[test]
    fn a_target_is_missed_by_a_slow_median_an_overlap_or_a_touched_service() {
        assert!(timing().is_met());
        assert!(!Timing { median_ms: 1101.0, ..timing() }.is_met());
        assert!(!Timing { max_ms: 1501.0, ..timing() }.is_met());
        assert!(!Timing { overlap_ms: 0.1, ..timing() }.is_met());
        assert!(!Timing { touched: Some(1), ..timing() }.is_met());
    }

    #[test]
    fn the_table_and_its_markdown_hold_the_same_cells() {
        let mut report = Report { timings: vec![timing()], ..Report::default() };
        report.amount("binary", 12.5, "MiB", Some(20.0));
        let (table, markdown) = (report.table(), report.markdown());
        for cell in ["failover: host crash", "1010.0", "1100 / 1500", "12.50 MiB", "yes"] {
            assert!(table.contains(cell) && markdown.contains(cell), "{cell}:\n{table}{markdown}");
        }
    }

    #[test]
    fn the_ratio_is_only_there_with_both_sides() {
        let rate = |per_s| Rate { per_s, ..Rate::default() };
        let writes = Writes { clients: 1, muster: rate(300.0), etcd: None, etcd_plain: None };
        assert_eq!(writes.ratio(Some(rate(100.0))), Some(3.0));
        assert_eq!(writes.ratio(None), None);
        assert_eq!(writes.ratio(Some(rate(0.0))), None);
    }
}
