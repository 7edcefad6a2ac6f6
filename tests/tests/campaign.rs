//! The short form of the campaign: about twenty faults on real processes; see `muster_tests::campaign`.
//!
//! `MUSTER_CAMPAIGN_SEED` chooses another plan, `MUSTER_CAMPAIGN_ROUNDS` another length, and
//! `MUSTER_REQUIRE_ALL=1` makes it a failure when the campaign or one of its faults can't run here.

use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use muster_tests::campaign::{self, Options, fault};
use muster_tests::harness::{Cluster, HarnessError, binaries, processes, tool, wait};
use muster_tests::soak::{Report, campaign::section};

/// The plan of every day.
const SEED: u64 = 5;
/// Rounds: at about five seconds each.
const ROUNDS: u64 = 20;

/// Makes this program a test that is going to be killed.
const VICTIM: &str = "MUSTER_TEST_VICTIM";
/// What the victim says when its cluster is there, before the names of its namespaces.
const READY: &str = "ready:";
/// How long it may take to get there.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long its processes may take to end with it.
const GONE_TIMEOUT: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    if std::env::var_os(VICTIM).is_some() {
        return be_killed();
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let mut trials = vec![
        Trial::ignorable_test("harness::a_killed_test_leaves_no_process", killed),
        Trial::ignorable_test("campaign::of_faults", faults),
    ];
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

/// A test with a cluster that does not come to its end.
fn be_killed() -> ExitCode {
    let cluster = Cluster::start(1).expect("a cluster of one host");
    println!("{READY} {}", cluster.network().namespaces().join(" "));
    loop {
        wait::pass(READY_TIMEOUT);
    }
}

fn killed() -> Result<Completion, Failed> {
    if let Some(obstacle) = binaries::obstacle() {
        return skipped(obstacle);
    }
    let dir = tempfile::tempdir()?;
    let log = dir.path().join("log");
    let own = std::env::current_exe()?.display().to_string();
    let mut victim = tool::spawn("env".as_ref(), &[&format!("{VICTIM}=1"), &own], &log)?;
    let ready = wait::until(READY_TIMEOUT, "the victim's cluster", || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(READY)).map(str::to_owned);
        line.ok_or(text)
    });
    let before = ready.and_then(|names| left(&names).map(|left| (names, left)));
    victim.kill()?;
    victim.wait()?;
    let (names, before) = before?;
    if before == 0 {
        return Err("the victim's cluster had no processes".into());
    }
    wait::until(GONE_TIMEOUT, "the victim's processes to end with it", || {
        let left = left(&names).map_err(|e| e.to_string())?;
        if left == 0 { Ok(()) } else { Err(format!("{left} of {before} are left")) }
    })?;
    muster_tests::harness::sweep::sweep();
    Ok(Completion::Completed)
}

fn left(namespaces: &str) -> Result<usize, HarnessError> {
    namespaces.split_whitespace().try_fold(0, |sum, name| {
        let alive = processes::inside(name)?.into_iter().filter(|pid| processes::is_alive(*pid));
        Ok(sum + alive.count())
    })
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
