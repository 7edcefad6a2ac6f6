//! `user …`: the key is made here and never leaves this host but in the context file.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use muster_proto::v1 as pb;
use muster_tls::{Certificate, CertificateError, Credentials, KeyPair, Trust};

use super::Run;
use crate::cli::{Role, UserVerb};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::view::cert::{Certificates, NewContext};
use crate::when;

/// Runs a verb on users.
///
/// # Errors
/// As of any call.
pub async fn user(run: &mut Run, verb: UserVerb) -> Result<Exit, Failure> {
    match verb {
        UserVerb::Create { name, role, ttl, out } => {
            let out = out.unwrap_or_else(|| format!("{name}.toml").into());
            if out.exists() {
                run.confirm(format!("{} exists and is replaced", out.display()))?;
            }
            let key = KeyPair::generate().map_err(unusable)?;
            let (wire, word) = match role {
                Role::Viewer => (pb::UserRole::Viewer, "viewer"),
                Role::Operator => (pb::UserRole::Operator, "operator"),
                Role::Admin => (pb::UserRole::Admin, "admin"),
            };
            let request = pb::IssueUserRequest {
                name: name.clone(),
                role: wire.into(),
                life_ms: when::as_ms(ttl),
                certificate_request: key.request().map_err(unusable)?.into(),
                ..Default::default()
            };
            let issued = run.client.issue_user(request).await?;
            keep(run, key, issued, &name, word, &out, true)?;
        }
        UserVerb::List => {
            let all = run.client.list_certificates(pb::ListCertificatesRequest { stale: run.stale }).await?;
            run.out.show(&Certificates::from(all).of_users())?;
        }
        UserVerb::Remove { name } => {
            let request = pb::RemoveUserRequest { name: name.clone(), ..Default::default() };
            let reply = run.client.remove_user(request).await?;
            run.acted(reply, &name, &format!("user {name} is removed"))?;
        }
    }
    Ok(Exit::Done)
}

pub(super) fn unusable(error: CertificateError) -> Failure {
    Failure::Unreadable(format!("the certificate: {error}"))
}

/// Writes the context with what was issued; `-` is stdout.
pub(super) fn keep(
    run: &Run,
    key: KeyPair,
    issued: pb::IssuedUser,
    name: &str,
    role: &'static str,
    out: &Path,
    replaces: bool,
) -> Result<(), Failure> {
    let text = credentials(key, &issued.certificates.unwrap_or_default())?.to_context(&issued.addresses);
    let ends = when::iso(issued.ends_ms);
    if out == Path::new("-") {
        return run.out.put(&text);
    }
    write_secret(out, &text, replaces)?;
    let context = Some(out.display().to_string());
    let (name, certificate) = (name.to_owned(), issued.id);
    run.out.show(&NewContext { name, role, certificate, ends: Some(ends.clone()), context })?;
    run.out.note(&format!(
        "it holds the key: keep it secret. The certificate ends {ends}; use it with\n  musterctl --context {} status",
        out.display()
    ));
    Ok(())
}

fn credentials(key: KeyPair, issued: &pb::IssuedCertificate) -> Result<Credentials, Failure> {
    let mut chain = Vec::new();
    for der in &issued.chain {
        chain.push(Certificate::from_der(der).map_err(unusable)?);
    }
    let mut trusted = Vec::new();
    for der in &issued.trusted {
        trusted.push(Certificate::from_der(der).map_err(unusable)?);
    }
    let own = chain.first().ok_or_else(|| Failure::Unreadable("there is no certificate in it".to_owned()))?;
    let cluster = own.identity().map_err(unusable)?.cluster;
    Credentials::new(key, chain, Trust::new(cluster, trusted)).map_err(unusable)
}

/// For the user alone from its first byte on, and never half-written in the place of an older one.
fn write_secret(path: &Path, text: &str, replaces: bool) -> Result<(), Failure> {
    let failed = |source| Failure::Io { doing: "writing the context file", source };
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    if !replaces {
        let file = options.open(path);
        return file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(failed);
    }
    let mut partial = path.as_os_str().to_owned();
    partial.push(format!(".{}", std::process::id()));
    let partial = Path::new(&partial);
    let written = options.open(partial).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(partial, path)
    });
    written.map_err(failed)
}
