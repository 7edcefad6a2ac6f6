//! `secret …`. A value is never an argument: those can be read by every user of this host, and stay in histories.

use std::io::{IsTerminal, Read};
use std::path::Path;

use muster_proto::v1 as pb;
use muster_proto::v1::act_on_service_request::Act;
use zeroize::Zeroizing;

use super::Run;
use crate::cli::secret::SecretVerb;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::view::secret::{SecretList, SecretPut};
use crate::wait;
use crate::wait::service::Running;

/// The largest value, in bytes.
const MAX_VALUE_BYTES: usize = 32 * 1024;

/// Runs a verb on secrets.
///
/// # Errors
/// As of any call; when the value can't be read.
pub async fn secret(run: &mut Run, verb: SecretVerb) -> Result<Exit, Failure> {
    match verb {
        SecretVerb::Create { name, from_file } => {
            let put = put(run, &name, from_file.as_deref(), true).await?;
            run.out.show(&SecretPut::new(&name, "created", put.revision, Vec::new()))?;
        }
        SecretVerb::Set { name, from_file, restart, detach } => {
            let put = put(run, &name, from_file.as_deref(), false).await?;
            if !restart && !put.used_by.is_empty() {
                let restart = |service: &String| format!("\n  musterctl service restart {service}");
                let restarts: String = put.used_by.iter().map(restart).collect();
                let names = put.used_by.join(", ");
                run.out.note(&format!("these services see it from their next start on: {names}{restarts}"));
            }
            let restarted = if restart { put.used_by } else { Vec::new() };
            run.out.show(&SecretPut::new(&name, "changed", put.revision, restarted.clone()))?;
            restart_services(run, &restarted, detach).await?;
        }
        SecretVerb::List => {
            let secrets = run.client.list_secrets(pb::ListSecretsRequest { stale: run.stale }).await?;
            run.out.show(&SecretList::from(secrets))?;
        }
        SecretVerb::Remove { name, force } => {
            if force {
                run.confirm(format!("services that use the secret {name} can't start anew without it"))?;
            }
            let request = pb::RemoveSecretRequest { name: name.clone(), force, ..Default::default() };
            let reply = run.client.remove_secret(request).await?;
            run.acted(reply, &name, &format!("secret {name} is removed"))?;
        }
        SecretVerb::RotateKey => {
            let reply = run.client.rotate_secret_key().await?;
            run.acted(reply, "key", "all secrets are encrypted with a new key")?;
        }
    }
    Ok(Exit::Done)
}

async fn put(
    run: &mut Run,
    name: &str,
    file: Option<&Path>,
    create: bool,
) -> Result<pb::PutSecretReply, Failure> {
    let value = read_value(run, file)?;
    let value = trimmed(&value).to_vec().into();
    let request = pb::PutSecretRequest { name: name.to_owned(), value, create, ..Default::default() };
    run.client.put_secret(request).await
}

/// Starts all of these services anew, and waits until they run unless they are stopped.
async fn restart_services(run: &mut Run, services: &[String], detach: bool) -> Result<(), Failure> {
    for service in services {
        let (service, act) = (service.clone(), Some(Act::Restart(true)));
        let request = pb::ActOnServiceRequest { service, act, ..Default::default() };
        run.client.act_on_service(request).await?;
    }
    if detach || services.is_empty() {
        return Ok(());
    }
    // What still runs from before the restart is told apart by the service's own rollout.
    let mut running = Running::new(services.to_vec()).or_stopped();
    wait::until(run, |status, now| running.judge(status, now)).await.map(drop)
}

/// A little more than the limit is read, so that the agent can tell what is wrong.
fn read_value(run: &Run, file: Option<&Path>) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |source| Failure::Io { doing: "reading the value of the secret", source };
    let source: Box<dyn Read> = match file {
        Some(path) if path != Path::new("-") => Box::new(std::fs::File::open(path).map_err(failed)?),
        Some(_) | None => {
            if std::io::stdin().is_terminal() {
                run.out.note("type the value, then Ctrl-D on a line of its own; it is shown as you type");
            }
            Box::new(std::io::stdin().lock())
        }
    };
    // As large as it gets from the beginning: a vector that grows leaves copies of itself in memory.
    let mut value = Zeroizing::new(Vec::with_capacity(2 * MAX_VALUE_BYTES));
    source.take(MAX_VALUE_BYTES as u64 + 3).read_to_end(&mut value).map_err(failed)?;
    Ok(value)
}

/// Without the one line end that editors and `echo` add.
fn trimmed(value: &[u8]) -> &[u8] {
    let value = value.strip_suffix(b"\n").unwrap_or(value);
    value.strip_suffix(b"\r").unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_left_out_and_nothing_else() {
        for (value, kept) in
            [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a ", " a "), ("", "")]
        {
            assert_eq!(trimmed(value.as_bytes()), kept.as_bytes(), "{value:?}");
        }
    }
}
