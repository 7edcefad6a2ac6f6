//! A host loses power.

use libtest_mimic::Trial;
use muster_tests::harness::{Cluster, HarnessError};

use crate::scene::{FAILOVER_LIMIT, Scene};
use crate::stage::{Played, Stage};

pub fn trials(stage: &Stage) -> Vec<Trial> {
    vec![
        stage.shared("crash::of_a_follower", |cluster| crash(cluster, "crash-follower", false)),
        stage.shared("crash::of_the_leader", |cluster| crash(cluster, "crash-leader", true)),
    ]
}

fn crash(cluster: &mut Cluster, service: &'static str, leads: bool) -> Played {
    let scene = Scene::open(cluster, service)?;
    let old = scene.run()?;
    scene.lead(&old.node, leads)?;
    scene.cluster.stamps().untouched(service, &old)?;
    scene.cluster.host(&old.node)?.crash()?;
    let new = scene.moved(&old, "host crashed", FAILOVER_LIMIT)?;
    if new.node == old.node {
        return Err(HarnessError::broken("it runs on the host that crashed"));
    }
    scene.cluster.host(&old.node)?.start()?;
    scene.cluster.whole()?;
    // A host that is back gets nothing back by itself.
    scene.cluster.stamps().untouched(service, &new)?;
    scene.close()
}
