//! Agents are killed or restarted and guards executed anew under a running service: it must not notice. Its
//! stamps are a millisecond apart; the largest hole between two of them is compared with that of quiet times.

use std::path::Path;
use std::time::Duration;

use super::report::{Report, Timing};
use super::statistics::Samples;
use super::{Interrupt, Scene, say};
use crate::harness::wait::{self, Moment, millis};
use crate::harness::{HarnessError, stamps};

/// What is done to the hosts.
type Act = fn(&mut Scene, &str) -> Result<(), HarnessError>;

/// A lease that was not renewed in the act ends the service within this time.
const AFTERWARDS: Duration = Duration::from_millis(1300);

/// Measures all cases.
///
/// # Errors
/// When a run fails.
pub fn measure(runs: usize, stop: &Interrupt, report: &mut Report) -> Result<(), HarnessError> {
    let mut scene = Scene::start("")?;
    let cases: [(&str, Act); 5] = [
        ("nothing happens (for comparison)", |_, _| Ok(())),
        ("agent killed and started again", kill_agent),
        ("Raft leader's agent killed, service there", kill_leading_agent),
        ("every agent restarted, one by one", restart_all),
        ("guard executed anew", reload_guard),
    ];
    for (case, act) in cases {
        let (mut holes, mut touched) = (Samples::default(), 0);
        for run in 1..=runs {
            stop.check()?;
            let (hole_ms, untouched) = once(&mut scene, act)?;
            holes.add(hole_ms);
            touched += usize::from(!untouched);
            say(&format!("  {case} {run}/{runs}: largest hole {hole_ms:.1} ms, touched: {}", !untouched));
        }
        let mut row = Timing::untargeted("untouched", case).with(&holes);
        row.touched = Some(touched);
        row.overlap_ms = scene.overlap_ms()?;
        report.timings.push(row);
    }
    Ok(())
}

/// The largest hole around one act in milliseconds, and whether the copy that ran before still does.
fn once(scene: &mut Scene, act: Act) -> Result<(f64, bool), HarnessError> {
    scene.rest()?;
    let before = scene.running()?;
    let begin = Moment::now();
    act(scene, &before.node)?;
    wait::pass(AFTERWARDS);
    scene.cluster.whole()?;
    let after = scene.running()?;
    let untouched = after.path == before.path;
    Ok((largest_hole_ms(&before.path, begin)?, untouched))
}

fn largest_hole_ms(path: &Path, begin: Moment) -> Result<f64, HarnessError> {
    let all = stamps::read(path)?;
    let since: Vec<Moment> = all.into_iter().filter(|stamp| *stamp >= begin).collect();
    let holes = since.windows(2).map(|pair| pair[1].since(pair[0]));
    Ok(millis(holes.max().unwrap_or_default()))
}

fn kill_agent(scene: &mut Scene, node: &str) -> Result<(), HarnessError> {
    let host = scene.cluster.host(node)?;
    host.kill_agent()?;
    host.start()
}

fn kill_leading_agent(scene: &mut Scene, node: &str) -> Result<(), HarnessError> {
    scene.place_leader(node, true)?;
    kill_agent(scene, node)
}

fn restart_all(scene: &mut Scene, _node: &str) -> Result<(), HarnessError> {
    for node in scene.cluster.others(&[]) {
        let host = scene.cluster.host(&node)?;
        host.stop_agent()?;
        host.start()?;
        scene.cluster.whole()?;
    }
    Ok(())
}

fn reload_guard(scene: &mut Scene, node: &str) -> Result<(), HarnessError> {
    scene.cluster.host(node)?.reload_guard()
}
