//! The long forms of the tests, for a given time, with one table at the end: `soak [MINUTES]`.

use std::process::ExitCode;

use muster_tests::bench::Interrupt;
use muster_tests::harness::HarnessError;
use muster_tests::soak::{self, Options, Report};

/// The exit status of wrong usage.
const USAGE_STATUS: u8 = 64;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}\n{}", soak::options::USAGE);
            return ExitCode::from(USAGE_STATUS);
        }
    };
    match play(&options) {
        Ok(report) if report.violations() == 0 => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn play(options: &Options) -> Result<Report, HarnessError> {
    let stop = Interrupt::watch()?;
    let report = soak::run(options, &|| stop.is_set())?;
    print!("{report}");
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&report).map_err(|e| HarnessError::broken(e.to_string()))?;
        std::fs::write(path, text + "\n").map_err(HarnessError::io(path.clone()))?;
    }
    Ok(report)
}
