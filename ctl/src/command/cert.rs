//! `cert …`.

use std::path::PathBuf;
use std::time::Duration;

use muster_proto::v1 as pb;
use muster_tls::{KeyPair, Subject};

use super::{Run, user};
use crate::cli::CertVerb;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::view::cert::Certificates;

/// Between two looks at who has renewed.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long the nodes may take: each renews within seconds once it hears of the new CA.
const ROTATE_TIMEOUT: Duration = Duration::from_secs(120);

/// Runs a verb on certificates.
///
/// # Errors
/// As of any call.
pub async fn cert(run: &mut Run, verb: CertVerb) -> Result<Exit, Failure> {
    match verb {
        CertVerb::Show => {
            let certificates = list(run).await?;
            run.out.show(&Certificates::from(certificates))?;
        }
        CertVerb::Renew { out } => renew(run, out).await?,
        CertVerb::Revoke { holder } => revoke(run, &holder).await?,
        CertVerb::RotateCa { finish: true, force, .. } => finish(run, force).await?,
        CertVerb::RotateCa { detach, .. } => rotate(run, detach).await?,
    }
    Ok(Exit::Done)
}

async fn list(run: &mut Run) -> Result<pb::ListCertificatesReply, Failure> {
    run.client.list_certificates(pb::ListCertificatesRequest { stale: run.stale }).await
}

async fn renew(run: &mut Run, out: Option<PathBuf>) -> Result<(), Failure> {
    let own = run.own.as_ref().ok_or_else(|| {
        Failure::Usage("there is no certificate to renew: name a context that holds one".to_owned())
    })?;
    let Subject::User { name, role } = own.identity.subject.clone() else {
        return Err(Failure::Usage("a node's agent renews its certificate by itself".to_owned()));
    };
    let own_file = own.file.clone();
    let out = out.or_else(|| own_file.clone()).ok_or_else(|| {
        Failure::Usage(
            "this context is part of the configuration: say with --out where the new one goes".to_owned(),
        )
    })?;
    let key = KeyPair::generate().map_err(user::unusable)?;
    let certificate_request = key.request().map_err(user::unusable)?.into();
    let request = pb::RenewCertificateRequest { certificate_request, ..Default::default() };
    let issued = run.client.renew_certificate(request).await?;
    let replaces = own_file.as_ref() == Some(&out);
    user::keep(run, key, issued, name.as_str(), role.as_str(), &out, replaces)
}

async fn revoke(run: &mut Run, holder: &str) -> Result<(), Failure> {
    use pb::revoke_certificates_request::Holder;
    let wrong = || Failure::Usage(format!("'{holder}' is neither node/NAME nor user/NAME"));
    let (kind, name) = holder.split_once('/').ok_or_else(wrong)?;
    let chosen = match kind {
        "node" => Holder::Node(name.to_owned()),
        "user" => Holder::User(name.to_owned()),
        _ => return Err(wrong()),
    };
    run.confirm(format!("all certificates of {kind} {name} end at once"))?;
    let request = pb::RevokeCertificatesRequest { holder: Some(chosen), ..Default::default() };
    let reply = run.client.revoke_certificates(request).await?;
    run.acted(reply, holder, &format!("the certificates of {kind} {name} are revoked"))
}

/// Begins, waits until all nodes have renewed, and ends the old CA unless users stay behind.
async fn rotate(run: &mut Run, detach: bool) -> Result<(), Failure> {
    let begun = run.client.rotate_authority(pb::RotateAuthorityRequest::default()).await?;
    run.out.note(&begun.message);
    if detach {
        return show(run, begun);
    }
    run.wait_at_most(ROTATE_TIMEOUT);
    let mut waiting_for = Vec::new();
    let left = loop {
        let left = match list(run).await {
            Ok(listed) => listed.old,
            Err(failure) if failure.is_unanswered() && !waiting_for.is_empty() => {
                return Err(Failure::TimedOut { limit: run.client.limit(), waiting_for, goes_on: true });
            }
            Err(failure) => return Err(failure),
        };
        let nodes: Vec<String> = left.iter().filter(|holder| holder.starts_with("node ")).cloned().collect();
        if nodes.is_empty() {
            break left;
        }
        if tokio::time::Instant::now() >= run.client.deadline() {
            let limit = run.client.limit();
            return Err(Failure::TimedOut { limit, waiting_for: nodes, goes_on: true });
        }
        waiting_for = nodes;
        tokio::time::sleep(LOOK_EVERY).await;
    };
    if left.is_empty() {
        return finish(run, false).await;
    }
    run.out.note(&format!(
        "all nodes have renewed; still with a certificate of the old CA: {}. They run 'musterctl cert renew'; then end \
         it with 'musterctl cert rotate-ca --finish'",
        left.join(", ")
    ));
    show(run, pb::RotateAuthorityReply { old: left, ..begun })
}

async fn finish(run: &mut Run, force: bool) -> Result<(), Failure> {
    if force {
        run.confirm("whoever has no certificate of the new CA is shut out".to_owned())?;
    }
    let request = pb::RotateAuthorityRequest { finish: true, force, ..Default::default() };
    let reply = run.client.rotate_authority(request).await?;
    show(run, reply)
}

fn show(run: &Run, reply: pb::RotateAuthorityReply) -> Result<(), Failure> {
    let act = pb::ActReply {
        revision: reply.revision,
        changed: true,
        message: reply.message,
        warnings: Vec::new(),
    };
    run.acted(act, "ca", "")
}
