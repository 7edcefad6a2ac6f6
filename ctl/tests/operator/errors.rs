//! Every way to fail: the status, and where it is said.

use tonic::{Code, Status};

use crate::fake::{Fake, refusal};
use crate::run::{command, ctl};

/// An address where nobody listens.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[test]
fn without_an_agent_the_status_is_69_and_all_tries_are_named() {
    let (one, two) = (nobody(), nobody());
    let ended = ctl(&["--endpoint", &one, "--endpoint", &two, "status", "-o", "json"]).expect(69);
    assert_eq!(ended.stdout, "");
    let error = ended.error();
    assert_eq!(error["code"], "MU9002");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(&one) && message.contains(&two) && message.contains("refused"), "{message}");
    assert!(error["hint"].as_str().unwrap().contains("--endpoint"));
}

#[test]
fn without_anything_the_local_socket_is_tried() {
    let ended = ctl(&["node", "list"]);
    // On a host with an agent this would succeed; the path is what matters.
    if ended.code == 69 {
        assert!(ended.stderr.contains("/run/muster/api.sock"), "{}", ended.stderr);
    }
}

#[test]
fn a_port_that_is_not_an_agents_is_no_agent() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        use std::io::Write;
        for _ in 0..2 {
            let Ok((mut stream, _)) = listener.accept() else { return };
            if stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").is_err() {
                return;
            }
        }
    });
    ctl(&["--endpoint", &address, "node", "list"]).expect(69);
    drop(server);
}

#[test]
fn wrong_usage_is_64() {
    for arguments in [
        &["stauts"][..],
        &[],
        &["node", "show"],
        &["drain"],
        &["status", "--nope"],
        &["status", "-o", "xml"],
        &["--endpoint", "http://x", "status"],
        &["--timeout", "soon", "status"],
        &["simulate"],
        &["simulate", "--survive", "1", "--lose", "n1"],
        &["service", "init", "podman"],
        &["service", "apply"],
    ] {
        let ended = ctl(arguments).expect(64);
        assert_eq!(ended.stdout, "", "{arguments:?}");
        assert!(!ended.stderr.is_empty(), "{arguments:?}");
    }
    let fake = Fake::start();
    for arguments in [
        &["wait", "web", "--for", "running"][..],
        &["wait", "node/n1", "--for", "running"],
        &["node", "label", "n1", "zone"],
        &["node", "maintenance", "maybe", "n1"],
        &["move", "web/x", "--to", "n1"],
        &["events", "--since", "yesterday"],
        &["cluster", "set", "timing.lease_ttl=5"],
    ] {
        fake.ctl(arguments).expect(64);
    }
}

#[test]
fn wrong_usage_is_json_too_when_asked_for() {
    let ended = ctl(&["stauts", "-o", "json"]).expect(64);
    let error = ended.error();
    assert_eq!(error["code"], "MU9001");
    assert!(error["message"].as_str().unwrap().contains("stauts"), "{error}");
}

#[test]
fn help_and_version_are_answers() {
    let help = ctl(&["--help"]).expect(0);
    assert!(help.stdout.contains("musterctl drain n1"), "{}", help.stdout);
    for later in ["snapshot", "fence", "promote"] {
        assert!(!help.stdout.contains(later), "{later} is not part of this version");
    }
    assert!(ctl(&["--version"]).expect(0).stdout.starts_with("musterctl "));
    assert!(ctl(&["service", "apply", "--help"]).expect(0).stdout.contains("--if-revision"));
}

#[test]
fn a_wrong_file_is_78_with_file_line_and_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("orders.toml");
    std::fs::write(&path, "[[service]]\nname = \"a\"\nprioritty = 3\n").unwrap();
    let path = path.to_str().unwrap();
    let ended = ctl(&["service", "validate", "-f", path, "-o", "json"]).expect(78);
    let error = ended.error();
    let message = error["message"].as_str().unwrap();
    assert!(message.starts_with(&format!("{path}:3: ")), "{message}");
    assert!(message.contains("'prioritty'") && message.contains("did you mean 'priority'"), "{message}");
    ctl(&["service", "validate", "-f", "/nonexistent.toml"]).expect(78);
    // No agent is asked when the file is wrong.
    ctl(&["--endpoint", &nobody(), "service", "apply", "-f", path]).expect(78);
}

#[test]
fn a_wrong_context_is_78() {
    ctl(&["--context", "/nonexistent/context.toml", "status"]).expect(78);
    let ended = ctl(&["--context", "lab", "status"]).expect(78);
    assert!(ended.stderr.contains("no context 'lab'"), "{}", ended.stderr);
    let ended = command(&["status"]).env("MUSTER_CONTEXT", "lab").output().unwrap();
    assert_eq!(ended.status.code(), Some(78));
}

