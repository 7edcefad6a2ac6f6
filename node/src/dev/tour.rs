//! `muster dev --tour`: plays the main job and measures it by the service's own stamps.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_core::id::{ServiceName, TaskName};
use muster_core::spec::{Driver, ExecSpec, Mode, ServiceSpec, TaskSpec};
use muster_proto::v1::ClusterStatus;

use super::client::Client;
use super::cluster::DevCluster;
use super::{DevError, say};
use crate::clock;
use crate::stamp::{self, Run};

const SERVICE: &str = "hello";
/// How long any step may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);
/// Between two looks at the stamps.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What a step measured.
struct Gap {
    what: String,
    gap: Duration,
}

/// Plays, prints, and fails when the promise is broken.
pub(super) async fn play(cluster: &mut DevCluster, client: &Client) -> Result<(), DevError> {
    client.apply(example(cluster)?).await?;
    let mut host = wait_running(client).await?;
    wait_stamped(cluster, &host).await?;
    say(&format!("\nservice {SERVICE} (exclusive: never two) runs on {host}"));
    let mut gaps = Vec::new();
    for leads in [true, false] {
        host = crash_round(cluster, client, &host, leads, &mut gaps).await?;
    }
    if cluster.network().is_some() {
        host = cut_round(cluster, client, &host, &mut gaps).await?;
    }
    drain_round(cluster, client, &host, &mut gaps).await?;
    cluster.check()?;
    conclude(cluster, &gaps)
}

fn example(cluster: &DevCluster) -> Result<muster_proto::v1::ServiceSpec, DevError> {
    let name = |e: muster_core::id::NameError| DevError::Broken(e.to_string());
    let command =
        vec![cluster.exe().display().to_string(), "stamp".to_owned(), cluster.stamps().display().to_string()];
    let task = TaskSpec {
        name: TaskName::new("stamp").map_err(name)?,
        driver: Driver::Exec(ExecSpec { command, env: BTreeMap::new(), ..ExecSpec::default() }),
        health: None,
    };
    let service = ServiceName::new(SERVICE).map_err(name)?;
    Ok(muster_wire::spec_to_proto(&ServiceSpec::with_defaults(service, Mode::Exclusive, vec![task])))
}

fn host_of(status: &ClusterStatus) -> Option<&str> {
    let service = status.services.iter().find(|s| s.name == SERVICE)?;
    service.instances.iter().find(|i| i.state == "running").map(|i| i.node.as_str())
}

async fn wait_running(client: &Client) -> Result<String, DevError> {
    let status = client.until(STEP_TIMEOUT, "the service to run", |s| host_of(s).is_some()).await?;
    Ok(host_of(&status).unwrap_or_default().to_owned())
}

/// Kills the host of the service; returns where it runs then.
async fn crash_round(
    cluster: &mut DevCluster,
    client: &Client,
    host: &str,
    leads: bool,
    gaps: &mut Vec<Gap>,
) -> Result<String, DevError> {
    make_leader(cluster, client, host, leads).await?;
    let role = if leads { "the Raft leader" } else { "a follower" };
    say(&format!("killing agent and guard of {host}, {role} ..."));
    let before = runs(cluster)?.len();
    cluster.node_mut(host)?.crash()?;
    let (old, new) = next_run(cluster, before).await?;
    let gap = report(&format!("{host} ({role}) crashed"), &old, &new, gaps)?;
    say(&format!("  {SERVICE} runs on {} {} ms later", new.node, gap.as_millis()));
    cluster.start_again(host)?;
    come_back(cluster, client, host).await
}

/// Waits until the host is in the cluster again; where the service runs then.
async fn come_back(cluster: &DevCluster, client: &Client, host: &str) -> Result<String, DevError> {
    let nodes = cluster.size();
    client
        .until(STEP_TIMEOUT, "the host to be back", |s| {
            s.nodes.iter().filter(|n| n.state == "alive").count() == nodes && s.voters_alive == s.voters
        })
        .await?;
    say(&format!("  {host} is back; {SERVICE} stays where it is"));
    let now = wait_running(client).await?;
    wait_stamped(cluster, &now).await?;
    Ok(now)
}

