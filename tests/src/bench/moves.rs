//! Planned moves of an exclusive service. The stamping service stops as soon as it is asked to, so the gap is
//! Muster's own work plus the start of the service, which is measured apart.

use super::report::{Report, Timing};
use super::{Interrupt, Scene};
use crate::bench::scene::SERVICE;
use crate::harness::HarnessError;

/// Target of the median, in milliseconds.
const MEDIAN_MS: f64 = 30.0;
/// Target of the largest, in milliseconds.
const MAX_MS: f64 = 100.0;

/// Measures drains and moves.
///
/// # Errors
/// When a run fails.
pub fn measure(runs: usize, stop: &Interrupt, report: &mut Report) -> Result<(), HarnessError> {
    let mut scene = Scene::start("")?;
    let row = Timing::new("planned", "drain of the host", MEDIAN_MS, MAX_MS);
    report.timings.push(scene.repeat(runs, stop, row, drain)?);
    let row = Timing::new("planned", "move to another host", MEDIAN_MS, MAX_MS);
    report.timings.push(scene.repeat(runs, stop, row, move_away)?);
    Ok(())
}

fn drain(scene: &mut Scene) -> Result<f64, HarnessError> {
    let old = scene.running()?;
    scene.cluster.api().drain(&old.node)?;
    let (_, gap_ms) = scene.next(&old)?;
    scene.cluster.api().undrain(&old.node)?;
    scene.rest()?;
    Ok(gap_ms)
}

fn move_away(scene: &mut Scene) -> Result<f64, HarnessError> {
    let old = scene.running()?;
    let others = scene.cluster.others(&[&old.node]);
    let to = others.first().map_or("", String::as_str);
    scene.cluster.api().move_service(SERVICE, to, false)?;
    let (_, gap_ms) = scene.next(&old)?;
    scene.rest()?;
    Ok(gap_ms)
}
