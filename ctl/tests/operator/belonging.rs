//! Users, certificates, and the CA.

use std::os::unix::fs::PermissionsExt;

use crate::fake::Fake;
use crate::run::{command, ctl};

#[test]
fn a_new_user_s_context_is_written_for_its_owner_alone_and_works() {
    let fake = Fake::start();
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("alice.toml");
    let out = out.to_str().unwrap();
    let json = fake
        .ctl(&["user", "create", "alice", "--role", "operator", "--out", out, "-o", "json"])
        .expect(0)
        .json();
    assert_eq!((json["name"].as_str(), json["role"].as_str()), (Some("alice"), Some("operator")));
    assert_eq!(std::fs::metadata(out).unwrap().permissions().mode() & 0o777, 0o600);
    ctl(&["--context", out, "--endpoint", &fake.address.to_string(), "status"]).expect(0);
    // Nothing is overwritten unasked.
    fake.ctl(&["user", "create", "alice", "--role", "admin", "--out", out]).expect(107);
    let text = fake.ctl(&["user", "create", "bob", "--role", "viewer", "--out", "-"]).expect(0).stdout;
    assert!(text.contains("endpoints = ") && text.contains("PRIVATE KEY"));
    assert!(fake.ctl(&["user", "list"]).expect(0).stdout.contains("user/alice"));
    fake.ctl(&["user", "remove", "alice"]).expect(0);
}

#[test]
fn without_a_certificate_no_other_host_is_asked() {
    let fake = Fake::start();
    let endpoint = fake.address.to_string();
    let output =
        command(&["--endpoint", &endpoint, "status", "-o", "json"]).env_remove("MUSTER_CONTEXT").output();
    let ended = crate::run::Ended::from(output.unwrap()).expect(77);
    assert_eq!(ended.error()["code"], "MU9013");
    assert_eq!(fake.scene().looks, 0);
}

#[test]
fn where_nobody_listens_no_certificate_is_asked_for() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    drop(listener);
    let output =
        command(&["--endpoint", &endpoint, "status", "-o", "json"]).env_remove("MUSTER_CONTEXT").output();
    let ended = crate::run::Ended::from(output.unwrap()).expect(69);
    assert_eq!(ended.error()["code"], "MU9002");
}

#[test]
fn a_certificate_is_renewed_in_its_file() {
    let fake = Fake::start();
    let directory = tempfile::tempdir().unwrap();
    let own = directory.path().join("me.toml");
    std::fs::copy(crate::trust::context(), &own).unwrap();
    let before = std::fs::read_to_string(&own).unwrap();
    let endpoint = fake.address.to_string();
    ctl(&["--context", own.to_str().unwrap(), "--endpoint", &endpoint, "cert", "renew"]).expect(0);
    assert_ne!(std::fs::read_to_string(&own).unwrap(), before);
    ctl(&["--context", own.to_str().unwrap(), "--endpoint", &endpoint, "status"]).expect(0);
}

#[test]
fn the_ca_is_replaced_when_nobody_stays_behind() {
    let fake = Fake::start();
    fake.ctl(&["cert", "rotate-ca"]).expect(0);
    let done = |fake: &Fake| fake.scene().writes.drain(..).map(|(what, _)| what).collect::<Vec<_>>();
    assert_eq!(done(&fake), ["rotate", "finish"]);
    fake.scene().old_certificates = vec!["user alice".into()];
    let ended = fake.ctl(&["cert", "rotate-ca"]).expect(0);
    assert!(ended.stderr.contains("user alice") && ended.stderr.contains("cert renew"), "{}", ended.stderr);
    assert_eq!(done(&fake), ["rotate"]);
    fake.scene().old_certificates = vec!["node n3".into()];
    let ended = fake.ctl(&["cert", "rotate-ca", "--timeout", "300ms"]).expect(124);
    assert!(ended.stderr.contains("node n3"), "{}", ended.stderr);
    fake.ctl(&["cert", "rotate-ca", "--finish", "--force"]).expect(107);
    fake.ctl(&["cert", "rotate-ca", "--finish", "--force", "--yes"]).expect(0);
}

#[test]
fn revoking_asks_and_names_its_holder() {
    let fake = Fake::start();
    fake.ctl(&["cert", "revoke", "user/alice"]).expect(107);
    fake.ctl(&["cert", "revoke", "user/alice", "--yes"]).expect(0);
    fake.ctl(&["cert", "revoke", "alice", "--yes"]).expect(64);
    let shown = fake.ctl(&["cert", "show"]).expect(0).stdout;
    assert!(shown.contains("node/n1") && shown.contains("PIN"), "{shown}");
}
