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
    let (mut foreground, mut background, mut throughout) = (Vec::new(), Vec::new(), Vec::new());
    for stage in all {
        match stage.place() {
            Place::Foreground => foreground.push(stage),
            Place::Background => background.push(stage),
            Place::Throughout => throughout.push(stage),
        }
    }
    let alone = if options.beside || foreground.is_empty() || background.is_empty() {
        Duration::ZERO
    } else {
        whole * 2 / 3
    };
    let foreground_length = if alone.is_zero() { whole } else { alone };
    let computing = InTurn { stages: background, begin: begun + alone, length: whole - alone };
    let judging = InTurn { stages: foreground, begin: begun, length: foreground_length };
    std::thread::scope(|scope| {
        let mut running = Vec::new();
        if alone.is_zero() {
            running.push(scope.spawn(|| judging.play(is_interrupted)));
            running.push(scope.spawn(|| computing.play_in_background(is_interrupted)));
        } else {
            running.push(scope.spawn(|| {
                let mut sections = judging.play(is_interrupted);
                sections.extend(computing.play_in_background(is_interrupted));
                sections
            }));
        }
        running.extend(throughout.into_iter().map(|stage| {
            let watching = InTurn { stages: vec![stage], begin: begun, length: whole };
            scope.spawn(move || watching.play(is_interrupted))
        }));
        for part in running {
            report.sections.extend(part.join().expect("a stage's panic is caught by itself"));
        }
    });
    report.took_s = begun.elapsed().as_secs();
    Ok(report)
}

/// Stages one after the other, each for its share of the time.
struct InTurn {
    stages: Vec<Box<dyn Stage>>,
    begin: Moment,
    length: Duration,
}

impl InTurn {
    fn play(self, is_interrupted: &(dyn Fn() -> bool + Sync)) -> Vec<Section> {
        let shares: u32 = self.stages.iter().map(|stage| stage.share()).sum();
        let mut given = 0;
        let one = |stage: Box<dyn Stage>| {
            given += stage.share();
            let end = self.begin + self.length * given / shares;
            stage::play(stage, &Limit { end, is_interrupted })
        };
        self.stages.into_iter().map(one).collect()
    }

    fn play_in_background(self, is_interrupted: &(dyn Fn() -> bool + Sync)) -> Vec<Section> {
        priority::yield_to_others();
        self.play(is_interrupted)
    }
}
