//! What is shown.

use std::io::{BufRead, BufReader};

use muster_proto::v1 as pb;
use tonic::{Code, Status};

use crate::fake::{Fake, refusal, service};
use crate::run::{command, ctl};

/// Longer than any line may be.
#[track_caller]
fn fits(text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
    }
}

#[test]
fn status_is_one_screen() {
    let fake = Fake::start();
    {
        let mut scene = fake.scene();
        let instances = scene.status.services.iter_mut().flat_map(|service| &mut service.instances);
        instances.for_each(|instance| instance.since_ms = three_hours_ago_ms());
        let mut bad = service("reports-with-a-rather-long-name", "exclusive", &[]);
        bad.state = "unplaced".into();
        bad.wanted = 1;
        bad.reason = "no node satisfies disk == ssd; n1 and n2 have disk == hdd, n3 has no label disk".into();
        scene.status.services.push(bad);
        let n3 = &mut scene.status.nodes[2];
        n3.cordoned = true;
        n3.drain = Some(pb::DrainStatus { remaining: 2, ..Default::default() });
    }
    let shown = fake.ctl(&["status"]).expect(0).stdout;
    fits(&shown);
    insta::assert_snapshot!(shown);
}

/// Some hours before the test, so that what is shown does not depend on its speed.
#[expect(clippy::disallowed_methods, reason = "the command compares with the real clock")]
fn three_hours_ago_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap() - 3 * 3_600_000 - 600_000
}

#[test]
fn status_json_is_as_specified() {
    let fake = Fake::start();
    let ended = fake.ctl(&["status", "-o", "json"]).expect(0);
    assert_eq!(ended.stderr, "");
    let json = ended.json();
    assert_eq!(json["cluster"]["quorum"], serde_json::json!({"voters": 3, "alive": 3, "margin": 1}));
    assert_eq!(json["cluster"]["leader"], "n2");
    let node = &json["nodes"][0];
    for (key, value) in [
        ("name", serde_json::json!("n1")),
        ("role", "voter".into()),
        ("state", "alive".into()),
        ("session", 3.into()),
        ("cordoned", false.into()),
        ("maintenance", false.into()),
        ("drain", serde_json::Value::Null),
        ("agent", "up".into()),
        ("labels", serde_json::json!({"zone": "a"})),
        ("addresses", serde_json::json!(["10.0.0.1:7420"])),
        ("version", "0.1.0".into()),
        ("lease", serde_json::json!({"ttl_ms": 1000, "headroom_ms": 871})),
        ("instances", 2.into()),
    ] {
        assert_eq!(node[key], value, "{key}");
    }
    let service = &json["services"][0];
    assert_eq!(service["reason"], serde_json::Value::Null);
    let instance = &service["instances"][0];
    assert_eq!(instance["id"], "orders-db/0");
    assert_eq!(instance["since"], "2026-01-01T00:00:00.000Z");
    assert_eq!(instance["generation"], 118);
    // YAML says the same.
    let yaml = fake.ctl(&["status", "-o", "yaml"]).expect(0).stdout;
    let yaml: serde_json::Value = serde_yaml_ng::from_str(&yaml).unwrap();
    assert_eq!(yaml, json);
}

#[test]
fn check_tells_by_its_status() {
    let fake = Fake::start();
    fake.ctl(&["status", "--check"]).expect(0);
    assert_eq!(fake.ctl(&["status", "--check", "-q"]).expect(0).stdout, "");
    fake.ctl(&["check"]).expect(0);
    fake.scene().status.nodes[2].state = "lost".into();
    fake.ctl(&["status"]).expect(0);
    fake.ctl(&["status", "--check"]).expect(2);
    let json = fake.ctl(&["check", "-o", "json"]).expect(2).json();
    assert_eq!(json["items"][0]["node"], "n3");
    assert_eq!(json["items"][0]["action"], "attention");
    fake.scene().status.margin = -1;
    fake.ctl(&["status", "--check", "-o", "json"]).expect(106);
}

