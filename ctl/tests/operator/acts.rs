//! What is done.

use muster_proto::v1 as pb;

use crate::fake::Fake;
use crate::run::ctl;

/// A file with the template's service.
fn template(dir: &tempfile::TempDir, name: &str) -> String {
    let path = dir.path().join(format!("{name}.toml"));
    std::fs::write(&path, ctl(&["service", "init", "exec", name]).expect(0).stdout).unwrap();
    path.display().to_string()
}

#[test]
fn apply_is_idempotent_and_says_what_it_did() {
    let fake = Fake::start();
    let dir = tempfile::tempdir().unwrap();
    let orders = template(&dir, "orders");
    ctl(&["service", "validate", "-f", &orders]).expect(0);
    assert!(fake.ctl(&["service", "apply", "-f", &orders]).expect(0).stdout.contains("created"));
    let json = fake.ctl(&["service", "apply", "-f", &orders, "-o", "json"]).expect(0).json();
    assert_eq!(json["services"][0]["result"], "unchanged");
    assert_eq!(json["services"][0]["status"]["state"], "running");
    let json = fake.ctl(&["service", "apply", "--detach", "-f", &orders, "-o", "json"]).expect(0).json();
    assert_eq!(json["services"][0]["status"], serde_json::Value::Null);
}

#[test]
fn plan_has_status_2_only_with_changes() {
    let fake = Fake::start();
    let dir = tempfile::tempdir().unwrap();
    let orders = template(&dir, "orders");
    let json = fake.ctl(&["service", "plan", "-f", &orders, "-o", "json"]).expect(2).json();
    assert_eq!(json["changes"], true);
    assert!(json["items"].is_array() && json["summary"].is_string());
    fake.ctl(&["service", "apply", "-f", &orders]).expect(0);
    fake.ctl(&["service", "plan", "-f", &orders]).expect(0);
}

#[test]
fn a_declaration_comes_back_as_a_file() {
    let fake = Fake::start();
    let dir = tempfile::tempdir().unwrap();
    let orders = template(&dir, "orders");
    fake.ctl(&["service", "apply", "-f", &orders]).expect(0);
    let json = fake.ctl(&["service", "show", "orders", "-o", "json"]).expect(0).json();
    assert_eq!(json["spec"]["task"][0]["exec"]["command"][0], "/usr/bin/python3");
    let shown = fake.ctl(&["service", "show", "orders"]).expect(0).stdout;
    let file = shown.split_once("[[service]]").unwrap().1;
    let again = dir.path().join("again.toml");
    std::fs::write(&again, format!("[[service]]{file}")).unwrap();
    fake.ctl(&["service", "plan", "-f", again.to_str().unwrap()]).expect(0);
}

#[test]
fn editing_applies_what_the_editor_left() {
    let fake = Fake::start();
    let dir = tempfile::tempdir().unwrap();
    let orders = template(&dir, "orders");
    fake.ctl(&["service", "apply", "-f", &orders]).expect(0);
    let endpoint = fake.address.to_string();
    let edit = |editor: &str| {
        let mut command =
            crate::run::command(&["--endpoint", &endpoint, "service", "edit", "orders", "--detach"]);
        let output = command.env("EDITOR", editor).env("TMPDIR", dir.path()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let drafts = || {
        let files = std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().path());
        files.filter(|file| file.to_string_lossy().contains("musterctl-orders-")).collect::<Vec<_>>()
    };
    let status = |editor: &str| edit(editor).0;
    assert_eq!(status("true"), Some(0));
    assert_eq!(fake.scene().writes.len(), 1, "nothing was changed, so nothing is sent");
    assert_eq!(status("sed -i s/8080/9090/"), Some(0));
    let exec = fake.scene().specs[0].tasks[0].driver.clone();
    let Some(pb::task_spec::Driver::Exec(exec)) = exec else { panic!("an exec task") };
    assert_eq!(exec.command.last().unwrap(), "9090");
    assert_eq!(drafts(), Vec::<std::path::PathBuf>::new(), "nothing is left of what was taken");
    let (code, told) = edit("sed -i s/exec/exce/");
    assert_eq!(code, Some(78), "{told}");
    let [kept] = drafts().try_into().expect("one file");
    assert!(std::fs::read_to_string(&kept).unwrap().contains("exce"), "the work is not lost");
    assert!(told.contains(&format!("is kept in {}", kept.display())), "{told}");
    assert_eq!(status("false"), Some(1));
    // A Ctrl-C in the editor is the editor's.
    assert_eq!(status("kill -INT $PPID; sed -i s/9090/7070/"), Some(0));
}

#[test]
fn nodes_are_acted_on() {
    let fake = Fake::start();
    for arguments in [
        &["node", "cordon", "n1"][..],
        &["node", "uncordon", "n1"],
        &["node", "maintenance", "on", "n1"],
        &["node", "maintenance", "n1", "off"],
        &["undrain", "n1"],
        &["service", "annotate", "web", "a=b", "c-"],
        &["token", "revoke", "abc"],
        &["raft", "transfer-leader", "--to", "n3"],
        &["rebalance", "--dry-run"],
        &["simulate", "--lose", "n1", "n2"],
        &["simulate", "--lose-zone", "a"],
    ] {
        fake.ctl(arguments).expect(0);
        let mut json = arguments.to_vec();
        json.extend(["-o", "json"]);
        let ended = fake.ctl(&json).expect(0);
        ended.json();
        assert_eq!(ended.stderr, "");
    }
    let json = fake.ctl(&["node", "label", "n1", "zone=b", "disk-", "-o", "json"]).expect(0).json();
    assert_eq!(json.as_array().unwrap().len(), 2);
    assert_eq!(fake.ctl(&["node", "cordon", "n1", "-q"]).expect(0).stdout, "");
}

#[test]
fn a_token_alone_is_on_stdout() {
    let fake = Fake::start();
    let ended = fake.ctl(&["token", "create", "--role", "worker", "--uses", "2"]).expect(0);
    assert_eq!(ended.stdout, "mt1-secret\n");
    assert!(ended.stderr.contains("muster join --now --token mt1-secret 10.0.0.1:7420"), "{}", ended.stderr);
    let json = fake.ctl(&["token", "create", "-o", "json"]).expect(0).json();
    assert_eq!(json["token"], "mt1-secret");
}

#[test]
fn timing_is_changed_key_by_key() {
    let fake = Fake::start();
    fake.ctl(&["cluster", "set", "timing.lease_ttl_ms=2000"]).expect(0);
    let timing = fake.scene().timing.unwrap();
    assert_eq!((timing.lease_ttl_ms, timing.heartbeat_ms), (2000, 50));
    // Whether values are safe together is the cluster's judgement.
    let unsafe_timing = crate::fake::refusal(tonic::Code::InvalidArgument, "too short", "MU1028", "78");
    fake.scene().refusals.extend([tonic::Status::unavailable("closing"), unsafe_timing]);
    fake.ctl(&["cluster", "set", "lease_ttl_ms=500"]).expect(78);
}
