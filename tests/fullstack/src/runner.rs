//! Many seeds: two processes at a time, the determinism of some, one table.

pub mod child;
mod table;

use std::ops::Range;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use self::child::{RESULT, Told};
use self::table::Table;
use crate::mutant::Mutant;

/// Seeds of the short form.
const SHORT_SEEDS: u64 = 200;
/// How many there are.
const SEEDS_VARIABLE: &str = "MUSTER_FULLSTACK_SEEDS";
/// The first one.
const FIRST_VARIABLE: &str = "MUSTER_FULLSTACK_FIRST";
/// One seed in so many is run twice: its two traces must be equal.
const TWICE_EVERY: u64 = 100;

/// The whole program; the arguments are those behind its name.
///
/// # Panics
/// When an argument or a variable is not a number, or names no mutant.
#[must_use]
pub fn main(arguments: &[String]) -> ExitCode {
    let after = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).map(String::as_str)
    };
    let mutant = after("--mutant").map(|name| Mutant::named(name).expect("a mutant of that name"));
    if let Some(seed) = after("--child") {
        return child::run(seed.parse().expect("a seed"), mutant, false);
    }
    if let Some(seed) = after("--seed") {
        return child::run(seed.parse().expect("a seed"), mutant, true);
    }
    if let Some(limit) = after("--mutants") {
        return Runner::default().hunt(limit.parse().expect("a number of seeds"));
    }
    if arguments.iter().any(|argument| argument == "--list") {
        println!("fullstack: test");
        return ExitCode::SUCCESS;
    }
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number of seeds"));
    let first = number(FIRST_VARIABLE).unwrap_or(1);
    let seeds = number(SEEDS_VARIABLE).unwrap_or(SHORT_SEEDS);
    Runner::default().run(first..first + seeds)
}

/// Runs seeds.
pub struct Runner {
    at_once: usize,
}

/// How many processes run at once; as many as there are processors unless it says something else.
const JOBS_VARIABLE: &str = "MUSTER_FULLSTACK_JOBS";

impl Default for Runner {
    fn default() -> Self {
        let wanted = std::env::var(JOBS_VARIABLE).ok().and_then(|text| text.parse().ok());
        let processors = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self { at_once: wanted.unwrap_or(processors) }
    }
}

impl Runner {
    /// Runs them all and judges.
    ///
    /// # Panics
    /// Never: no thread of it panics.
    #[must_use]
    pub fn run(&self, seeds: Range<u64>) -> ExitCode {
        let mut twice = 0;
        let mut jobs: Vec<(u64, bool)> = seeds.clone().map(|seed| (seed, false)).collect();
        for seed in seeds.step_by(usize::try_from(TWICE_EVERY).unwrap_or(100)) {
            jobs.push((seed, true));
            twice += 1;
        }
        let table = Mutex::new(Table::default());
        self.each(&jobs, |(seed, again)| {
            let told = one(*seed, None);
            let mut table = table.lock().expect("no thread panics");
            if *again {
                table.add_again(*seed, &told)
            } else {
                table.add(*seed, &told)
            }
            true
        });
        let table = table.into_inner().expect("no thread panics");
        println!("{}", table.told(twice));
        for failure in &table.failures {
            println!("FAILED {failure}");
        }
        if table.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// For each mutant, how many seeds it takes to catch it.
    ///
    /// # Panics
    /// Never: no thread of it panics.
    #[must_use]
    pub fn hunt(&self, limit: u64) -> ExitCode {
        let mut escaped = 0;
        println!("{:<18} {:>6}  {:<34} what", "mutant", "seeds", "promise");
        for (name, _) in Mutant::ALL {
            let caught = Mutex::new(None::<(u64, String, String)>);
            let seeds: Vec<u64> = (1..=limit).collect();
            self.each(&seeds, |seed| {
                if let Ok(told) = one(*seed, Some(name))
                    && let Some(violation) = told.violations.into_iter().next()
                {
                    let mut caught = caught.lock().expect("no thread panics");
                    if caught.as_ref().is_none_or(|(earlier, ..)| seed < earlier) {
                        *caught = Some((*seed, violation.0, violation.1));
                    }
                }
                caught.lock().expect("no thread panics").is_none()
            });
            match caught.into_inner().expect("no thread panics") {
                Some((seed, promise, what)) => {
                    let what = what.lines().next().unwrap_or_default();
                    println!("{name:<18} {seed:>6}  {promise:<34} {what}");
                }
                None => {
                    escaped += 1;
                    println!("{name:<18} escaped {limit} seeds");
                }
            }
        }
        if escaped == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// Runs the jobs, several at once, until one says that it is enough.
    fn each<T: Sync>(&self, jobs: &[T], work: impl Fn(&T) -> bool + Sync) {
        let next = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..self.at_once {
                scope.spawn(|| {
                    loop {
                        let at = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap_or(usize::MAX);
                        let Some(job) = jobs.get(at) else { return };
                        if !work(job) {
                            next.store(u64::MAX / 2, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
    }
}

/// Runs one seed in a process of its own.
#[allow(
    clippy::disallowed_methods,
    reason = "a run needs a process of its own: see muster_fullstack::kernel"
)]
fn one(seed: u64, mutant: Option<&str>) -> Result<Told, String> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut command = Command::new(program);
    command.args(["--child", &seed.to_string()]).stdin(Stdio::null());
    if let Some(mutant) = mutant {
        command.args(["--mutant", mutant]);
    }
    let output = command.output().map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().rev().find_map(|line| line.strip_prefix(RESULT));
    let Some(line) = line else {
        let errors = String::from_utf8_lossy(&output.stderr);
        let last: Vec<&str> = errors.lines().rev().take(5).collect();
        return Err(format!("it ended with {} and no result: {}", output.status, last.join(" / ")));
    };
    serde_json::from_str(line).map_err(|e| e.to_string())
}
