//! Secrets: values come from files and from stdin, and are never shown.

use std::io::Write;
use std::process::Stdio;

use crate::fake::Fake;
use crate::run::{Ended, command};

fn fed(fake: &Fake, arguments: &[&str], input: &str) -> Ended {
    let address = fake.address.to_string();
    let mut line = vec!["--endpoint", &address];
    line.extend_from_slice(arguments);
    let mut command = command(&line);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap().into()
}

#[test]
fn a_value_comes_from_stdin_or_a_file_and_is_not_shown() {
    let fake = Fake::start();
    let ended = fed(&fake, &["secret", "create", "db-password", "-o", "json"], "hunter2\n").expect(0);
    assert_eq!(ended.json()["result"], "created");
    assert!(!format!("{}{}", ended.stdout, ended.stderr).contains("hunter2"));
    assert_eq!(fake.scene().secrets["db-password"], b"hunter2");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("value");
    std::fs::write(&file, "two\nlines\n").unwrap();
    let file = file.to_str().unwrap();
    let ended = fake.ctl(&["secret", "set", "db-password", "--from-file", file]).expect(0);
    assert!(ended.stderr.contains("musterctl service restart orders-db"), "{}", ended.stderr);
    assert_eq!(fake.scene().secrets["db-password"], b"two\nlines");
    let listed = fake.ctl(&["secret", "list"]).expect(0).stdout;
    assert!(
        listed.contains("db-password") && listed.contains("orders-db") && !listed.contains("two"),
        "{listed}"
    );
    let json = fake.ctl(&["secret", "list", "-o", "json"]).expect(0).json();
    assert_eq!((json["key"].as_str(), json["rotating"].as_bool()), (Some("0a0b"), Some(false)));
    assert_eq!(fake.ctl(&["secret", "list", "-o", "name"]).expect(0).stdout, "db-password\n");
    fake.ctl(&["secret", "create", "a", "hunter2"]).expect(64);
    fake.ctl(&["secret", "create", "a", "--from-file", "/nonexistent"]).expect(1);
}

#[test]
fn services_are_restarted_when_that_is_wished() {
    let fake = Fake::start();
    let ended = fed(&fake, &["secret", "set", "a", "--restart"], "x").expect(0);
    assert!(ended.stdout.contains("restarted: orders-db"), "{}", ended.stdout);
    let writes: Vec<_> = fake.scene().writes.drain(..).map(|(what, _)| what).collect();
    assert_eq!(writes, ["set secret", "act_on_service"]);
}

#[test]
fn a_removal_by_force_asks_and_a_key_is_replaced() {
    let fake = Fake::start();
    fake.ctl(&["secret", "remove", "a", "--force"]).expect(107);
    fake.ctl(&["secret", "remove", "a", "--force", "--yes"]).expect(0);
    fake.ctl(&["secret", "remove", "a"]).expect(0);
    fake.ctl(&["secret", "rotate-key"]).expect(0);
    let writes: Vec<_> = fake.scene().writes.drain(..).map(|(what, _)| what).collect();
    assert_eq!(writes, ["force secret away", "remove secret", "rotate key"]);
}
