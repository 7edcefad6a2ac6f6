//! Every invariant must see its violation.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use muster::stamp::Run;
use muster_proto::v1;

use super::*;
use crate::campaign::fault::Cost;
use crate::harness::Metronome;
use crate::harness::wait::Moment;

/// A point far in the past, so that the metronome has nothing to say.
const START: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;

fn run(node: &str, generation: u64, from_ms: u64, to_ms: u64) -> Run {
    let path = PathBuf::from(format!("{node}-{generation}-{from_ms}"));
    Run {
        node: node.to_owned(),
        generation,
        first_ns: START + from_ms * MS,
        last_ns: START + to_ms * MS,
        path,
    }
}

fn at(ms: u64) -> Moment {
    Moment(START + ms * MS)
}

/// A fault from 1000 ms, healed from 5000 to 5010 ms, everything seen running at 6000 ms.
fn judged(cost: &Cost, service: &'static str, runs: Vec<Run>) -> Vec<&'static str> {
    let round = Round {
        cost,
        begun: at(1000),
        healing: at(5000),
        healed: at(5010),
        placed: at(6000),
        end: at(6000),
        runs: BTreeMap::from([(service, runs)]),
        metronome: &Metronome::start(),
    };
    judge(&round).into_iter().map(|violation| violation.invariant).collect()
}

fn host_lost() -> Cost {
    let (isolated, since) = (vec![("n1".to_owned(), at(1000))], Some(at(1000)));
    Cost { isolated, since, fails_over: true, ..Cost::services_of("n1") }
}

#[test]
fn a_failover_in_time_is_no_violation() {
    let runs = vec![run("n1", 5, 0, 1950), run("n2", 6, 2050, 6100)];
    assert_eq!(judged(&host_lost(), "db-1", runs), Vec::<&str>::new());
}

#[test]
fn two_at_once_are_seen() {
    let runs = vec![run("n1", 5, 0, 1950), run("n2", 6, 1949, 6100)];
    assert_eq!(judged(&host_lost(), "db-1", runs), ["never two"]);
}

#[test]
fn a_run_beyond_its_lease_is_seen() {
    let runs = vec![run("n1", 5, 0, 2001), run("n2", 6, 2050, 6100)];
    assert_eq!(judged(&host_lost(), "db-1", runs), ["dead by the deadline"]);
}

#[test]
fn a_token_that_does_not_grow_is_seen() {
    let runs = vec![run("n1", 5, 0, 1900), run("n2", 5, 2050, 6100)];
    assert_eq!(judged(&host_lost(), "db-1", runs), ["generations only grow"]);
    let runs = vec![run("n1", 5, 0, 1900), run("n2", 4, 2050, 6100)];
    assert_eq!(judged(&host_lost(), "db-1", runs), ["generations only grow"]);
}

#[test]
fn a_late_failover_is_seen() {
    let runs = vec![run("n1", 5, 0, 1950), run("n2", 6, 2300, 6100)];
    assert_eq!(judged(&host_lost(), "db-1", runs), ["failover time"]);
}

#[test]
fn what_stops_without_a_fault_is_seen() {
    let runs = vec![run("n2", 5, 0, 1500), run("n3", 6, 1600, 6100)];
    assert_eq!(judged(&host_lost(), "db-1", runs.clone()), ["nothing for nothing"]);
    assert_eq!(judged(&Cost::nothing(), "db-1", runs.clone()), ["nothing for nothing"]);
    let quorum_lost = Cost { quorum_lost: true, ..Cost::nothing() };
    assert_eq!(judged(&quorum_lost, "db-1", runs.clone()), Vec::<&str>::new());
    assert_eq!(judged(&quorum_lost, "each", runs), ["nothing for nothing"]);
}

#[test]
fn only_a_spare_copy_may_go() {
    let spare = vec![run("n1", 5, 0, 6100), run("n2", 6, 0, 6100), run("n3", 7, 2000, 3000)];
    assert_eq!(judged(&host_lost(), "web", spare.clone()), Vec::<&str>::new());
    assert_eq!(judged(&Cost::nothing(), "web", spare), ["nothing for nothing"]);
    let needed = vec![run("n1", 5, 0, 1500), run("n2", 6, 0, 6100), run("n3", 7, 0, 3000)];
    assert_eq!(judged(&host_lost(), "web", needed), ["nothing for nothing"]);
}

#[test]
fn slow_healing_is_seen() {
    let cost = Cost::nothing();
    let metronome = Metronome::start();
    let mut round = Round {
        cost: &cost,
        begun: at(1000),
        healing: at(5000),
        healed: at(5000),
        placed: at(10_001),
        end: at(10_001),
        runs: BTreeMap::new(),
        metronome: &metronome,
    };
    assert_eq!(judge(&round).len(), 1);
    let patient = Cost::nothing().with_recovery(Duration::from_millis(2));
    round.cost = &patient;
    assert_eq!(judge(&round).len(), 0);
}

#[test]
fn replicas_that_differ_are_seen() {
    let instance = |node: &str| v1::InstanceStatus {
        id: "db-1/0".to_owned(),
        node: node.to_owned(),
        generation: 5,
        ..v1::InstanceStatus::default()
    };
    let status = |instances: Vec<v1::InstanceStatus>| {
        let name = "db-1".to_owned();
        let service =
            v1::ServiceStatus { name, mode: "exclusive".to_owned(), instances, ..Default::default() };
        v1::ClusterStatus { services: vec![service], ..Default::default() }
    };
    let one = status(vec![instance("n1")]);
    assert!(replicas_agree::differences(&[one.clone(), one.clone()]).is_empty());
    assert_eq!(replicas_agree::differences(&[one, status(vec![instance("n2")])]).len(), 1);
    let two = status(vec![instance("n1"), instance("n2")]);
    assert_eq!(replicas_agree::differences(&[two.clone(), two]).len(), 2);
}
