//! What an upgrade does: guards execute themselves anew, agents are restarted in turn. It costs nothing.

use std::time::Duration;

use super::{Cost, Fault, Injury, span_ms};
use crate::campaign::Scene;
use crate::harness::{Cluster, HarnessError};
use crate::sim::rng::Rng;

/// Between two guards.
const GUARD_PAUSE: Duration = Duration::from_millis(300);

/// Every guard executes its binary anew.
pub struct GuardReloaded;

impl Fault for GuardReloaded {
    fn name(&self) -> &'static str {
        "guards executed anew"
    }

    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError> {
        let before: Vec<_> = scene.cluster.hosts().iter().map(crate::harness::Host::guard_pid).collect();
        for host in scene.cluster.hosts() {
            host.reload_guard()?;
            crate::harness::wait::pass(GUARD_PAUSE);
        }
        // At once: a second fault may take a host and its guard.
        let after: Vec<_> = scene.cluster.hosts().iter().map(crate::harness::Host::guard_pid).collect();
        if after != before {
            let told = format!("guards were {before:?} and are {after:?} after an upgrade");
            return Err(HarnessError::broken(told));
        }
        let heal = Box::new(|_: &mut Cluster| Ok(()));
        let told = "every guard executes its binary anew".to_owned();
        Ok(Injury { told, lasts: span_ms(rng, 500, 2_000), cost: Cost::nothing(), heal })
    }
}

/// The agents are restarted in turn.
pub struct RollingRestart;

impl Fault for RollingRestart {
    fn name(&self) -> &'static str {
        "agents restarted in turn"
    }

    fn is_alone(&self) -> bool {
        true
    }

    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError> {
        for host in scene.cluster.others(&[]) {
            scene.cluster.host(&host)?.stop_agent()?;
            crate::harness::wait::pass(span_ms(rng, 0, 500));
            scene.cluster.host(&host)?.start()?;
            scene.cluster.whole()?;
        }
        let told = "all agents restarted in turn".to_owned();
        let heal = Box::new(|_: &mut Cluster| Ok(()));
        Ok(Injury { told, lasts: Duration::ZERO, cost: Cost::nothing(), heal })
    }
}
