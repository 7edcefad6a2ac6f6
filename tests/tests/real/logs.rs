//! Output of tasks, as an operator reads it.

use std::path::Path;
use std::process::Child;

use libtest_mimic::Trial;
use muster_proto::v1::act_on_service_request::Act;
use muster_tests::harness::{Cluster, HarnessError, wait};

use crate::expect::says;
use crate::scene::START_TIMEOUT;
use crate::stage::{Played, Stage};

/// A service that says where it runs, and goes on.
const TALKER: &str = "[[service]]\nname = \"talker\"\n[[service.task]]\nname = \"main\"\n[service.task.exec]\n\
                      command = [\"/bin/sh\", \"-c\", \"echo begins on $MUSTER_NODE; exec sleep 1000\"]\n";

/// The first agent that `musterctl` asks.
const ASKED: &str = "n1";

pub fn trials(stage: &Stage) -> Vec<Trial> {
    vec![
        stage.shared("logs::output_is_followed_wherever_the_service_runs", followed),
        stage.shared("logs::an_agent_that_was_away_asks_the_leader", known_at_once),
        stage.own("logs::output_is_read_without_a_quorum", 3, without_a_quorum),
    ]
}

fn followed(cluster: &mut Cluster) -> Played {
    cluster.api().apply(TALKER)?;
    // The follower asks n1 first: the crash takes the service's host and the agent that is asked at once.
    let mut first = place(cluster, None)?;
    if first == ASKED {
        cluster.api().move_service("talker", "n2", false)?;
        first = place(cluster, Some(ASKED))?;
    }
    let log = cluster.dir().join("followed.log");
    let follower = cluster.start_musterctl(&["service", "logs", "talker", "-f", "--tail", "1"], &log)?;
    let mut follower = Follower(follower);
    sees(&log, &[&first])?;

    cluster.api().move_service("talker", ASKED, false)?;
    sees(&log, &[&first, ASKED])?;
    let second = ASKED.to_owned();
    cluster.host(&second)?.crash()?;
    let third = place(cluster, Some(&second))?;
    sees(&log, &[&first, &second, &third])?;
    cluster.host(&second)?.start()?;
    cluster.whole()?;

    // Where it runs now, or where it ever ran.
    let now = cluster.musterctl(&["service", "logs", "talker"])?;
    says(&now, 0, &[&begins_on(&third)])?;
    if third != first && now.text().contains(&begins_on(&first)) {
        return Err(HarnessError::broken(format!("{first} was not asked for: {}", now.text())));
    }
    let all = ["service", "logs", "talker", "--all-hosts"];
    says(&cluster.musterctl(&all)?, 0, &[&begins_on(&first), &begins_on(&second), &begins_on(&third)])?;

    // A stopped service has left its output where it ran.
    cluster.api().act_on_service("talker", Act::Wanted(false))?;
    cluster.api().until(START_TIMEOUT, "the service to be stopped", |status| {
        let found = status.services.iter().find(|service| service.name == "talker");
        found.filter(|service| service.state == "stopped").map(|_| ()).ok_or_else(|| format!("{found:?}"))
    })?;
    says(&cluster.musterctl(&["service", "logs", "talker"])?, 0, &[&begins_on(&third)])?;

    // Who follows a service that is removed has seen its end.
    cluster.api().remove_service("talker")?;
    wait::until(START_TIMEOUT, "the follower to end", || match follower.0.try_wait() {
        Ok(Some(status)) if status.success() => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    sees(&log, &[&first, &second, &third])
}

/// An agent that was away asks the leader, rather than its own old copy.
fn known_at_once(cluster: &mut Cluster) -> Played {
    let elsewhere = format!("{TALKER}[service.placement]\nrequire = [\"zone in (n2, n3)\"]\n");
    cluster.host(ASKED)?.stop_agent()?;
    cluster.api().apply(&elsewhere)?;
    place(cluster, None)?;
    cluster.host(ASKED)?.start()?;
    answered(cluster, 0)?;
    cluster.host(ASKED)?.stop_agent()?;
    cluster.api().remove_service("talker")?;
    cluster.host(ASKED)?.start()?;
    answered(cluster, 105)?;
    cluster.whole()
}

/// The first answer of the asked agent once it listens and has heard of a leader.
fn answered(cluster: &mut Cluster, status: i32) -> Played {
    const NOT_YET: [i32; 3] = [69, 75, 124];
    let host = cluster.host(ASKED)?;
    let first = wait::until(START_TIMEOUT, "the agent that was away to answer", || {
        let said = host.musterctl(&["service", "logs", "talker"]).map_err(|e| e.to_string())?;
        if NOT_YET.contains(&said.status) { Err(said.text()) } else { Ok(said) }
    })?;
    says(&first, status, &["talker"])
}

/// What is left of the cluster tells what it knows.
fn without_a_quorum(cluster: &mut Cluster) -> Played {
    cluster.form()?;
    cluster.api().apply(TALKER)?;
    let left = place(cluster, None)?;
    for host in cluster.others(&[&left]) {
        cluster.host(&host)?.crash()?;
    }
    says(&cluster.musterctl(&["service", "logs", "talker"])?, 0, &[&begins_on(&left)])
}

/// Does not outlive the case.
struct Follower(Child);

impl Drop for Follower {
    fn drop(&mut self) {
        // It has ended, or nothing more can be done about it.
        let _ended = self.0.kill().and_then(|()| self.0.wait());
    }
}

fn begins_on(host: &str) -> String {
    format!("begins on {host}")
}

/// Where the service runs, once that is not `old`.
fn place(cluster: &Cluster, old: Option<&str>) -> Result<String, HarnessError> {
    cluster.api().until(START_TIMEOUT, "the service to run", |status| {
        let service = status.services.iter().find(|service| service.name == "talker");
        let mut instances = service.into_iter().flat_map(|service| &service.instances);
        let found = instances.find(|i| i.state == "running" && Some(i.node.as_str()) != old);
        found.map(|instance| instance.node.clone()).ok_or_else(|| format!("{service:?}"))
    })
}

/// Waits until each of these beginnings was told, in this order, and none twice.
fn sees(log: &Path, hosts: &[&str]) -> Played {
    let wanted: Vec<String> = hosts.iter().map(|host| begins_on(host)).collect();
    wait::until(START_TIMEOUT, &format!("the follower to see {wanted:?}"), || {
        let text = std::fs::read_to_string(log).map_err(|e| e.to_string())?;
        let found: Vec<&str> =
            text.lines().filter_map(|line| Some(&line[line.find("begins on")?..])).collect();
        if found == wanted { Ok(()) } else { Err(text) }
    })
}
