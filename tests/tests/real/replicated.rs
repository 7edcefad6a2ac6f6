//! Services of which several copies run.

use std::time::Duration;

use libtest_mimic::Trial;
use muster::stamp::Run;
use muster_proto::v1::act_on_service_request::Act;
use muster_tests::harness::wait::Moment;
use muster_tests::harness::{Cluster, HarnessError, stamps, wait};

use crate::scene::START_TIMEOUT;
use crate::stage::{Played, Stage};

/// A copy whose last stamp is older than this has ended: it stamps every millisecond.
const SILENT: Duration = Duration::from_millis(500);
/// How long a drain may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

pub fn trials(stage: &Stage) -> Vec<Trial> {
    vec![
        stage.shared("replicated::drain_replaces_first", drain_replaces_first),
        stage.shared("replicated::scaled_up_and_down", scaled),
        stage.shared("everywhere::one_on_each_host_and_no_more", everywhere),
    ]
}

fn open(cluster: &Cluster, service: &str, head: &str, copies: usize) -> Result<(), HarnessError> {
    let muster = &cluster.binaries().muster;
    let file = stamps::service(muster, cluster.stamps().directory(), service, head);
    cluster.api().apply(&file)?;
    running(cluster, service, copies).map(|_| ())
}

/// Waits until exactly so many copies stamp; these.
fn running(cluster: &Cluster, service: &str, copies: usize) -> Result<Vec<Run>, HarnessError> {
    wait::until(START_TIMEOUT, &format!("{copies} copies of {service}"), || {
        let runs = living(cluster, service).map_err(|e| e.to_string())?;
        if runs.len() == copies { Ok(runs) } else { Err(format!("{} run", runs.len())) }
    })
}

fn living(cluster: &Cluster, service: &str) -> Result<Vec<Run>, HarnessError> {
    let now = Moment::now();
    let runs = cluster.stamps().runs(service)?.into_iter();
    Ok(runs.filter(|run| now.since(Moment(run.last_ns)) < SILENT).collect())
}

fn drain_replaces_first(cluster: &mut Cluster) -> Played {
    open(cluster, "three", "mode = \"replicated\"\ncount = 3\n[service.placement]\nspread = \"zone\"", 3)?;
    let since = Moment::now();
    let host = cluster.others(&[]).swap_remove(2);
    cluster.api().drain(&host)?;
    let drained = cluster.api().until(DRAIN_TIMEOUT, "the host to be drained", |status| {
        let node = status.nodes.iter().find(|n| n.name == host);
        let left = node.and_then(|n| n.drain.as_ref()).map_or(u32::MAX, |d| d.remaining);
        if left == 0 { Ok(()) } else { Err(format!("{left} left")) }
    });
    cluster.api().undrain(&host)?;
    drained?;
    let now = running(cluster, "three", 3)?;
    if now.iter().any(|run| run.node == host) {
        return Err(HarnessError::broken(format!("a copy still runs on {host}")));
    }
    never_below(cluster, "three", 3, since)?;
    cluster.api().remove_service("three")
}

/// Fails if fewer than `copies` ran at any moment since then. Only the end of a run makes them fewer.
fn never_below(cluster: &Cluster, service: &str, copies: usize, since: Moment) -> Played {
    let now = Moment::now();
    let runs = cluster.stamps().runs(service)?;
    let ends =
        runs.iter().map(|run| Moment(run.last_ns)).filter(|end| *end > since && now.since(*end) > SILENT);
    for end in ends {
        let left = runs.iter().filter(|run| run.first_ns <= end.0 && run.last_ns > end.0).count();
        if left < copies {
            return Err(HarnessError::broken(format!(
                "only {left} copies of {service} ran for a time: {runs:?}"
            )));
        }
    }
    Ok(())
}

fn scaled(cluster: &mut Cluster) -> Played {
    open(cluster, "scaled", "mode = \"replicated\"\ncount = 1", 1)?;
    for copies in [3, 2] {
        cluster.api().act_on_service("scaled", Act::Scale(copies))?;
        running(cluster, "scaled", copies as usize)?;
    }
    cluster.api().remove_service("scaled")
}

fn everywhere(cluster: &mut Cluster) -> Played {
    open(cluster, "each", "mode = \"everywhere\"", 3)?;
    let host = cluster.others(&[]).swap_remove(1);
    cluster.host(&host)?.crash()?;
    cluster.api().until(START_TIMEOUT, "the loss to be noticed", |status| {
        let lost = status.nodes.iter().any(|n| n.name == host && n.state == "lost");
        if lost { Ok(()) } else { Err("it is not".to_owned()) }
    })?;
    // A lost copy of such a service is never replaced elsewhere.
    wait::pass(SILENT * 2);
    let left = living(cluster, "each")?;
    if left.len() != 2 {
        return Err(HarnessError::broken(format!("{} copies run on two hosts", left.len())));
    }
    cluster.host(&host)?.start()?;
    cluster.whole()?;
    let mut nodes: Vec<String> = running(cluster, "each", 3)?.into_iter().map(|run| run.node).collect();
    nodes.sort();
    if nodes != cluster.others(&[]) {
        return Err(HarnessError::broken(format!("copies run on {nodes:?}")));
    }
    cluster.api().remove_service("each")
}