#[test]
fn an_agents_error_keeps_its_status_code_and_hint() {
    let fake = Fake::start();
    for (code, exit) in [
        (Code::NotFound, 105),
        (Code::FailedPrecondition, 107),
        (Code::AlreadyExists, 108),
        (Code::PermissionDenied, 77),
        (Code::InvalidArgument, 78),
        (Code::Unavailable, 106),
        (Code::Internal, 1),
    ] {
        fake.scene().refusals.push_back(refusal(code, "it is so", "MU1042", &exit.to_string()));
        let ended = fake.ctl(&["node", "cordon", "n1", "-o", "json"]).expect(exit);
        assert_eq!(ended.stdout, "");
        let error = ended.error();
        assert_eq!(
            (&error["code"], &error["message"], &error["hint"]),
            (&"MU1042".into(), &"it is so".into(), &"a hint".into())
        );
    }
}

#[test]
fn what_is_not_there_is_105_with_the_nearest_name() {
    let fake = Fake::start();
    fake.ctl(&["node", "cordon", "n9"]).expect(105);
    let ended = fake.ctl(&["node", "show", "n11", "-o", "json"]).expect(105);
    assert_eq!(ended.error()["code"], "MU1003");
    let ended = fake.ctl(&["service", "show", "order-db", "-o", "json"]).expect(105);
    assert!(
        ended.error()["message"].as_str().unwrap().contains("did you mean orders-db?"),
        "{}",
        ended.stderr
    );
    fake.ctl(&["wait", "service/nope", "--for", "running"]).expect(105);
}

#[test]
fn a_dangerous_act_without_a_terminal_needs_yes() {
    let fake = Fake::start();
    let ended = fake.ctl(&["node", "remove", "n1", "-o", "json"]).expect(107);
    assert!(ended.error()["hint"].as_str().unwrap().contains("--yes"));
    fake.ctl(&["service", "remove", "web"]).expect(107);
    assert!(fake.scene().writes.is_empty());
    fake.ctl(&["node", "remove", "n1", "--yes", "--detach"]).expect(0);
}

#[test]
fn try_again_is_tried_again_with_the_same_request_id() {
    let fake = Fake::start();
    let again = || refusal(Code::Unavailable, "there is no leader yet", "MU2001", "75");
    fake.scene().refusals.extend([again(), again(), Status::unavailable("closing")]);
    fake.ctl(&["node", "cordon", "n1"]).expect(0);
    let scene = fake.scene();
    assert_eq!(scene.writes.len(), 4);
    let first = scene.writes[0].1;
    assert!(first.client != 0 && first.seq == 1);
    assert!(scene.writes.iter().all(|(_, request)| *request == first), "{:?}", scene.writes);
}

#[test]
fn no_leader_until_the_time_is_over_is_75() {
    let fake = Fake::start();
    let again = refusal(Code::Unavailable, "there is no leader yet", "MU2001", "75");
    fake.scene().refusals.extend(std::iter::repeat_n(again, 1000));
    // A limit that leaves the last try the longest pause: on a busy machine it may take long.
    let ended = fake.ctl(&["node", "cordon", "n1", "--timeout", "1500ms", "-o", "json"]).expect(75);
    assert_eq!(ended.error()["code"], "MU2001");
}

#[test]
fn an_agent_that_does_not_answer_in_time_is_124() {
    let fake = Fake::start();
    let scene = fake.scene();
    let endpoint = fake.address.to_string();
    let child =
        crate::run::spawn(&["--endpoint", &endpoint, "--timeout", "300ms", "node", "list", "-o", "json"]);
    let ended = crate::run::Ended::from(child.wait_with_output().unwrap()).expect(124);
    drop(scene);
    assert!(ended.error()["message"].as_str().unwrap().contains(&endpoint), "{}", ended.stderr);
}

#[test]
fn another_endpoint_is_taken_when_the_first_is_dead() {
    let fake = Fake::start();
    let ended = fake.ctl(&["--endpoint", &nobody(), "node", "list", "-o", "name"]).expect(0);
    assert_eq!(ended.stdout, "n1\nn2\nn3\n");
    let (dead, alive) = (nobody(), fake.address.to_string());
    let ended = ctl(&["--endpoint", &dead, "--endpoint", &alive, "node", "list", "-o", "name"]).expect(0);
    assert_eq!(ended.stdout, "n1\nn2\nn3\n");
}
