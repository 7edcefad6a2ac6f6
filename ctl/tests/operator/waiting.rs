//! Waiting: until it is so, until the time is over, until Ctrl-C.

use std::io::{BufRead, BufReader, Read};

use muster_proto::v1 as pb;

use crate::fake::{Fake, Scene};
use crate::run::{Ended, spawn};

/// From the given look on, the status is changed.
fn at_look(scene: &mut Scene, look: u32, change: impl Fn(&mut pb::ClusterStatus) + Send + 'static) {
    let mut looks = 0;
    scene.step = Some(Box::new(move |status| {
        looks += 1;
        if looks >= look {
            change(status);
        }
    }));
}

#[test]
fn a_drain_waits_until_the_node_is_empty() {
    let fake = Fake::start();
    at_look(&mut fake.scene(), 3, |status| {
        if let Some(drain) = &mut status.nodes[0].drain {
            drain.remaining = 0;
        }
    });
    let ended = fake.ctl(&["drain", "n1", "--max-parallel", "2", "--deadline", "1h"]).expect(0);
    assert!(ended.stderr.contains("n1 is empty"), "{}", ended.stderr);
    let scene = fake.scene();
    assert_eq!(scene.looks, 3);
    let request = scene.drained.clone().unwrap();
    assert_eq!((request.max_parallel, request.deadline_ms), (2, Some(3_600_000)));
}

#[test]
fn a_blocked_drain_ends_in_time_and_says_what_blocks_it() {
    let fake = Fake::start();
    fake.scene().step = Some(Box::new(|status| {
        let blocked =
            pb::BlockedInstance { instance: "orders-db/0".into(), reason: "n2 has no label disk".into() };
        if let Some(drain) = &mut status.nodes[0].drain {
            drain.blocked = vec![blocked];
        }
    }));
    let ended = fake.ctl(&["drain", "n1", "--timeout", "400ms", "-o", "json"]).expect(124);
    let error = ended.error();
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("orders-db/0, which is blocked: n2 has no label disk"), "{message}");
    assert!(error["hint"].as_str().unwrap().contains("the act goes on"));
    assert!(ended.json()["items"].is_array());
}

#[test]
fn a_drain_may_be_only_shown_or_not_waited_for() {
    let fake = Fake::start();
    fake.ctl(&["drain", "n1", "--dry-run"]).expect(0);
    assert!(fake.scene().status.nodes[0].drain.is_none());
    fake.ctl(&["drain", "n1", "--detach"]).expect(0);
    assert_eq!(fake.scene().looks, 0);
}

#[test]
fn a_move_waits_until_the_instance_runs_on_its_target() {
    let fake = Fake::start();
    at_look(&mut fake.scene(), 3, |status| {
        let instance = &mut status.services[0].instances[0];
        instance.node = "n3".into();
        instance.generation = 200;
    });
    let ended = fake.ctl(&["move", "orders-db", "--to", "n3"]).expect(0);
    assert_eq!(ended.stdout, "orders-db runs on n3\n");
    let ended = fake.ctl(&["move", "orders-db", "--to", "n2", "-o", "json"]).expect(1);
    assert!(ended.error()["message"].as_str().unwrap().contains("runs on n3, not on n2"), "{}", ended.stderr);
    fake.ctl(&["failover", "orders-db", "-o", "json"]).expect(0).json();
}

#[test]
fn acts_on_services_wait_for_their_effect() {
    let fake = Fake::start();
    at_look(&mut fake.scene(), 2, |status| {
        let revision = status.revision;
        let service = &mut status.services[0];
        service.state = "stopped".into();
        service.instances.clear();
        status.services[1].instances.iter_mut().for_each(|instance| instance.generation = revision + 1);
    });
    fake.ctl(&["service", "stop", "orders-db"]).expect(0);
    fake.ctl(&["service", "restart", "web"]).expect(0);
    at_look(&mut fake.scene(), 2, |status| status.services.retain(|service| service.name != "web"));
    fake.ctl(&["service", "remove", "web", "--yes"]).expect(0);
}

#[test]
fn wait_ends_when_it_is_so_or_in_time() {
    let fake = Fake::start();
    fake.ctl(&["wait", "service/web", "--for", "healthy"]).expect(0);
    fake.ctl(&["wait", "node/n1", "--for", "alive"]).expect(0);
    fake.ctl(&["wait", "cluster", "--for", "quorum", "-o", "json"]).expect(0).json();
    let ended = fake.ctl(&["wait", "node/n1", "--for", "drained", "--timeout", "300ms"]).expect(124);
    assert!(ended.stderr.contains("still waiting for a drain of n1"), "{}", ended.stderr);
    let ended = fake.ctl(&["wait", "service/web", "--for", "stopped", "--timeout", "300ms"]).expect(124);
    assert!(ended.stderr.contains("web/0 on n1 (running)"), "{}", ended.stderr);
}

