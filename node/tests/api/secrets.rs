//! Secrets over the API: who may do what, that values go nowhere, and that a rotation keeps them.

use std::time::Duration;

use muster_core::command::{Role, UserRole};
use muster_proto::v1;
use muster_proto::v1::cluster_client::ClusterClient;
use muster_proto::v1::node_link_client::NodeLinkClient;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::solo::{Solo, exec_service, meta};

const VALUE: &[u8] = b"correct horse battery staple";

fn put(name: &str, value: &[u8], create: bool) -> v1::PutSecretRequest {
    v1::PutSecretRequest { request: None, name: name.to_owned(), value: value.to_vec().into(), create }
}

fn remove(name: &str, force: bool) -> v1::RemoveSecretRequest {
    v1::RemoveSecretRequest { request: None, name: name.to_owned(), force }
}

fn with_secret(service: &str, secret: &str) -> v1::ApplyRequest {
    let mut spec = exec_service(service, &[]);
    let Some(v1::task_spec::Driver::Exec(exec)) = &mut spec.tasks[0].driver else {
        unreachable!("it is exec")
    };
    exec.secrets.insert("PASSWORD".to_owned(), secret.to_owned());
    v1::ApplyRequest { services: vec![spec], ..Default::default() }
}

fn refused<T: std::fmt::Debug>(result: Result<T, Status>) -> (String, String) {
    let status = result.expect_err("it should be refused");
    assert!(!format!("{status:?}").contains("horse"), "a value is shown: {status:?}");
    (meta(&status, "muster-code"), meta(&status, "muster-exit"))
}

fn says(code: &str, exit: &str) -> (String, String) {
    (code.to_owned(), exit.to_owned())
}

async fn list(api: &mut ClusterClient<Channel>) -> v1::ListSecretsReply {
    api.list_secrets(v1::ListSecretsRequest::default()).await.unwrap().into_inner()
}

#[tokio::test]
async fn a_secret_is_made_used_changed_and_removed() {
    let solo = Solo::start().await;
    let mut api = solo.cluster();
    assert_eq!(refused(api.put_secret(put("db", VALUE, false)).await), says("MU1060", "105"));
    assert_eq!(refused(api.put_secret(put("Db", VALUE, true)).await), says("MU2003", "64"));
    assert_eq!(refused(api.put_secret(put("db", &[VALUE; 2000].concat(), true)).await), says("MU2003", "64"));
    assert_eq!(refused(api.put_secret(put("db", b"horse\0", true)).await), says("MU2003", "64"));
    assert_eq!(refused(api.apply(with_secret("web", "db")).await), says("MU1061", "78"));
    let dry = v1::ApplyRequest { dry_run: true, ..with_secret("web", "db") };
    assert_eq!(refused(api.apply(dry).await), says("MU1061", "78"));

    api.put_secret(put("db", VALUE, true)).await.unwrap();
    assert_eq!(refused(api.put_secret(put("db", VALUE, true)).await), says("MU1062", "108"));
    api.apply(with_secret("web", "db")).await.unwrap();
    let set = api.put_secret(put("db", VALUE, false)).await.unwrap().into_inner();
    assert_eq!(set.used_by, ["web"]);
    let listed = list(&mut api).await;
    assert_eq!((listed.secrets[0].used_by.clone(), listed.secrets[0].revision), (set.used_by, set.revision));
    let (code, exit) = refused(api.remove_secret(remove("db", false)).await);
    assert_eq!((code, exit), says("MU1063", "107"));
    assert!(api.remove_secret(remove("db", true)).await.unwrap().into_inner().changed);
    assert!(list(&mut api).await.secrets.is_empty());
    solo.stop().await;
}

#[tokio::test]
async fn a_value_is_in_no_file_and_no_event() {
    let solo = Solo::start().await;
    let mut api = solo.cluster();
    api.put_secret(put("db", VALUE, true)).await.unwrap();
    api.apply(with_secret("web", "db")).await.unwrap();
    api.rotate_secret_key(v1::RotateSecretKeyRequest::default()).await.unwrap();
    let shown = api.list_services(v1::ListServicesRequest::default()).await.unwrap().into_inner();
    assert!(!format!("{shown:?}").contains("horse"), "{shown:?}");
    let watch = v1::WatchRequest { since_ms: Some(0), ..Default::default() };
    let mut events = api.watch(watch).await.unwrap().into_inner();
    let mut kinds = Vec::new();
    while let Some(event) = events.message().await.unwrap() {
        assert!(!event.message.contains("horse"), "{event:?}");
        kinds.push(event.kind);
    }
    assert!(kinds.iter().any(|kind| kind == "SecretCreated"), "{kinds:?}");
    let mut files = 0;
    let mut directories = vec![solo.data_dir().to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                directories.push(entry.path());
            } else if kind.is_file() {
                let bytes = std::fs::read(entry.path()).unwrap();
                assert!(!bytes.windows(5).any(|part| part == b"horse"), "{:?}", entry.path());
                files += 1;
            }
        }
    }
    assert!(files > 3, "where are the log and the keys?");
    solo.stop().await;
}

