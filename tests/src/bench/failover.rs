//! The host of an exclusive service crashes, or loses its network: how long is the service away?
//!
//! After a crash that is the gap between the stamps of the two copies. A host that is cut off lets its copy run on,
//! out of reach, until the lease ends, so there the time counts from the cut, and the gap alone is a row of its own.

use super::report::{Report, Timing};
use super::statistics::Samples;
use super::{Interrupt, Scene};
use crate::harness::HarnessError;
use crate::harness::wait::{Moment, millis};

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
        (Fault::Cut, false, "host cut off, a follower, from the cut"),
        (Fault::Cut, true, "host cut off, the Raft leader, from the cut"),
    ];
    for (fault, leads, case) in cases {
        let mut gaps = Samples::default();
        let row = Timing::new("failover", case, MEDIAN_MS, MAX_MS);
        let row = scene.repeat(runs, stop, row, |scene| {
            let away = once(scene, fault, leads)?;
            gaps.add(away.between_stamps_ms);
            Ok(match fault {
                Fault::Crash => away.between_stamps_ms,
                Fault::Cut => away.since_fault_ms,
            })
        })?;
        let overlap_ms = row.overlap_ms;
        report.timings.push(row);
        if matches!(fault, Fault::Cut) {
            let case = case.replace("from the cut", "nothing running");
            let row = Timing::untargeted("failover", &case).with(&gaps);
            report.timings.push(Timing { overlap_ms, ..row });
        }
    }
    Ok(())
}

/// How long the service was away.
struct Away {
    since_fault_ms: f64,
    between_stamps_ms: f64,
}

fn once(scene: &mut Scene, fault: Fault, leads: bool) -> Result<Away, HarnessError> {
    let node = scene.running()?.node;
    scene.place_leader(&node, leads)?;
    scene.rest()?;
    let old = scene.running()?;
    let begin = Moment::now();
    match fault {
        Fault::Crash => scene.cluster.host(&node)?.crash()?,
        Fault::Cut => scene.cluster.network().cut(&node)?,
    }
    let (new, between_stamps_ms) = scene.next_elsewhere(&old)?;
    let since_fault_ms = millis(Moment(new.first_ns).since(begin));
    match fault {
        Fault::Crash => scene.cluster.host(&node)?.start()?,
        Fault::Cut => scene.cluster.network().heal(&node)?,
    }
    scene.rest()?;
    Ok(Away { since_fault_ms, between_stamps_ms })
}
