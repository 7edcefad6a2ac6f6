//! Processors, memory and descriptors run short.

use std::time::Duration;

use super::{Cost, Fault, Injury, long, span_ms};
use crate::campaign::Scene;
use crate::harness::control_group::ControlGroup;
use crate::harness::{Cluster, HarnessError, wait};
use crate::sim::rng::Rng;

/// What is left of one processor for a starved host.
const STARVED_PERCENT: u64 = 3;
/// Too little for an agent to start in.
const MEMORY_BYTES: u64 = 4 << 20;
/// How long its process may take to be there.
const START_TIMEOUT: Duration = Duration::from_secs(5);
/// Too few for an agent to serve with.
const DESCRIPTORS: &str = "--nofile=40:40";
/// Processes that compute without end, on two processors.
const HOGS: usize = 8;

/// A whole host gets 3 % of a processor, about twice what it needs when nothing happens.
pub struct ProcessorStarved;

impl Fault for ProcessorStarved {
    fn name(&self) -> &'static str {
        "host starved of its processor"
    }

    fn obstacle(&self) -> Option<String> {
        ControlGroup::obstacle("cpu")
    }

    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError> {
        let host = scene.victim(rng)?;
        let told = format!("{STARVED_PERCENT} % of a processor for {}", scene.describe(&host));
        let group = ControlGroup::make("cpu", &host)?;
        group.limit_processor(STARVED_PERCENT)?;
        group.take_all(scene.cluster.host(&host)?.namespace())?;
        let cost = Cost::services_of(&host).with_recovery(Duration::from_secs(5));
        let heal = Box::new(move |_: &mut Cluster| end(&group));
        Ok(Injury { told, lasts: long(rng), cost, heal })
    }
}

fn end(group: &ControlGroup) -> Result<(), HarnessError> {
    let was_felt = group.was_felt();
    group.remove()?;
    if was_felt { Ok(()) } else { Err(HarnessError::broken("a limit was never met")) }
}

/// The whole machine computes: guards and voters' halves have a better priority, so nothing stops.
pub struct MachineOverloaded;

impl Fault for MachineOverloaded {
    fn name(&self) -> &'static str {
        "machine overloaded"
    }

    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError> {
        let name = scene.any(rng);
        let host = scene.cluster.host(&name)?;
        let log = host.dir().join("hogs.log");
        let start =
            |_| host.machine().spawn(std::path::Path::new("sh"), &["-c", "while :; do :; done"], &log);
        let mut hogs = (0..HOGS).map(start).collect::<Result<Vec<_>, _>>()?;
        let told = format!("{HOGS} processes compute without end");
        let heal = Box::new(move |_: &mut Cluster| {
            hogs.iter_mut().try_for_each(crate::harness::machine::Started::kill)
        });
        Ok(Injury { told, lasts: span_ms(rng, 1_500, 3_000), cost: Cost::nothing(), heal })
    }
}

/// An agent gets too little memory: it is killed as often as it starts.
pub struct MemoryExhausted;

impl Fault for MemoryExhausted {
    fn name(&self) -> &'static str {
        "agent out of memory"
    }

    fn obstacle(&self) -> Option<String> {
        ControlGroup::obstacle("memory")
    }

    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError> {
        let host = scene.victim(rng)?;
        let told = format!("{} MiB for the agent of {}", MEMORY_BYTES >> 20, scene.describe(&host));
        let group = ControlGroup::make("memory", &host)?;
        group.limit_memory(MEMORY_BYTES)?;
        let agent = scene.cluster.host(&host)?;
        agent.kill_agent()?;
        // Inside the host no control group can be seen: it waits until it was put into one.
        let limited = agent.dir().join("limited");
        let wait = format!("until [ -e {} ]; do sleep 0.02; done; exec \"$@\"", limited.display());
        agent.start_under(&["/bin/sh", "-c", &wait, "sh"])?;
        let pid = wait::until(START_TIMEOUT, "the agent's process", || {
            agent.agent_pid().ok_or_else(|| "it is not there".to_owned())
        })?;
        group.take(pid)?;
        std::fs::write(&limited, "").map_err(HarnessError::io("telling the agent to go on"))?;
        let heal = Box::new(move |cluster: &mut Cluster| {
            let host = cluster.host(&host)?;
            host.kill_agent()?;
            std::fs::remove_file(&limited).map_err(HarnessError::io("removing a file"))?;
            end(&group)?;
            host.start()
        });
        Ok(Injury { told, lasts: long(rng), cost: Cost::nothing(), heal })
    }
}

/// An agent gets too few descriptors.
pub struct DescriptorsExhausted;

impl Fault for DescriptorsExhausted {
    fn name(&self) -> &'static str {
        "agent out of descriptors"
    }

    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError> {
        let host = scene.victim(rng)?;
        let told = format!("{DESCRIPTORS} for the agent of {}", scene.describe(&host));
        let agent = scene.cluster.host(&host)?;
        agent.kill_agent()?;
        agent.start_under(&["/usr/bin/prlimit", DESCRIPTORS])?;
        let heal = Box::new(move |cluster: &mut Cluster| {
            let host = cluster.host(&host)?;
            host.kill_agent()?;
            host.start()
        });
        Ok(Injury { told, lasts: long(rng), cost: Cost::nothing(), heal })
    }
}
