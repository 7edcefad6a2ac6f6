//! The host of an exclusive service crashes, or loses its network: for how long does the service not run?

use super::report::{Report, Timing};
use super::{Interrupt, Scene};
use crate::harness::HarnessError;

#[derive(Clone, Copy)]
enum Fault {
    /// Agent and guard are killed at once, as if the host lost its power.
    Crash,
    /// The cable is pulled; the host itself goes on.
    Cut,
}

/// Target of the median, in milliseconds.
const MEDIAN_MS: f64 = 1100.0;
/// Target of the largest, in milliseconds.
const MAX_MS: f64 = 1500.0;

/// Measures all four cases.
///
/// # Errors
/// When a run fails.
pub fn measure(runs: usize, stop: &Interrupt, report: &mut Report) -> Result<(), HarnessError> {
    let mut scene = Scene::start("")?;
    let cases = [
        (Fault::Crash, false, "host crash, a follower"),
        (Fault::Crash, true, "host crash, the Raft leader"),
        (Fault::Cut, false, "host cut off, a follower"),
        (Fault::Cut, true, "host cut off, the Raft leader"),
    ];
    for (fault, leads, case) in cases {
        let row = Timing::new("failover", case, MEDIAN_MS, MAX_MS);
        let row = scene.repeat(runs, stop, row, |scene| once(scene, fault, leads))?;
        report.timings.push(row);
    }
    Ok(())
}

fn once(scene: &mut Scene, fault: Fault, leads: bool) -> Result<f64, HarnessError> {
    let node = scene.running()?.node;
    scene.place_leader(&node, leads)?;
    scene.rest()?;
    let old = scene.running()?;
    match fault {
        Fault::Crash => scene.cluster.host(&node)?.crash()?,
        Fault::Cut => scene.cluster.network().cut(&node)?,
    }
    let (_, gap_ms) = scene.next(&old)?;
    match fault {
        Fault::Crash => scene.cluster.host(&node)?.start()?,
        Fault::Cut => scene.cluster.network().heal(&node)?,
    }
    scene.rest()?;
    Ok(gap_ms)
}
