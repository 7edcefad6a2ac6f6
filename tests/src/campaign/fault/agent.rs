//! An agent dies or stands still. The guard keeps the lease and the tasks, so it costs nothing.

use nix::sys::signal::Signal;

use super::{Cost, Fault, Injury, long, span_ms};
use crate::campaign::Scene;
use crate::harness::{HarnessError, processes};
use crate::sim::rng::Rng;

/// Any agent is killed and started again.
pub struct Killed;

impl Fault for Killed {
    fn name(&self) -> &'static str {
        "agent killed"
    }

    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError> {
        let host = scene.any(rng);
        kill(scene, rng, host)
    }
}

/// The leader's agent is.
pub struct LeaderKilled;

impl Fault for LeaderKilled {
    fn name(&self) -> &'static str {
        "leader's agent killed"
    }

    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError> {
        let host = scene.cluster.api().leader()?;
        kill(scene, rng, host)
    }
}

fn kill(scene: &mut Scene, rng: &mut Rng, host: String) -> Result<Injury, HarnessError> {
    let told = format!("kill -9 of the agent of {}", scene.describe(&host));
    let lasts = span_ms(rng, 0, 4_000);
    scene.cluster.host(&host)?.kill_agent()?;
    let heal = Box::new(move |cluster: &mut crate::harness::Cluster| cluster.host(&host)?.ensure_started());
    Ok(Injury { told, lasts, cost: Cost::nothing(), heal })
}

/// Any agent stands still.
pub struct Frozen;

impl Fault for Frozen {
    fn name(&self) -> &'static str {
        "agent frozen"
    }

    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError> {
        let host = scene.any(rng);
        freeze(scene, rng, &host)
    }
}

/// The leader's agent does.
pub struct LeaderFrozen;

impl Fault for LeaderFrozen {
    fn name(&self) -> &'static str {
        "leader's agent frozen"
    }

    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError> {
        let host = scene.cluster.api().leader()?;
        freeze(scene, rng, &host)
    }
}

fn freeze(scene: &mut Scene, rng: &mut Rng, host: &str) -> Result<Injury, HarnessError> {
    let told = format!("SIGSTOP of the agent of {}", scene.describe(host));
    let lasts = if rng.percent(50) { span_ms(rng, 100, 900) } else { long(rng) };
    let agent = scene.cluster.host(host)?.agent_pid();
    let agent = agent.ok_or_else(|| HarnessError::broken(format!("{host} has no agent")))?;
    processes::signal(agent, Signal::SIGSTOP);
    let frozen = host.to_owned();
    let heal = Box::new(move |cluster: &mut crate::harness::Cluster| cluster.host(&frozen)?.resume(agent));
    Ok(Injury { told, lasts, cost: Cost::nothing(), heal })
}
