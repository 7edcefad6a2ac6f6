//! Hosts come and go: workers, leaving, removal of what is lost, a drain without a way out.

use std::time::Duration;

use libtest_mimic::Trial;
use muster_proto::v1;
use muster_tests::harness::wait::{self, millis};
use muster_tests::harness::{Cluster, HarnessError, stamps};

use crate::expect::says;
use crate::scene::{FAILOVER_LIMIT, START_TIMEOUT};
use crate::stage::{Played, Stage};

/// A lost voter is replaced after half a minute.
const REPLACED_TIMEOUT: Duration = Duration::from_secs(60);

pub fn trials(stage: &Stage) -> Vec<Trial> {
    vec![
        stage.own("members::workers_fail_over_leave_and_are_removed", 3, workers),
        stage.own("members::a_replaced_voter_comes_back_as_a_worker_under_another_leader", 3, replaced_voter),
    ]
}

/// What it may run, and whom its agent asks, is the business of a leader that it never heard of.
fn replaced_voter(cluster: &mut Cluster) -> Played {
    cluster.form()?;
    let fourth = cluster.add_host()?;
    cluster.join(&fourth, "auto")?;
    cluster.whole()?;
    let remembered = cluster.api().leader()?;
    let lost = cluster.others(&[&remembered, &fourth]).swap_remove(0);
    cluster.network().cut(&lost)?;
    let another = cluster.api().until(REPLACED_TIMEOUT, "the voter to be replaced", |status| {
        let voter = |name: &str| status.nodes.iter().any(|node| node.name == name && node.role == "voter");
        let another = status.nodes.iter().find(|node| node.role == "voter" && node.name != remembered);
        match another {
            Some(another) if voter(&fourth) && !voter(&lost) => Ok(another.name.clone()),
            _ => Err(format!("{fourth} votes: {}, {lost} votes: {}", voter(&fourth), voter(&lost))),
        }
    })?;
    cluster.api().make_leader(&another)?;
    cluster.network().heal(&lost)?;
    cluster.whole()?;
    says(&cluster.host(&lost)?.musterctl(&["node", "cordon", &fourth])?, 0, &[])?;
    says(&cluster.host(&lost)?.musterctl(&["status"])?, 0, &[&fourth])
}

fn workers(cluster: &mut Cluster) -> Played {
    cluster.form()?;
    for _worker in 0..2 {
        let name = cluster.add_host()?;
        cluster.join(&name, "worker")?;
    }
    cluster.whole()?;
    three_voters(cluster)?;
    a_worker_that_is_cut_off_is_not_ready(cluster)?;
    for member in ["n1", "n2", "n3"] {
        from_a_member_to_a_worker(cluster, member)?;
    }
    let file = stamps::service(
        &cluster.binaries().muster,
        cluster.stamps().directory(),
        "on-workers",
        "stop_timeout = \"2s\"\n[service.placement]\nrequire = [\"zone in (n4, n5)\"]",
    );
    cluster.api().apply(&file)?;
    let old = cluster.stamps().running("on-workers", START_TIMEOUT)?;
    cluster.host(&old.node)?.crash()?;
    let (new, gap) = cluster.stamps().next_run("on-workers", &old, START_TIMEOUT)?;
    println!("    worker crashed: {} -> {}, gap {:.1} ms", old.node, new.node, gap.as_secs_f64() * 1000.0);
    if gap > FAILOVER_LIMIT {
        return Err(HarnessError::broken("the gap is too long"));
    }
    nowhere_to_go(cluster, &new.node)?;
    cluster.stamps().untouched("on-workers", &new)?;
    says(&cluster.musterctl(&["node", "remove", &old.node, "--yes"])?, 0, &[])?;
    cluster.api().remove_service("on-workers")?;
    cluster.stamps().never_two("on-workers")?;
    // It leaves by the name that it joined with, whatever it is called by now.
    cluster.host(&new.node)?.rename("renamed")?;
    let left = cluster.host(&new.node)?.muster("leave", &["--timeout", "20"])?;
    says(&left, 0, &[&format!("node {} has left", new.node)])?;
    a_lost_voter_is_removed(cluster)?;
    of_two_voters_none_leaves(cluster)
}

fn a_worker_that_is_cut_off_is_not_ready(cluster: &mut Cluster) -> Played {
    cluster.network().cut("n4")?;
    let worker = cluster.host("n4")?;
    wait::until(START_TIMEOUT, "the worker to know that it hears nobody", || match worker.ready() {
        Err(why) if why.contains("no agent that hears a leader") => Ok(()),
        Err(other) => Err(other),
        Ok(()) => Err("it is ready".to_owned()),
    })?;
    cluster.network().heal("n4")?;
    cluster.whole()
}

