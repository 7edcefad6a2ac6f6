//! The task's process dies: for how long does it not run until it was restarted on the same host?

use std::time::Duration;

use nix::sys::signal::Signal;

use super::report::{Report, Timing};
use super::scene::SERVICE;
use super::{Interrupt, Scene, memory};
use crate::harness::{HarnessError, processes, wait};

/// Target of the median, in milliseconds.
const MEDIAN_MS: f64 = 20.0;
/// Target of the largest, in milliseconds.
const MAX_MS: f64 = 50.0;
/// A restart is the first one when none was within this window, and the first one has no backoff.
const RESTART: &str = "[service.restart]\nwindow = \"1s\"";
/// So long after a restart the next one is a first one again.
const WINDOW: Duration = Duration::from_millis(1100);

/// Measures it.
///
/// # Errors
/// When a run fails.
pub fn measure(runs: usize, stop: &Interrupt, report: &mut Report) -> Result<(), HarnessError> {
    let mut scene = Scene::start(RESTART)?;
    let row = Timing::new("planned", "process killed, restarted on its host", MEDIAN_MS, MAX_MS);
    report.timings.push(scene.repeat(runs, stop, row, once)?);
    Ok(())
}

fn once(scene: &mut Scene) -> Result<f64, HarnessError> {
    wait::pass(WINDOW);
    let old = scene.running()?;
    let namespace = scene.cluster.host(&old.node)?.namespace().to_owned();
    let task = processes::inside(&namespace)?.into_iter().find(|pid| {
        memory::arguments(*pid).get(1).is_some_and(|word| word == "stamp")
            && processes::environment(*pid, "MUSTER_SERVICE").is_some_and(|s| s == SERVICE)
    });
    let task = task.ok_or_else(|| HarnessError::broken(format!("{} runs no stamping process", old.node)))?;
    processes::signal(task, Signal::SIGKILL);
    let (new, gap_ms) = scene.next(&old)?;
    if new.node != old.node {
        return Err(HarnessError::broken(format!("restarted on {} instead of {}", new.node, old.node)));
    }
    Ok(gap_ms)
}