#[test]
fn an_agent_that_is_cut_off_is_left_for_one_that_is_not() {
    let (cut_off, whole) = (Fake::start(), Fake::start());
    cut_off.scene().refusals.push_back(refusal(Code::Unavailable, "no quorum", "MU2002", "106"));
    let (cut_off, whole) = (cut_off.address.to_string(), whole.address.to_string());
    let ended = ctl(&["--endpoint", &cut_off, "--endpoint", &whole, "status"]).expect(0);
    assert!(!ended.stderr.contains("MU2002"), "{}", ended.stderr);
}

#[test]
fn check_knows_what_would_not_survive_a_loss() {
    let fake = Fake::start();
    fake.scene().plan.items.push(pb::PlanItem {
        service: "web".into(),
        instance: "web/1".into(),
        node: "n2".into(),
        action: "unplaced".into(),
        reason: "memory".into(),
        ..Default::default()
    });
    let json = fake.ctl(&["check", "-o", "json"]).expect(2).json();
    assert_eq!(json["items"][0]["reason"], "would run nowhere after the loss of n2: memory");
    assert_eq!(json["summary"], "1 thing needs attention");
}

#[test]
fn without_a_quorum_status_shows_one_agents_own_copy_and_ends_with_106() {
    let fake = Fake::start();
    fake.scene().status.margin = -1;
    fake.scene().refusals.push_back(refusal(Code::Unavailable, "no quorum", "MU2002", "106"));
    let ended = fake.ctl(&["status"]).expect(106);
    assert!(ended.stdout.contains("quorum LOST"), "{}", ended.stdout);
    assert!(ended.stdout.contains("n1's own copy"), "{}", ended.stdout);
    assert!(ended.stderr.contains("no quorum [MU2002]"), "{}", ended.stderr);
    // An agent that knows no leader for long says the same.
    let again = refusal(Code::Unavailable, "there is no leader yet", "MU2001", "75");
    fake.scene().refusals.extend(std::iter::repeat_n(again, 1000));
    fake.ctl(&["status", "--timeout", "300ms"]).expect(106);
}

#[test]
fn a_live_view_needs_a_terminal() {
    let fake = Fake::start();
    let ended = fake.ctl(&["top"]).expect(64);
    assert_eq!(ended.stdout, "");
    assert!(ended.stderr.contains("'musterctl status' prints once"), "{}", ended.stderr);
}

