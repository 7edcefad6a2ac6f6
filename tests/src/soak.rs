//! The long forms of the tests, for a given time, and one table of what they counted.
//!
//! ```text
//!   in the foreground, one after the other:  campaign                        ordinary priority
//!   throughout:                              quiet clusters                  ordinary priority, hardly any load
//!   in the background, one after the other:  core simulation, …              only what the others leave over
//! ```
//! So the processors are busy all the time, and still the real processes meet an idle machine. A further stage is one
//! more `Stage` in [`stages`].

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
pub use report::Report;
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
    std::thread::scope(|scope| {
        let in_turn = |stages: Vec<Box<dyn Stage>>, idle: bool| {
            let shares: u32 = stages.iter().map(|stage| stage.share()).sum();
            move || {
                if idle {
                    priority::yield_to_others();
                }
                let mut sections = Vec::new();
                let mut given = 0;
                for stage in stages {
                    given += stage.share();
                    let end = begun + whole * given / shares;
                    sections.push(stage::play(stage, &Limit { end, is_interrupted }));
                }
                sections
            }
        };
        let mut running =
            vec![scope.spawn(in_turn(background, true)), scope.spawn(in_turn(foreground, false))];
        running.extend(throughout.into_iter().map(|stage| scope.spawn(in_turn(vec![stage], false))));
        for part in running {
            report.sections.extend(part.join().expect("a stage's panic is caught by itself"));
        }
    });
    report.took_s = begun.elapsed().as_secs();
    Ok(report)
}