#[tokio::test]
async fn another_key_takes_over_and_the_old_one_leaves_the_disk() {
    let solo = Solo::start().await;
    let mut api = solo.cluster();
    for name in ["a", "b", "c"] {
        api.put_secret(put(name, VALUE, true)).await.unwrap();
    }
    let before = list(&mut api).await;
    let rotated = api.rotate_secret_key(v1::RotateSecretKeyRequest::default()).await.unwrap().into_inner();
    assert!(rotated.message.starts_with("3 secrets are encrypted with the key "), "{}", rotated.message);
    let after = list(&mut api).await;
    assert!(before.key != after.key && after.keys == 1, "{after:?}");
    assert_eq!(before.secrets, after.secrets, "nothing else has changed");
    // The keeper forgets the old key in the file once it has seen that it is named no longer.
    let file = solo.data_dir().join("keys/secrets");
    let left = || std::fs::read_to_string(&file).unwrap().lines().count();
    let forgotten = async {
        while left() != 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), forgotten).await.expect("the old key leaves the disk");
    // What is sealed with the new key can be opened: it can be taken over once more.
    api.rotate_secret_key(v1::RotateSecretKeyRequest::default()).await.unwrap();
    solo.stop().await;
}

#[tokio::test]
async fn each_role_may_do_its_part_of_secrets() {
    let solo = Solo::start().await;
    solo.cluster().put_secret(put("db", VALUE, true)).await.unwrap();
    for (role, may_run, may_rotate) in
        [(UserRole::Viewer, false, false), (UserRole::Operator, true, false), (UserRole::Admin, true, true)]
    {
        let mut api = ClusterClient::new(solo.with(solo.user(role.as_str(), role).await));
        let done = [
            (api.list_secrets(v1::ListSecretsRequest::default()).await.map(drop), may_run),
            (api.put_secret(put("db", VALUE, false)).await.map(drop), may_run),
            (api.put_secret(put(role.as_str(), VALUE, true)).await.map(drop), may_run),
            (api.remove_secret(remove(role.as_str(), false)).await.map(drop), may_run),
            (api.rotate_secret_key(v1::RotateSecretKeyRequest::default()).await.map(drop), may_rotate),
        ];
        for (at, (result, may)) in done.into_iter().enumerate() {
            if may { result.unwrap() } else { assert_eq!(refused(result).0, "MU2030", "{role:?} {at}") }
        }
        // What is between agents is no user's.
        let mut link = NodeLinkClient::new(solo.with(solo.user(role.as_str(), role).await));
        let ask = v1::GetSecretsRequest { sender: Some(solo.sender()), ..Default::default() };
        assert_eq!(refused(link.get_secrets(ask).await).0, "MU2030");
        let ask = v1::GetSecretKeyRequest { sender: Some(solo.sender()), ..Default::default() };
        assert_eq!(refused(link.get_secret_key(ask).await).0, "MU2030");
    }
    solo.stop().await;
}

/// A worker asks in its own name, with its own certificate, for what another node is to run.
#[tokio::test]
async fn a_node_gets_the_secrets_of_its_own_instances_only_and_a_worker_no_key() {
    let solo = Solo::start().await;
    let mut api = solo.cluster();
    api.put_secret(put("db", VALUE, true)).await.unwrap();
    api.apply(with_secret("web", "db")).await.unwrap();
    let (worker, credentials) = solo.node("w", Role::Worker).await;
    let mut link = NodeLinkClient::new(solo.with(credentials));
    let sender = v1::Sender { node: worker.0, ..solo.sender() };
    let slot = Some(v1::SlotId { service: "web".into(), index: 0 });
    let ask =
        v1::GetSecretsRequest { sender: Some(sender.clone()), slot, generation: 3, task: "server".into() };
    let denied = link.get_secrets(ask.clone()).await.unwrap_err();
    assert_eq!((denied.code(), meta(&denied, "muster-code")), (Code::PermissionDenied, "MU1066".into()));
    let as_another = v1::GetSecretsRequest { sender: Some(solo.sender()), ..ask };
    assert_eq!(refused(link.get_secrets(as_another).await).0, "MU2033");
    let ask = v1::GetSecretKeyRequest { sender: Some(sender), id: vec![0; 16].into() };
    assert_eq!(refused(link.get_secret_key(ask).await).0, "MU2030");
    solo.stop().await;
}
