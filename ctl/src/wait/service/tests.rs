use super::*;

fn instance(id: &str, node: &str, state: &str, generation: u64) -> pb::InstanceStatus {
    pb::InstanceStatus {
        id: id.into(),
        node: node.into(),
        state: state.into(),
        generation,
        ..Default::default()
    }
}

fn status(state: &str, wanted: u32, rollout: u64, instances: Vec<pb::InstanceStatus>) -> pb::ClusterStatus {
    let running = instances.iter().filter(|i| i.state == "running").count();
    let service = pb::ServiceStatus {
        name: "web".into(),
        state: state.into(),
        wanted,
        running: u32::try_from(running).unwrap(),
        rollout,
        instances,
        ..Default::default()
    };
    pb::ClusterStatus { services: vec![service], ..Default::default() }
}

fn waits_for(verdict: Verdict) -> Vec<String> {
    match verdict {
        Verdict::Waiting(what) => what,
        Verdict::Done => vec!["done".to_owned()],
        Verdict::Over(failure) => vec![failure.to_string()],
    }
}

#[test]
fn an_instance_of_a_former_declaration_does_not_count() {
    let mut running = Running::new(vec!["web".to_owned()]);
    let old = status("running", 1, 10, vec![instance("web/0", "n1", "running", 5)]);
    assert_eq!(waits_for(running.judge(&old, Instant::now())), ["web/0 on n1 to be replaced (running)"]);
    let new = status("running", 1, 10, vec![instance("web/0", "n1", "running", 12)]);
    assert_eq!(waits_for(running.judge(&new, Instant::now())), ["done"]);
}

#[test]
fn a_slot_without_a_place_says_why() {
    let mut running = Running::new(vec!["web".to_owned()]);
    let mut failed = status("degraded", 1, 10, vec![instance("web/0", "", "failed", 0)]);
    failed.services[0].instances[0].message = "command not found".to_owned();
    let missing = ["a place for web/0: command not found"];
    assert_eq!(waits_for(running.judge(&failed, Instant::now())), missing);
    assert_eq!(waits_for(moved(&failed, &Instance::parse("web").unwrap(), None, 10)), missing);
}

#[test]
fn what_was_lost_and_replaced_is_not_waited_for() {
    let mut running = Running::new(vec!["web".to_owned()]);
    let lost = instance("web/0", "n3", "lost", 5);
    let lost = pb::InstanceStatus { superseded: true, ..lost };
    let seen = status("running", 1, 0, vec![lost, instance("web/0", "n1", "running", 12)]);
    assert_eq!(waits_for(running.judge(&seen, Instant::now())), ["done"]);
}

#[test]
fn too_few_instances_are_not_enough() {
    let mut running = Running::new(vec!["web".to_owned()]);
    let few = status("degraded", 2, 0, vec![instance("web/0", "n1", "running", 5)]);
    assert_eq!(waits_for(running.judge(&few, Instant::now())), ["web (degraded, 1 of 2 running)"]);
}

#[test]
fn a_service_that_nobody_takes_is_given_up_after_a_while() {
    let mut running = Running::new(vec!["web".to_owned()]);
    let mut none = status("unplaced", 1, 0, Vec::new());
    none.services[0].reason = "no node has disk == ssd".to_owned();
    let now = Instant::now();
    assert!(matches!(running.judge(&none, now), Verdict::Waiting(_)));
    assert_eq!(
        waits_for(running.judge(&none, now + UNPLACED_FOR)),
        ["service web runs nowhere: no node has disk == ssd"]
    );
    let mut running = running.patient();
    assert_eq!(
        waits_for(running.judge(&none, now + 10 * UNPLACED_FOR)),
        ["web (unplaced, 0 of 1 running: no node has disk == ssd)"]
    );
}

#[test]
fn a_stopped_service_may_stay_stopped_when_only_its_declaration_changed() {
    let stopped = status("stopped", 0, 0, Vec::new());
    let mut running = Running::new(vec!["web".to_owned()]);
    assert_eq!(waits_for(running.judge(&stopped, Instant::now())), ["web (stopped, 0 of 0 running)"]);
    let mut running = running.or_stopped();
    assert_eq!(waits_for(running.judge(&stopped, Instant::now())), ["done"]);
}

#[test]
fn a_move_ends_on_its_target_or_says_where_it_went_instead() {
    let web = Instance::parse("web").unwrap();
    let look = |state: &str, node: &str, generation| {
        let status = status("running", 1, 0, vec![instance("web/0", node, state, generation)]);
        waits_for(moved(&status, &web, Some("n2"), 10))
    };
    assert_eq!(look("stopping", "n1", 5), ["web/0, which is stopping on n1"]);
    assert_eq!(look("starting", "n2", 11), ["web/0 to run on n2 (it is starting on n2)"]);
    assert_eq!(look("running", "n2", 11), ["done"]);
    assert_eq!(look("running", "n3", 11), ["web/0 runs on n3, not on n2: "]);
}

#[test]
fn stopped_and_gone_wait_for_the_last_instance() {
    let stopping = status("stopped", 0, 0, vec![instance("web/0", "n1", "stopping", 5)]);
    assert_eq!(waits_for(stopped(&stopping, "web")), ["web/0 on n1 (stopping)"]);
    assert_eq!(waits_for(gone(&stopping, "web")), ["web/0 on n1 (stopping)"]);
    let none = status("stopped", 0, 0, Vec::new());
    assert_eq!(waits_for(stopped(&none, "web")), ["done"]);
    assert_eq!(waits_for(gone(&none, "web")), ["web to be removed"]);
    assert_eq!(waits_for(gone(&pb::ClusterStatus::default(), "web")), ["done"]);
}

#[test]
fn instances_are_read_as_typed() {
    assert_eq!(Instance::parse("web/2").unwrap(), Instance { service: "web".into(), index: Some(2) });
    assert_eq!(Instance::parse("web").unwrap().to_string(), "web");
    assert!(matches!(Instance::parse("web/x"), Err(Failure::Usage(_))));
}

#[test]
fn every_move_of_a_rebalance_is_waited_for() {
    let moves = [("web/0", "n1"), ("web/1", "n2")];
    let moves = moves.map(|(id, to)| (Instance::parse(id).unwrap(), to.to_owned()));
    let half = [instance("web/0", "n1", "running", 12), instance("web/1", "n3", "running", 5)];
    let seen = status("running", 2, 0, half.to_vec());
    assert_eq!(waits_for(all_moved(&seen, &moves, 10)), ["web/1, which is running on n3"]);
    let both = [instance("web/0", "n1", "running", 12), instance("web/1", "n2", "running", 13)];
    assert_eq!(waits_for(all_moved(&status("running", 2, 0, both.to_vec()), &moves, 10)), ["done"]);
    let elsewhere = [instance("web/0", "n2", "running", 12), instance("web/1", "n2", "running", 13)];
    let over = waits_for(all_moved(&status("running", 2, 0, elsewhere.to_vec()), &moves, 10));
    assert!(over[0].contains("web/0 runs on n2, not on n1"), "{over:?}");
}
