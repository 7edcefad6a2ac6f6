//! Measures the figures of the README on real processes: `bench [FIGURE…] [--runs 20] [--json FILE] [--markdown]`.

use std::process::ExitCode;

use muster_tests::bench::{Figure, Interrupt, Report, say};
use muster_tests::harness::{HarnessError, binaries};

const USAGE: &str = "usage: bench [failover|moves|restarts|writes|idle|all]… [--runs 20] [--json FILE] [--markdown]\n\
                     it needs root for network namespaces, and the binaries: cargo build --release --workspace";
/// How often each event is repeated unless told otherwise.
const RUNS: usize = 20;

/// What was asked for.
struct Options {
    figures: Vec<Figure>,
    runs: usize,
    json: Option<String>,
    markdown: bool,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            say(&format!("{error}\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    if let Some(obstacle) = binaries::obstacle() {
        say(&format!("cannot measure here: {obstacle}\n{USAGE}"));
        return ExitCode::from(if binaries::all_required() { 1 } else { 77 });
    }
    match play(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Measures; prints also what was measured before something failed.
fn play(options: &Options) -> Result<(), HarnessError> {
    let stop = Interrupt::watch()?;
    let mut report = Report { setting: setting(), ..Report::default() };
    let mut outcome = Ok(());
    for figure in &options.figures {
        say(&format!("{} ...", figure.name()));
        outcome = figure.measure(options.runs, &stop, &mut report);
        if outcome.is_err() {
            break;
        }
    }
    print!("{}", if options.markdown { report.markdown() } else { report.table() });
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&report).map_err(|e| HarnessError::broken(e.to_string()))?;
        std::fs::write(path, text + "\n").map_err(HarnessError::io(path.clone()))?;
    }
    outcome
}

fn setting() -> String {
    let processors = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    let kernel = kernel.unwrap_or_default();
    format!(
        "one machine with {processors} processors, Linux {kernel}, three hosts in network namespaces, {build} build"
    )
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { figures: Vec::new(), runs: RUNS, json: None, markdown: false };
    while let Some(word) = words.next() {
        match word.as_str() {
            "all" => options.figures.extend(Figure::ALL),
            "--markdown" => options.markdown = true,
            "--json" => options.json = Some(words.next().ok_or("--json needs a file")?),
            "--runs" => {
                let runs = words.next().and_then(|n| n.parse().ok()).filter(|n| *n > 0);
                options.runs = runs.ok_or("--runs needs a number above 0")?;
            }
            name => {
                let figure = Figure::ALL.into_iter().find(|f| f.name() == name);
                options.figures.push(figure.ok_or_else(|| format!("there is no figure '{name}'"))?);
            }
        }
    }
    if options.figures.is_empty() {
        options.figures.extend(Figure::ALL);
    }
    Ok(options)
}
