//! A guard dies or stands still. Its tasks die with it, or at the deadline of the lease that it no longer renews.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Cost, Fault, Injury, long, span_ms};
use crate::campaign::Scene;
use crate::harness::{Cluster, HarnessError, processes};
use crate::sim::rng::Rng;

/// A guard is killed; its agent starts another one.
pub struct Killed;

impl Fault for Killed {
    fn name(&self) -> &'static str {
        "guard killed"
    }

    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError> {
        let host = scene.victim(rng)?;
        let told = format!("kill -9 of the guard of {}", scene.describe(&host));
        scene.cluster.host(&host)?.kill_guard()?;
        let cost = Cost { fails_over: true, ..Cost::services_of(&host) };
        Ok(Injury { told, lasts: long(rng), cost, heal: Box::new(|_: &mut Cluster| Ok(())) })
    }
}

/// A guard stands still for longer than its lease: the kernel kills for it.
pub struct Frozen;

impl Fault for Frozen {
    fn name(&self) -> &'static str {
        "guard frozen"
    }

    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError> {
        let host = scene.victim(rng)?;
        let told = format!("SIGSTOP of the guard of {}", scene.describe(&host));
        let heal = freeze(scene, &host)?;
        Ok(Injury { told, lasts: long(rng), cost: Cost::host_lost(&host), heal })
    }
}

/// A guard stands still for about its lease, more or less.
pub struct FrozenBriefly;

impl Fault for FrozenBriefly {
    fn name(&self) -> &'static str {
        "guard frozen for about a lease"
    }

    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError> {
        let host = scene.victim(rng)?;
        let lasts = span_ms(rng, 700, 1_200);
        let told = format!("SIGSTOP of the guard of {}", scene.describe(&host));
        let heal = freeze(scene, &host)?;
        let cost = Cost { fails_over: false, ..Cost::host_lost(&host) };
        Ok(Injury { told, lasts, cost: cost.with_recovery(Duration::from_secs(2)), heal })
    }
}

fn freeze(scene: &mut Scene, host: &str) -> Result<super::Heal, HarnessError> {
    let guard = scene.cluster.host(host)?.guard_pid();
    let guard = guard.ok_or_else(|| HarnessError::broken(format!("{host} has no guard")))?;
    processes::signal(guard, Signal::SIGSTOP);
    let host = host.to_owned();
    Ok(Box::new(move |cluster: &mut Cluster| cluster.host(&host)?.resume(guard)))
}