/// Cuts the host of the service off: it lives on, and nobody can tell it to stop. Returns where the service runs
/// once the host is back.
async fn cut_round(
    cluster: &DevCluster,
    client: &Client,
    host: &str,
    gaps: &mut Vec<Gap>,
) -> Result<String, DevError> {
    let Some(network) = cluster.network() else { return Ok(host.to_owned()) };
    say(&format!("cutting {host} off from all others ..."));
    let before = runs(cluster)?.len();
    let cut_ns = stamp::monotonic_ns();
    network.cut(host)?;
    let (old, new) = next_run(cluster, before).await?;
    let outage = Duration::from_nanos(new.first_ns.saturating_sub(cut_ns));
    gaps.push(Gap { what: format!("{host} cut off (from the cut)"), gap: outage });
    say(&format!("  {SERVICE} runs on {} {} ms after the cut", new.node, outage.as_millis()));
    let margin = report("  its copy was dead before the new one by", &old, &new, gaps)?;
    let alive = Duration::from_nanos(old.last_ns.saturating_sub(cut_ns));
    say(&format!(
        "  the copy on {host} was ended {} ms after the cut, {:.1} ms before the new one began",
        alive.as_millis(),
        millis(margin)
    ));
    network.heal(host)?;
    come_back(cluster, client, host).await
}

/// Running is not yet stamping: a copy that is killed before its first stamp leaves nothing to measure from.
async fn wait_stamped(cluster: &DevCluster, host: &str) -> Result<(), DevError> {
    let until = clock::monotonic() + STEP_TIMEOUT;
    while runs(cluster)?.last().is_none_or(|run| run.node != host) {
        if clock::monotonic() > until {
            let what = format!("the first stamp of {SERVICE} on {host}");
            return Err(DevError::TimedOut { what, waited_s: STEP_TIMEOUT.as_secs() });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

async fn make_leader(cluster: &DevCluster, client: &Client, host: &str, leads: bool) -> Result<(), DevError> {
    let is_so = |leader: &str| !leader.is_empty() && (leader == host) == leads;
    if is_so(&client.status().await?.leader) {
        return Ok(());
    }
    let other = cluster.nodes().iter().map(super::node::DevNode::name).find(|n| *n != host);
    let to = if leads { Some(host) } else { other };
    client.transfer_leader(to.unwrap_or_default()).await?;
    client.until(STEP_TIMEOUT, "the leadership to move", |s| is_so(&s.leader)).await.map(|_| ())
}

async fn drain_round(
    cluster: &mut DevCluster,
    client: &Client,
    host: &str,
    gaps: &mut Vec<Gap>,
) -> Result<(), DevError> {
    say(&format!("draining {host} ..."));
    let before = runs(cluster)?.len();
    client.drain(host).await?;
    let (old, new) = next_run(cluster, before).await?;
    let gap = report(&format!("{host} drained"), &old, &new, gaps)?;
    say(&format!("  {SERVICE} moved to {}; it was away for {:.1} ms", new.node, millis(gap)));
    Ok(())
}

fn runs(cluster: &DevCluster) -> Result<Vec<Run>, DevError> {
    stamp::runs(&cluster.stamps(), SERVICE).map_err(DevError::io("reading the stamps"))
}

/// Waits for one more run than `before`; the run before it, and it.
async fn next_run(cluster: &DevCluster, before: usize) -> Result<(Run, Run), DevError> {
    let until = clock::monotonic() + STEP_TIMEOUT;
    loop {
        let mut all = runs(cluster)?;
        if all.len() > before && all.len() >= 2 {
            let new = all.pop().expect("there are at least two");
            let old = all.pop().expect("there are at least two");
            return Ok((old, new));
        }
        if clock::monotonic() > until {
            let what = format!("{SERVICE} to run elsewhere");
            return Err(DevError::TimedOut { what, waited_s: STEP_TIMEOUT.as_secs() });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn report(what: &str, old: &Run, new: &Run, gaps: &mut Vec<Gap>) -> Result<Duration, DevError> {
    if new.first_ns <= old.last_ns {
        return Err(DevError::Broken(format!("{SERVICE} ran twice: {what}")));
    }
    let gap = Duration::from_nanos(new.first_ns - old.last_ns);
    gaps.push(Gap { what: what.to_owned(), gap });
    Ok(gap)
}

fn conclude(cluster: &DevCluster, gaps: &[Gap]) -> Result<(), DevError> {
    let all = runs(cluster)?;
    let overlap = stamp::longest_overlap(&all);
    say("\n  what happened                            gap by the service's own stamps");
    for gap in gaps {
        say(&format!("  {:<40} {:>8.1} ms", gap.what, millis(gap.gap)));
    }
    say(&format!("  {:<40} {:>8.1} ms", "two copies at once", millis(overlap)));
    if overlap.is_zero() {
        Ok(())
    } else {
        Err(DevError::Broken(format!("two copies of {SERVICE} ran at once for {:.1} ms", millis(overlap))))
    }
}

#[allow(clippy::cast_precision_loss, reason = "for people; a gap is far below 2^52 microseconds")]
fn millis(gap: Duration) -> f64 {
    gap.as_micros() as f64 / 1000.0
}
