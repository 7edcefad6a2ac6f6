//! The short form of the campaign: about twenty faults on real processes; see `muster_tests::campaign`.
//!
//! `MUSTER_CAMPAIGN_SEED` chooses another plan, `MUSTER_CAMPAIGN_ROUNDS` another length, and
//! `MUSTER_REQUIRE_ALL=1` makes it a failure when the campaign or one of its faults can't run here.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use muster_tests::campaign::{self, Options, fault};
use muster_tests::harness::binaries;
use muster_tests::soak::{Report, campaign::section};

/// The plan of every day.
const SEED: u64 = 5;
/// Rounds: at about five seconds each.
const ROUNDS: u64 = 20;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let mut trials = vec![Trial::ignorable_test("campaign::of_faults", faults)];
    trials.extend(fault::all().into_iter().filter_map(|kind| {
        let obstacle = kind.obstacle()?;
        Some(Trial::ignorable_test(format!("campaign::can_inflict '{}'", kind.name()), || skipped(obstacle)))
    }));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn skipped(obstacle: String) -> Result<Completion, Failed> {
    if binaries::all_required() {
        return Err(format!("cannot run here, and MUSTER_REQUIRE_ALL=1: {obstacle}").into());
    }
    println!("SKIPPED: {obstacle}");
    Ok(Completion::ignored_with(obstacle))
}

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

fn faults() -> Result<Completion, Failed> {
    if let Some(obstacle) = binaries::obstacle() {
        return skipped(obstacle);
    }
    let options = Options {
        seed: number_from("MUSTER_CAMPAIGN_SEED").unwrap_or(SEED),
        rounds: number_from("MUSTER_CAMPAIGN_ROUNDS").unwrap_or(ROUNDS),
        only: None,
        told: true,
        pairs_percent: campaign::options::PAIRS_PERCENT,
    };
    let tally = campaign::play(&options, || false)?;
    let section = section("campaign on real processes", &tally);
    let mut report = Report::new(&muster_tests::soak::Options { seed: options.seed, ..Default::default() });
    report.sections = vec![section];
    println!("{report}");
    if tally.rounds < options.rounds || report.violations() > 0 {
        return Err(format!(
            "{} rounds of {}, {} violations",
            tally.rounds,
            options.rounds,
            report.violations()
        )
        .into());
    }
    Ok(Completion::Completed)
}
