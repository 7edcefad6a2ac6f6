//! What an operator does on purpose.

use std::time::Duration;

use libtest_mimic::Trial;
use muster_tests::harness::{Cluster, HarnessError, wait};

use crate::scene::Scene;
use crate::stage::{Played, Stage};

/// The figure is 100 ms; the rest is for a busy machine.
const PLANNED_LIMIT: Duration = Duration::from_millis(1000);
/// How long a drain may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(15);

pub fn trials(stage: &Stage) -> Vec<Trial> {
    vec![
        stage.shared("planned::drain_of_the_leader", drain_of_the_leader),
        stage.shared("planned::move_there_and_failover_back", move_and_failover),
    ]
}

/// A drained leader hands over first; the host's services follow; undrained, it gets nothing back by itself.
fn drain_of_the_leader(cluster: &mut Cluster) -> Played {
    let scene = Scene::open(cluster, "drained")?;
    let old = scene.run()?;
    scene.lead(&old.node, true)?;
    scene.cluster.api().drain(&old.node)?;
    let new = scene.moved(&old, "host drained", PLANNED_LIMIT)?;
    if scene.cluster.api().leader()? == old.node {
        return Err(HarnessError::broken("the service moved before the leader had handed over"));
    }
    let drained = scene.cluster.api().until(DRAIN_TIMEOUT, "the host to be drained", |status| {
        let node = status.nodes.iter().find(|n| n.name == old.node);
        let drain = node.and_then(|n| n.drain.as_ref()).ok_or("no drain is shown")?;
        let blocked: Vec<_> = drain.blocked.iter().map(|b| format!("{}: {}", b.instance, b.reason)).collect();
        if drain.remaining > 0 {
            return Err(format!("{} left; {}", drain.remaining, blocked.join(", ")));
        }
        if status.leader == old.node {
            return Err("it still leads".to_owned());
        }
        Ok(())
    });
    scene.cluster.api().undrain(&old.node)?;
    drained?;
    scene.cluster.whole()?;
    wait::pass(Duration::from_millis(500));
    scene.cluster.stamps().untouched("drained", &new)?;
    scene.close()
}

fn move_and_failover(cluster: &mut Cluster) -> Played {
    let scene = Scene::open(cluster, "moved")?;
    let old = scene.run()?;
    let to = scene.cluster.others(&[&old.node]).swap_remove(0);
    scene.cluster.api().move_service("moved", &to, false)?;
    let there = scene.moved(&old, "moved", PLANNED_LIMIT)?;
    if there.node != to {
        return Err(HarnessError::broken(format!("it was moved to {} and not to {to}", there.node)));
    }
    scene.cluster.api().move_service("moved", "", true)?;
    let back = scene.moved(&there, "failed over", PLANNED_LIMIT)?;
    if back.node == there.node {
        return Err(HarnessError::broken("failover left it where it was"));
    }
    scene.close()
}