#[test]
fn a_program_gets_the_live_view_as_an_object_a_line() {
    let fake = Fake::start();
    let endpoint = fake.address.to_string();
    let mut child = crate::run::spawn(&["--endpoint", &endpoint, "top", "--interval", "100ms", "-o", "json"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _picture in 0..2 {
        let picture: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert!(picture["status"]["cluster"]["leader"].is_string(), "{picture}");
        assert!(picture["events"].is_array() && picture["unanswered"].is_null(), "{picture}");
    }
    drop(lines);
    assert!(child.wait().unwrap().success(), "who has seen enough ends it");
}

#[test]
fn empty_states_say_what_to_do() {
    let fake = Fake::start();
    fake.scene().status.services.clear();
    for arguments in [&["status"][..], &["service", "list"]] {
        let shown = fake.ctl(arguments).expect(0).stdout;
        assert!(shown.contains("try: musterctl service init exec > orders.toml"), "{shown}");
    }
    assert!(fake.ctl(&["token", "list"]).expect(0).stdout.contains("musterctl token create"));
    assert_eq!(fake.ctl(&["service", "list", "-o", "name"]).expect(0).stdout, "");
    assert_eq!(
        fake.ctl(&["service", "list", "-o", "json"]).expect(0).json()["services"],
        serde_json::json!([])
    );
}

#[test]
fn lists_and_details() {
    let fake = Fake::start();
    for arguments in [
        &["node", "list"][..],
        &["node", "show", "n1"],
        &["service", "list"],
        &["cluster", "show"],
        &["raft", "status"],
    ] {
        let shown = fake.ctl(arguments).expect(0).stdout;
        fits(&shown);
        let mut json = arguments.to_vec();
        json.extend(["-o", "json"]);
        fake.ctl(&json).expect(0).json();
    }
    let json = fake.ctl(&["node", "show", "n1", "-o", "json"]).expect(0).json();
    assert_eq!(json["placements"].as_array().unwrap().len(), 2);
    let json = fake.ctl(&["cluster", "show", "-o", "json"]).expect(0).json();
    assert_eq!(json["cluster"]["timing"]["profile"], "lan");
    let wide = fake.ctl(&["node", "list", "-o", "wide"]).expect(0).stdout;
    assert!(wide.contains("ADDRESSES") && wide.contains("10.0.0.1:7420"), "{wide}");
}

#[test]
fn the_local_socket_and_contexts_are_used() {
    let fake = Fake::start();
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("api.sock");
    fake.listen_on(&socket);
    let endpoint = format!("unix:{}", socket.display());
    assert_eq!(
        ctl(&["--endpoint", &endpoint, "node", "list", "-o", "name"]).expect(0).stdout,
        "n1\nn2\nn3\n"
    );
    let context = dir.path().join("context.toml");
    std::fs::write(&context, crate::trust::context_for(&fake.address.to_string())).unwrap();
    let context = context.to_str().unwrap();
    ctl(&["--context", context, "status"]).expect(0);
    assert!(command(&["status"]).env("MUSTER_CONTEXT", context).status().unwrap().success());
    let config = dir.path().join(".config/muster");
    std::fs::create_dir_all(&config).unwrap();
    for named in [format!("file = \"{context}\"\n"), crate::trust::context_for(&fake.address.to_string())] {
        let text = format!("current = \"lab\"\n[contexts.lab]\n{named}");
        std::fs::write(config.join("config.toml"), text).unwrap();
        assert!(command(&["status"]).env("HOME", dir.path()).status().unwrap().success());
    }
}

fn event(revision: u64, seq: u32, kind: &str) -> pb::Event {
    pb::Event {
        revision,
        time_ms: 1_767_225_600_000,
        kind: kind.into(),
        node: "n1".into(),
        message: format!("{kind} of n1"),
        seq,
        ..Default::default()
    }
}

#[test]
fn events_are_one_object_a_line() {
    let fake = Fake::start();
    fake.scene().events = vec![event(5, 0, "NodeLost"), event(6, 0, "NodeAlive")];
    let shown = fake.ctl(&["events", "-o", "json"]).expect(0).stdout;
    let lines: Vec<serde_json::Value> =
        shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["kind"], "NodeLost");
    assert_eq!(lines[0]["time"], "2026-01-01T00:00:00.000Z");
    assert_eq!(lines[0]["service"], serde_json::Value::Null);
    assert!(lines[0]["detail"].is_object());
    fits(&fake.ctl(&["events"]).expect(0).stdout);
    fake.ctl(&["events", "--since", "5"]).expect(0);
    assert_eq!(fake.scene().watched.last().unwrap().since_revision, 5);
    fake.ctl(&["service", "history", "web"]).expect(0);
    assert_eq!(fake.scene().watched.last().unwrap().service.as_deref(), Some("web"));
}

fn record(revision: u64, verb: &str, refused: Option<(&str, &str)>) -> pb::AuditRecord {
    let actor = pb::Actor {
        name: "user alice".into(),
        role: pb::ActorRole::Operator.into(),
        from: "10.0.0.9".into(),
        via: "n2".into(),
    };
    let outcome = if refused.is_some() { pb::AuditOutcome::Refused } else { pb::AuditOutcome::Applied };
    let (code, message) = refused.unwrap_or_default();
    pb::AuditRecord {
        revision,
        sequence: 0,
        time_ms: 1_767_225_600_000,
        before: revision - 1,
        actor: Some(actor),
        verb: verb.into(),
        target: "orders-db if-revision=41".into(),
        outcome: outcome.into(),
        code: code.into(),
        message: message.into(),
        count: if refused.is_some() { 12 } else { 1 },
    }
}

#[test]
fn the_audit_trail_is_one_object_a_line_and_fits_the_screen() {
    let fake = Fake::start();
    let why = "the services changed since revision 41: orders-db is at 42, which somebody else has applied";
    fake.scene().audit = vec![
        record(42, "service apply", None),
        record(43, "service apply", Some(("MU1021", why))),
        record(44, "service stop", None),
    ];
    let shown = fake.ctl(&["audit", "--since", "41", "-o", "json"]).expect(0).stdout;
    let lines: Vec<serde_json::Value> =
        shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3, "page after page");
    let expected = serde_json::json!({
        "time": "2026-01-01T00:00:00.000Z", "revision": 43, "sequence": 0, "revision_before": 42,
        "actor": "user alice", "role": "operator", "from": "10.0.0.9", "via": "n2",
        "verb": "service apply", "target": "orders-db if-revision=41",
        "outcome": "refused", "code": "MU1021", "message": why, "count": 12,
    });
    assert_eq!(lines[1], expected);
    assert_eq!(
        (&lines[0]["code"], &lines[0]["message"]),
        (&serde_json::Value::Null, &serde_json::Value::Null)
    );
    let asked = fake.scene().audited.clone();
    assert_eq!((asked[0].after_revision, asked[0].after_sequence, asked[0].latest), (41, u32::MAX, false));
    assert_eq!((asked[1].after_revision, asked[1].after_sequence), (43, 0));

    let ended = fake.ctl(&["audit"]).expect(0);
    assert!(fake.scene().audited.last().unwrap().latest);
    assert!(ended.stderr.contains("7 older records"), "{}", ended.stderr);
    fits(&ended.stdout);
    insta::assert_snapshot!(ended.stdout);
}

