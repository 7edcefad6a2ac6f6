//! The long forms of the tests, for a given time, and one table of what they counted.
//!
//! ```text
//!   first two thirds:  campaign, alone           ordinary priority
//!   last third:        core simulation, …        one after the other; only what the others leave over
//!   throughout:        quiet clusters            ordinary priority, hardly any load
//! ```
//! Alone, because the campaign judges times: a process that computes at the lowest priority may hold a lock of the
//! kernel that every fork and exec of the machine waits for (decision 22). `--beside` runs both at once, for the whole
//! time: that is such a machine, on which the promises hold as well, but not every bound in time. A further stage is
//! one more `Stage` in [`stages`].

pub mod campaign;
pub mod hostile;
pub mod options;
pub mod priority;
pub mod quiet;
pub mod report;
pub mod simulation;
pub mod stage;
pub mod whole_stack;

use std::time::Duration;

pub use options::Options;
pub use report::{Report, Section};
pub use stage::{Limit, Place, Stage};

use crate::harness::HarnessError;
use crate::harness::wait::Moment;

/// All stages, in the order of the table.
#[must_use]
pub fn stages(options: &Options) -> Vec<Box<dyn Stage>> {
    vec![
        Box::new(simulation::Simulation { seed: options.seed }),
        Box::new(whole_stack::WholeStack { seed: options.seed }),
        Box::new(hostile::HostileInput { seed: options.seed }),
        Box::new(campaign::CampaignStage::new(options)),
        Box::new(quiet::Quiet { loss_percent: 0 }),
        Box::new(quiet::Quiet { loss_percent: 5 }),
        Box::new(quiet::Quiet { loss_percent: 20 }),
    ]
}

/// Runs the stages that were asked for, and tells what they counted.
///
/// # Errors
/// When a name is not a stage's.
pub fn run(options: &Options, is_interrupted: &(dyn Fn() -> bool + Sync)) -> Result<Report, HarnessError> {
    let mut all = stages(options);
    if let Some(only) = &options.only {
        all.retain(|stage| stage.name().contains(only.as_str()));
    }
    if all.is_empty() {
        let only = options.only.clone().unwrap_or_default();
        return Err(HarnessError::broken(format!("there is no stage '{only}'")));
    }
    let begun = Moment::now();
    let whole = Duration::from_secs(options.minutes * 60);
    let mut report = Report::new(options);
    std::thread::scope(|scope| {
        let play = |turns: Vec<Turn>| -> Vec<Section> {
            turns.into_iter().flat_map(|turn| turn.play(is_interrupted)).collect()
        };
        let threads = threads(all, options.beside, begun, whole);
        let running: Vec<_> = threads.into_iter().map(|turns| scope.spawn(move || play(turns))).collect();
        for part in running {
            report.sections.extend(part.join().expect("a stage's panic is caught by itself"));
        }
    });
    report.took_s = begun.elapsed().as_secs();
    Ok(report)
}

/// What each thread plays, turn after turn.
fn threads(all: Vec<Box<dyn Stage>>, beside: bool, begun: Moment, whole: Duration) -> Vec<Vec<Turn>> {
    let (mut foreground, mut background, mut threads) = (Vec::new(), Vec::new(), Vec::new());
    for stage in all {
        match stage.place() {
            Place::Foreground => foreground.push(stage),
            Place::Background => background.push(stage),
            Place::Throughout => {
                threads.push(vec![Turn { stages: vec![stage], begin: begun, length: whole, yields: false }]);
            }
        }
    }
    let is_alone = !beside && !foreground.is_empty() && !background.is_empty();
    let (first, rest) = if is_alone { (whole * 2 / 3, whole / 3) } else { (whole, whole) };
    let judging = Turn { stages: foreground, begin: begun, length: first, yields: false };
    let computing = Turn { stages: background, begin: begun + (whole - rest), length: rest, yields: true };
    if is_alone {
        threads.insert(0, vec![judging, computing]);
    } else {
        threads.splice(0..0, [vec![judging], vec![computing]]);
    }
    threads
}

/// Stages one after the other, each for its share of the time.
struct Turn {
    stages: Vec<Box<dyn Stage>>,
    begin: Moment,
    length: Duration,
    /// At the lowest priority, for what the thread does from here on.
    yields: bool,
}

impl Turn {
    fn play(self, is_interrupted: &(dyn Fn() -> bool + Sync)) -> Vec<Section> {
        if self.yields {
            priority::yield_to_others();
        }
        let shares: u32 = self.stages.iter().map(|stage| stage.share()).sum();
        let mut given = 0;
        let one = |stage: Box<dyn Stage>| {
            given += stage.share();
            let end = self.begin + self.length * given / shares;
            stage::play(stage, &Limit { end, is_interrupted })
        };
        self.stages.into_iter().map(one).collect()
    }
}
