//! Clocks: the wall clock of an agent jumps, its clocks run a little off, a host comes back with another uptime.

use std::path::PathBuf;
use std::time::Duration;

use super::{Cost, Fault, Injury, long};
use crate::campaign::Scene;
use crate::harness::machine::STRANGE_UPTIME_S;
use crate::harness::{Cluster, HarnessError};
use crate::sim::rng::Rng;

/// Where libfaketime's form for threads may be.
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

fn library() -> Option<PathBuf> {
    LIBRARIES.iter().map(PathBuf::from).find(|path| path.is_file())
}

fn no_library() -> Option<String> {
    library().is_none().then(|| "libfaketime is not installed".to_owned())
}

/// The wall clock of an agent, mostly the leader's, is an hour off.
pub struct WallClockJumped;

impl Fault for WallClockJumped {
    fn name(&self) -> &'static str {
        "wall clock jumped"
    }

    fn obstacle(&self) -> Option<String> {
        no_library()
    }

    // Another fault may start the agent anew, with the true clock: then it could not be asked whether this one was felt.
    fn is_alone(&self) -> bool {
        true
    }

    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError> {
        let offset = if rng.percent(50) { "+3600s" } else { "-3600s" };
        let host = scene.victim(rng)?;
        let told = format!("wall clock {offset} for the agent of {}", scene.describe(&host));
        under(scene, rng, &host, &[&format!("FAKETIME={offset}"), "FAKETIME_DONT_FAKE_MONOTONIC=1"], told)
    }
}

/// All clocks of a voter run off by half of what the leases allow for.
pub struct RateOff;

impl Fault for RateOff {
    fn name(&self) -> &'static str {
        "clocks of a voter off by 0.5 %"
    }

    fn obstacle(&self) -> Option<String> {
        no_library()
    }

    // A guard that is started meanwhile would run with these clocks too, and set the kernel's timer by them.
    fn is_alone(&self) -> bool {
        true
    }

    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError> {
        let rate = if rng.percent(50) { "+0 x1.005" } else { "+0 x0.995" };
        let host = scene.victim(rng)?;
        let told = format!("clocks {rate} for the agent of {}", scene.describe(&host));
        under(scene, rng, &host, &[&format!("FAKETIME={rate}")], told)
    }
}

/// Restarts the agent alone: its guard goes on with the true clocks.
fn under(
    scene: &mut Scene,
    rng: &mut Rng,
    name: &str,
    variables: &[&str],
    told: String,
) -> Result<Injury, HarnessError> {
    let library = library().ok_or_else(|| HarnessError::broken("libfaketime is missing"))?;
    let preload = format!("LD_PRELOAD={}", library.display());
    let mut wrapper = vec!["/usr/bin/env", &preload, "FAKETIME_NO_CACHE=1"];
    wrapper.extend_from_slice(variables);
    let host = scene.cluster.host(name)?;
    host.kill_agent()?;
    host.start_under(&wrapper)?;
    let name = name.to_owned();
    let heal = Box::new(move |cluster: &mut Cluster| {
        let host = cluster.host(&name)?;
        let is_faked = host.agent_pid().is_some_and(|agent| {
            std::fs::read_to_string(format!("/proc/{agent}/maps")).is_ok_and(|maps| maps.contains("faketime"))
        });
        host.kill_agent()?;
        host.start()?;
        if is_faked { Ok(()) } else { Err(HarnessError::broken("the agent ran without libfaketime")) }
    });
    Ok(Injury { told, lasts: long(rng), cost: Cost::nothing(), heal })
}

/// A host crashes, and its clocks since boot have another past when it is back: no two hosts' clocks are comparable.
pub struct OtherUptime;

impl Fault for OtherUptime {
    fn name(&self) -> &'static str {
        "host back with another uptime"
    }

    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError> {
        let host = scene.victim(rng)?;
        let told = format!("power off at {}, back with another uptime", scene.describe(&host));
        let cost = Cost::host_lost(&host).with_recovery(Duration::from_secs(2));
        scene.cluster.host(&host)?.crash_to(STRANGE_UPTIME_S)?;
        let heal = Box::new(move |cluster: &mut Cluster| cluster.host(&host)?.ensure_started());
        Ok(Injury { told, lasts: long(rng), cost, heal })
    }
}
