//! Cables are pulled, packets are lost, hosts freeze.

use std::time::Duration;

use libtest_mimic::Trial;
use muster_tests::harness::{Cluster, HarnessError, wait};

use crate::scene::{FAILOVER_LIMIT, Scene};
use crate::stage::{Played, Stage};

/// How long a fault lasts that must change nothing: several leases.
const QUIET: Duration = Duration::from_secs(3);
/// How long an old copy gets to show itself after its host is back: several leases.
const HAUNT: Duration = Duration::from_millis(1500);

pub fn trials(stage: &Stage) -> Vec<Trial> {
    vec![
        stage.shared("partition::of_a_follower", |c| cut(c, "cut-follower", false)),
        stage.shared("partition::of_the_leader", |c| cut(c, "cut-leader", true)),
        stage.shared("partition::between_leader_and_host_only", between_leader_and_host),
        stage.shared("partition::host_hears_nothing", host_hears_nothing),
        stage.shared("partition::a_fifth_of_the_packets_is_lost", lossy),
        stage.shared("frozen::follower", |c| freeze(c, "frozen-follower", false)),
        stage.shared("frozen::leader", |c| freeze(c, "frozen-leader", true)),
    ]
}

fn cut(cluster: &mut Cluster, service: &'static str, leads: bool) -> Played {
    let scene = Scene::open(cluster, service)?;
    let old = scene.run()?;
    scene.lead(&old.node, leads)?;
    scene.cluster.network().cut(&old.node)?;
    let new = scene.moved(&old, "host cut off", FAILOVER_LIMIT)?;
    elsewhere(&old.node, &new.node)?;
    scene.cluster.network().heal(&old.node)?;
    scene.cluster.whole()?;
    wait::pass(HAUNT);
    scene.cluster.stamps().untouched(service, &new)?;
    scene.close()
}

/// Everybody hears the host, the host hears nobody: its lease ends although its heartbeats arrive. Its own proof
/// that all is dead moves the service.
fn host_hears_nothing(cluster: &mut Cluster) -> Played {
    let scene = Scene::open(cluster, "deaf")?;
    let old = scene.run()?;
    scene.lead(&old.node, false)?;
    scene.cluster.network().deafen(&old.node)?;
    let new = scene.moved(&old, "acknowledgements lost one way", FAILOVER_LIMIT)?;
    elsewhere(&old.node, &new.node)?;
    scene.cluster.network().heal(&old.node)?;
    scene.cluster.whole()?;
    wait::pass(HAUNT);
    scene.cluster.stamps().untouched("deaf", &new)?;
    scene.close()
}

fn between_leader_and_host(cluster: &mut Cluster) -> Played {
    let scene = Scene::open(cluster, "partial")?;
    let run = scene.run()?;
    scene.lead(&run.node, false)?;
    let leader = scene.cluster.api().leader()?;
    scene.cluster.network().separate(&leader, &run.node)?;
    wait::pass(QUIET);
    let judged = scene.cluster.stamps().untouched("partial", &run);
    for host in [&leader, &run.node] {
        scene.cluster.network().heal(host)?;
    }
    judged?;
    scene.cluster.whole()?;
    scene.cluster.stamps().untouched("partial", &run)?;
    scene.close()
}

fn lossy(cluster: &mut Cluster) -> Played {
    let scene = Scene::open(cluster, "lossy")?;
    let run = scene.run()?;
    scene.cluster.network().lose(&run.node, 20)?;
    wait::pass(QUIET);
    let judged = scene.cluster.stamps().untouched("lossy", &run);
    scene.cluster.network().heal(&run.node)?;
    judged?;
    scene.cluster.whole()?;
    scene.close()
}

fn freeze(cluster: &mut Cluster, service: &'static str, leads: bool) -> Played {
    let scene = Scene::open(cluster, service)?;
    let old = scene.run()?;
    scene.lead(&old.node, leads)?;
    scene.cluster.host(&old.node)?.freeze()?;
    let new = scene.moved(&old, "host frozen", FAILOVER_LIMIT);
    wait::pass(QUIET);
    // Also when the case has failed already: the next one needs its processes.
    scene.cluster.host(&old.node)?.thaw()?;
    let new = new?;
    elsewhere(&old.node, &new.node)?;
    wait::pass(HAUNT);
    scene.cluster.stamps().never_two(service)?;
    scene.cluster.whole()?;
    scene.cluster.stamps().untouched(service, &new)?;
    scene.close()
}

fn elsewhere(old: &str, new: &str) -> Played {
    if old == new {
        return Err(HarnessError::broken(format!("it runs on {old} again, which is not there")));
    }
    Ok(())
}