#[test]
fn waiting_for_a_quorum_waits_for_an_agent_too() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let arguments = ["--endpoint", &address, "wait", "cluster", "--for", "quorum", "--timeout", "400ms"];
    let ended = crate::run::ctl(&arguments).expect(124);
    assert!(ended.stderr.contains("no agent could be reached"), "{}", ended.stderr);
}

/// Sends the signal of Ctrl-C to a process that this test started.
fn interrupt(child: &std::process::Child) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
}

#[test]
fn ctrl_c_ends_the_waiting_and_says_that_the_act_goes_on() {
    let fake = Fake::start();
    let endpoint = fake.address.to_string();
    let child = spawn(&["--endpoint", &endpoint, "drain", "n1", "-o", "json"]);
    while fake.scene().looks < 2 {
        std::thread::yield_now();
    }
    interrupt(&child);
    let ended = Ended::from(child.wait_with_output().unwrap()).expect(130);
    assert!(ended.error()["message"].as_str().unwrap().contains("the act goes on"), "{}", ended.stderr);
    assert!(fake.scene().status.nodes[0].drain.is_some());
}

#[test]
fn following_resumes_where_it_broke_off_and_ends_with_ctrl_c() {
    let fake = Fake::start();
    let event = |revision, seq| pb::Event { revision, seq, kind: "NodeAlive".into(), ..Default::default() };
    fake.scene().events = vec![event(5, 0), event(6, 0)];
    // When the agent breaks off the stream, there is a second event of revision 6, and one more.
    fake.scene().later = vec![event(6, 1), event(7, 0)];
    let endpoint = fake.address.to_string();
    let mut child = spawn(&["--endpoint", &endpoint, "events", "--follow", "-o", "json"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || {
        let line: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        (line["revision"].as_u64().unwrap(), line["detail"]["seq"].as_u64().unwrap())
    };
    assert_eq!([next(), next()], [(5, 0), (6, 0)]);
    assert_eq!([next(), next()], [(6, 1), (7, 0)]);
    assert_eq!(fake.scene().watched[1].since_revision, 5);
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut rest = String::new();
    child.stderr.take().unwrap().read_to_string(&mut rest).unwrap();
    assert!(rest.contains("nothing was changed"), "{rest}");
}

#[test]
fn a_rebalance_waits_until_everything_has_moved() {
    let fake = Fake::start();
    let item = pb::PlanItem {
        service: "orders-db".into(),
        instance: "orders-db/0".into(),
        node: "n1".into(),
        to: "n2".into(),
        action: "move".into(),
        ..Default::default()
    };
    fake.scene().plan = pb::PlanReply { items: vec![item], changes: true, ..Default::default() };
    let waiting = fake.ctl(&["rebalance", "--timeout", "400ms"]).expect(124);
    assert!(waiting.stderr.contains("orders-db/0, which is running on n1"), "{}", waiting.stderr);
    fake.ctl(&["rebalance", "--detach"]).expect(0);
    at_look(&mut fake.scene(), 4, |status| {
        let revision = status.revision;
        let service = status.services.iter_mut().find(|service| service.name == "orders-db").unwrap();
        service.instances[0].node = "n2".into();
        service.instances[0].generation = revision + 1;
    });
    let ended = fake.ctl(&["rebalance"]).expect(0);
    assert!(ended.stdout.contains("n1 -> n2"), "{}", ended.stdout);
    assert!(ended.stderr.contains("1 instance has moved"), "{}", ended.stderr);
}

#[test]
fn followed_output_goes_on_at_another_agent_behind_the_last_line() {
    let fake = Fake::start();
    let line = |text: &str, offset| pb::LogLine {
        node: "n1".into(),
        instance: "web/0".into(),
        task: "server".into(),
        line: text.as_bytes().to_vec().into(),
        file: 7,
        offset,
    };
    fake.scene().lines = vec![line("a", 2), line("b", 4)];
    fake.scene().lines_later = vec![line("c", 6)];
    let ended = fake.ctl(&["service", "logs", "web", "-f", "-o", "name"]).expect(0);
    assert_eq!(ended.stdout, "a\nb\nc\n");
    let scene = fake.scene();
    let [first, second] = &scene.followed[..] else { panic!("{:?}", scene.followed) };
    assert!(first.after.is_empty());
    let behind = pb::LogPosition {
        node: "n1".into(),
        instance: "web/0".into(),
        task: "server".into(),
        file: 7,
        offset: 4,
    };
    assert_eq!(second.after, [behind]);
}