#[test]
fn an_empty_audit_trail_is_said_so() {
    let fake = Fake::start();
    let ended = fake.ctl(&["audit", "--since", "1h"]).expect(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.trim()), ("", "no such records"));
    let ended = fake.ctl(&["audit", "-o", "json"]).expect(0);
    assert_eq!(ended.stdout, "");
    fake.scene().refusals.push_back(refusal(
        Code::PermissionDenied,
        "needs the role operator",
        "MU2030",
        "77",
    ));
    fake.ctl(&["audit"]).expect(77);
    fake.ctl(&["audit", "--limit", "0"]).expect(64);
}

#[test]
fn output_of_tasks_says_where_it_comes_from() {
    let fake = Fake::start();
    let line = |text: &[u8]| pb::LogLine {
        node: "n1".into(),
        instance: "web/0".into(),
        task: "server".into(),
        line: text.to_vec().into(),
        ..Default::default()
    };
    fake.scene().lines = vec![line(b"hello\n"), line(b"no \xff text")];
    let shown = fake.ctl(&["service", "logs", "web"]).expect(0).stdout;
    assert_eq!(shown, "web/0 server on n1  hello\nweb/0 server on n1  no \u{fffd} text\n");
    let shown = fake.ctl(&["service", "logs", "web", "-o", "name"]).expect(0).stdout;
    assert!(shown.starts_with("hello\n"));
}

#[test]
fn explain_names_what_each_node_says() {
    let fake = Fake::start();
    let refusal = |node: &str, reasons: &[&str]| pb::NodeRefusal {
        node: node.into(),
        reasons: reasons.iter().map(|r| (*r).to_owned()).collect(),
        score: 12,
        scores: vec!["stays where it is +10".into(), "room +2".into()],
    };
    fake.scene().plan = pb::PlanReply {
        items: vec![pb::PlanItem {
            service: "orders-db".into(),
            instance: "orders-db/0".into(),
            node: "n1".into(),
            action: "keep".into(),
            reason: "it runs well there".into(),
            refusals: vec![refusal("n1", &[]), refusal("n3", &["label disk is hdd, not ssd", "cordoned"])],
            ..Default::default()
        }],
        summary: "orders-db/0 stays on n1".into(),
        ..Default::default()
    };
    let shown = fake.ctl(&["service", "explain", "orders-db"]).expect(0).stdout;
    fits(&shown);
    insta::assert_snapshot!(shown);
    let json = fake.ctl(&["service", "explain", "orders-db", "-o", "json"]).expect(0).json();
    assert_eq!(json["items"][0]["refusals"][1]["reasons"][1], "cordoned");
    assert_eq!(json["items"][0]["to"], serde_json::Value::Null);
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    use std::process::Stdio;
    let fake = Fake::start();
    let endpoint = fake.address.to_string();
    let mut child = command(&["--endpoint", &endpoint, "status"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn completion_scripts_are_printed() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(ctl(&["completion", shell]).expect(0).stdout.contains("musterctl"));
    }
}

#[test]
fn an_unknown_error_is_a_failure() {
    let fake = Fake::start();
    fake.scene().refusals.push_back(Status::internal("oops"));
    let ended = fake.ctl(&["node", "list"]).expect(1);
    assert!(ended.stderr.contains("oops"), "{}", ended.stderr);
}
