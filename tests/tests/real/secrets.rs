//! A password that the service sees and nobody else: on a worker, after a failover, with another key, changed.

use std::path::{Path, PathBuf};

use libtest_mimic::Trial;
use muster_tests::harness::{Cluster, HarnessError, wait};

use crate::expect::says;
use crate::scene::START_TIMEOUT;
use crate::stage::{Played, Stage};

const FIRST: &str = "correct-horse-battery-staple";
const SECOND: &str = "another-horse-another-staple";
/// What no file of any host and no answer may contain.
const MARKS: [&str; 2] = ["horse-battery", "another-horse"];

pub fn trials(stage: &Stage) -> Vec<Trial> {
    vec![stage.own("secrets::a_password_goes_where_its_service_goes_and_nowhere_else", 3, password)]
}

/// The service writes what it sees where the case can look, outside of every host's own directory.
fn service(seen: &Path, secret: &str) -> String {
    let script = format!("printf %s \"$PASSWORD\" > {}/$MUSTER_NODE; exec sleep 100000", seen.display());
    format!(
        "[[service]]\nname = \"vault\"\nstop_timeout = \"2s\"\n\
         [service.placement]\nprefer = [{{ label = \"zone == n4\", weight = 100 }}]\n\
         [[service.task]]\nname = \"server\"\n[service.task.exec]\n\
         command = [\"/bin/sh\", \"-c\", {script:?}]\n\
         env = {{ PLAIN = \"text\", PASSWORD = {{ secret = {secret:?} }} }}\n"
    )
}

fn password(cluster: &mut Cluster) -> Played {
    cluster.form()?;
    let worker = cluster.add_host()?;
    cluster.join(&worker, "worker")?;
    cluster.whole()?;
    let seen = cluster.dir().join("seen");
    std::fs::create_dir(&seen).map_err(HarnessError::io("a directory"))?;
    let write = |name: &str, text: &str| -> Result<String, HarnessError> {
        let path = seen.join(name);
        std::fs::write(&path, text).map_err(HarnessError::io("writing a file"))?;
        Ok(path.display().to_string())
    };
    let (first, second) = (write("first", &format!("{FIRST}\n"))?, write("second", SECOND)?);
    let file = write("vault.toml", &service(&seen, "vault-password"))?;

    says(&cluster.musterctl(&["service", "apply", "-f", &file])?, 78, &["vault-password", "secret create"])?;
    says(
        &cluster.musterctl(&["secret", "create", "vault-password", "--from-file", &first])?,
        0,
        &["created"],
    )?;
    says(
        &cluster.musterctl(&["secret", "create", "vault-password", "--from-file", &first])?,
        108,
        &["secret set"],
    )?;
    says(&cluster.musterctl(&["service", "apply", "-f", &file])?, 0, &["vault"])?;
    sees(&seen, &worker, FIRST)?;
    says(&cluster.musterctl(&["secret", "list"])?, 0, &["vault-password", "vault"])?;
    says(&cluster.musterctl(&["secret", "remove", "vault-password"])?, 107, &["used by: vault", "--force"])?;

    // With another key, and with the loss of the host, it goes on.
    says(&cluster.musterctl(&["secret", "rotate-key"])?, 0, &["1 secrets are encrypted"])?;
    nowhere_else(cluster, &worker)?;
    cluster.host(&worker)?.crash()?;
    let new = successor(cluster, &worker)?;
    sees(&seen, &new, FIRST)?;

    // A new value is seen from the next start on.
    let set = ["secret", "set", "vault-password", "--from-file", &second, "--restart"];
    says(&cluster.musterctl(&set)?, 0, &["restarted: vault"])?;
    sees(&seen, &new, SECOND)?;
    nowhere_else(cluster, &worker)
}

/// Waits until the service wrote that value on that host.
fn sees(seen: &Path, host: &str, value: &str) -> Played {
    wait::until(START_TIMEOUT, &format!("the service on {host} to see the value"), || {
        match std::fs::read_to_string(seen.join(host)) {
            Ok(text) if text == value => Ok(()),
            Ok(text) => Err(format!("it sees '{text}'")),
            Err(error) => Err(error.to_string()),
        }
    })
}

/// Where the service runs now that its host is gone.
fn successor(cluster: &Cluster, old: &str) -> Result<String, HarnessError> {
    cluster.api().until(START_TIMEOUT, "the service to run elsewhere", |status| {
        let service = status.services.iter().find(|service| service.name == "vault");
        let mut instances = service.into_iter().flat_map(|service| &service.instances);
        let found = instances.find(|instance| instance.state == "running" && instance.node != old);
        found.map(|instance| instance.node.clone()).ok_or_else(|| format!("{service:?}"))
    })
}

/// No file of any host has the value, nor does any answer; a worker has no key.
fn nowhere_else(cluster: &Cluster, worker: &str) -> Played {
    for line in [
        &["status", "-o", "json"][..],
        &["service", "show", "vault", "-o", "json"],
        &["service", "history", "vault", "-o", "json"],
        &["events", "--since", "1h", "-o", "json"],
        &["secret", "list", "-o", "json"],
    ] {
        let said = cluster.musterctl(line)?.text();
        if let Some(mark) = MARKS.iter().find(|mark| said.contains(**mark)) {
            return Err(HarnessError::broken(format!("{line:?} shows '{mark}'")));
        }
    }
    let mut looked_at = 0;
    for host in cluster.hosts() {
        let keys = host.data_dir().join("keys/secrets");
        if keys.exists() == (host.name() == worker) {
            return Err(HarnessError::broken(format!("{}: exists: {}", keys.display(), keys.exists())));
        }
        let mut directories: Vec<PathBuf> = vec![host.dir().to_owned()];
        while let Some(directory) = directories.pop() {
            let listed = std::fs::read_dir(&directory).map_err(HarnessError::io("listing a directory"))?;
            for entry in listed.flatten() {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => directories.push(entry.path()),
                    Ok(kind) if kind.is_file() => {
                        has_no_mark(&entry.path())?;
                        looked_at += 1;
                    }
                    Ok(_) | Err(_) => {}
                }
            }
        }
    }
    println!("    looked for the value in {looked_at} files");
    if looked_at > 40 { Ok(()) } else { Err(HarnessError::broken("too few files: the wrong place?")) }
}

fn has_no_mark(path: &Path) -> Played {
    // A file that has just been removed has no value.
    let bytes = std::fs::read(path).unwrap_or_default();
    let found = MARKS.iter().find(|mark| bytes.windows(mark.len()).any(|part| part == mark.as_bytes()));
    match found {
        None => Ok(()),
        Some(mark) => Err(HarnessError::broken(format!("{} holds '{mark}'", path.display()))),
    }
}