/// Whichever member a worker follows: it hears in time of what it has to take over, and a member that is cut off says
/// nothing and closes no connection.
fn from_a_member_to_a_worker(cluster: &mut Cluster, member: &str) -> Played {
    let service = format!("from-{member}");
    let placement = format!(
        "stop_timeout = \"2s\"\n[service.placement]\nrequire = [\"zone in ({member}, n4)\"]\n\
         prefer = [{{ label = \"zone == {member}\", weight = 100 }}]"
    );
    let muster = cluster.binaries().muster.clone();
    let file = stamps::service(&muster, cluster.stamps().directory(), &service, &placement);
    cluster.api().apply(&file)?;
    let old = cluster.stamps().running(&service, START_TIMEOUT)?;
    if old.node != member {
        return Err(HarnessError::broken(format!("{service} prefers {member} and runs on {}", old.node)));
    }
    cluster.network().cut(member)?;
    let (new, gap) = cluster.stamps().next_run(&service, &old, START_TIMEOUT)?;
    println!("    member cut off: {} -> {}, gap {:.1} ms", old.node, new.node, millis(gap));
    if gap > FAILOVER_LIMIT {
        return Err(HarnessError::broken(format!("a gap of {:.1} ms", millis(gap))));
    }
    cluster.network().heal(member)?;
    cluster.whole()?;
    cluster.api().remove_service(&service)?;
    cluster.stamps().never_two(&service)
}

fn three_voters(cluster: &Cluster) -> Played {
    cluster.api().until(Duration::from_secs(5), "three voters and two workers", |status| {
        let count = |role: &str| status.nodes.iter().filter(|n| n.role == role).count();
        let found = (count("voter"), count("worker"));
        if found == (3, 2) { Ok(()) } else { Err(format!("{found:?}")) }
    })
}

/// A drain that nothing can satisfy says what blocks it, and stops nothing.
fn nowhere_to_go(cluster: &Cluster, host: &str) -> Played {
    let said = cluster.musterctl(&["drain", host, "--timeout", "2s"])?;
    says(&said, 124, &["on-workers"])?;
    cluster.api().undrain(host)
}

/// With a voter gone for good, removing it leaves a control plane that still works.
fn a_lost_voter_is_removed(cluster: &mut Cluster) -> Played {
    let leader = cluster.api().leader()?;
    let lost = ["n1", "n2", "n3"].into_iter().find(|n| *n != leader).unwrap_or("n1");
    cluster.host(lost)?.crash()?;
    cluster.api().until(START_TIMEOUT, "the loss to be noticed", |status| {
        let state = status.nodes.iter().find(|n| n.name == lost).map(|n| n.state.clone());
        if state.as_deref() == Some("lost") { Ok(()) } else { Err(format!("{state:?}")) }
    })?;
    says(&cluster.musterctl(&["node", "remove", lost, "--yes"])?, 0, &[])?;
    cluster.api().until(START_TIMEOUT, "the control plane to be sound", |status| {
        let is_gone = status.nodes.iter().all(|n| n.name != lost || n.state == "left");
        if is_gone && status.voters == status.voters_alive {
            return Ok(());
        }
        Err(format!("{} of {} voters; {lost} gone: {is_gone}", status.voters_alive, status.voters))
    })
}

/// The other one alone is no majority of two: who asks to leave hears it before anything of it ends.
fn of_two_voters_none_leaves(cluster: &mut Cluster) -> Played {
    let voter = |status: &v1::ClusterStatus| {
        let voter = status.nodes.iter().find(|n| n.role == "voter" && n.name != status.leader).cloned();
        voter.ok_or_else(|| "no voter besides the leader".to_owned())
    };
    let before = cluster.api().until(START_TIMEOUT, "two voters", voter)?;
    let left = cluster.host(&before.name)?.muster("leave", &["--timeout", "5"])?;
    says(&left, 107, &["one of 2 voters", "join another host"])?;
    let after = cluster.api().until(START_TIMEOUT, "the node to be as before", voter)?;
    if (after.session, &after.drain) == (before.session, &None) {
        return Ok(());
    }
    Err(HarnessError::broken(format!("it has session {:?} and drain {:?}", after.session, after.drain)))
}
