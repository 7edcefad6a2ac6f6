//! The shim, above all exclusive tasks of a host, dies or stands still: they die with it, or when its timer is not
//! set anew.

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::{Cost, Fault, Injury, long};
use crate::campaign::Scene;
use crate::harness::{Cluster, HarnessError, processes};
use crate::sim::rng::Rng;

/// It is killed.
pub struct Killed;

impl Fault for Killed {
    fn name(&self) -> &'static str {
        "shim killed"
    }

    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError> {
        let (host, shims) = shims(scene, rng)?;
        let told = format!("kill -9 of the shim of {}", scene.describe(&host));
        shims.iter().for_each(|shim| processes::signal(*shim, Signal::SIGKILL));
        let heal = Box::new(|_: &mut Cluster| Ok(()));
        Ok(Injury { told, lasts: long(rng), cost: Cost::services_of(&host), heal })
    }
}

/// It stands still. The kernel's timer ends its tasks, but the guard, which sees its lease renewed, does not know.
pub struct Frozen;

impl Fault for Frozen {
    fn name(&self) -> &'static str {
        "shim frozen"
    }

    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError> {
        let (host, shims) = shims(scene, rng)?;
        let told = format!("SIGSTOP of the shim of {}", scene.describe(&host));
        shims.iter().for_each(|shim| processes::signal(*shim, Signal::SIGSTOP));
        let cost = Cost::services_of(&host);
        let heal = Box::new(move |cluster: &mut Cluster| {
            shims.iter().try_for_each(|shim| cluster.host(&host)?.resume(*shim))
        });
        Ok(Injury { told, lasts: long(rng), cost, heal })
    }
}

fn shims(scene: &mut Scene, rng: &mut Rng) -> Result<(String, Vec<Pid>), HarnessError> {
    let host = scene.busy(rng)?;
    let shims = scene.cluster.host(&host)?.shims();
    if shims.is_empty() {
        return Err(HarnessError::broken(format!("the guard of {host} has no shim")));
    }
    Ok((host, shims))
}
