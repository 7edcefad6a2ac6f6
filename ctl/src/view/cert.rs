//! Certificates.

use muster_proto::v1 as pb;
use serde::Serialize;

use super::{some, time};
use crate::output::{Screen, Table, View};
use crate::when;

/// `cert show`, `user list`.
#[derive(Debug, Serialize)]
pub struct Certificates {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    authorities: Vec<Authority>,
    certificates: Vec<Certificate>,
    /// While the CA is replaced: who still has a certificate of the old one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    old: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Authority {
    id: u64,
    pin: String,
    signs: bool,
    since: Option<String>,
    ends: Option<String>,
    #[serde(skip)]
    ends_ms: u64,
}

#[derive(Debug, Serialize)]
struct Certificate {
    holder: String,
    name: String,
    role: Option<String>,
    id: u64,
    ends: Option<String>,
    revoked: bool,
    #[serde(skip)]
    ends_ms: u64,
}

impl From<pb::ListCertificatesReply> for Certificates {
    fn from(wire: pb::ListCertificatesReply) -> Self {
        let signing = wire.authorities.last().map(|authority| authority.id);
        let authority = |a: pb::AuthorityView| Authority {
            signs: signing == Some(a.id),
            id: a.id,
            pin: a.pin,
            since: time(a.since_ms),
            ends: time(a.ends_ms),
            ends_ms: a.ends_ms,
        };
        let certificate = |c: pb::CertificateView| Certificate {
            holder: c.holder,
            name: c.name,
            role: some(&c.role),
            id: c.id,
            ends: time(c.ends_ms),
            revoked: c.revoked,
            ends_ms: c.ends_ms,
        };
        Self {
            authorities: wire.authorities.into_iter().map(authority).collect(),
            certificates: wire.certificates.into_iter().map(certificate).collect(),
            old: wire.old,
        }
    }
}

impl Certificates {
    /// Those of users alone.
    pub fn of_users(mut self) -> Self {
        self.authorities.clear();
        self.certificates.retain(|certificate| certificate.holder == "user");
        self
    }
}

impl View for Certificates {
    fn table(&self, screen: &Screen) -> String {
        let mut text = String::new();
        if !self.authorities.is_empty() {
            let mut table = Table::new().fixed("CA").fixed("PIN").fixed("SIGNS").fixed("ENDS");
            for authority in &self.authorities {
                table.row([
                    authority.id.to_string().as_str().into(),
                    authority.pin.as_str().into(),
                    if authority.signs { "yes" } else { "no" }.into(),
                    when::relative(authority.ends_ms, screen.now_ms).into(),
                ]);
            }
            text.push_str(&table.draw(screen));
            text.push('\n');
        }
        if self.certificates.is_empty() {
            return text + "no users; make one with: musterctl user create NAME --role ROLE\n";
        }
        let mut table = Table::new().fixed("HOLDER").fixed("ROLE").right("CERTIFICATE").fixed("ENDS");
        for certificate in &self.certificates {
            let ends = when::relative(certificate.ends_ms, screen.now_ms);
            table.row([
                format!("{}/{}", certificate.holder, certificate.name).into(),
                certificate.role.as_deref().unwrap_or("-").into(),
                certificate.id.to_string().into(),
                if certificate.revoked { "revoked".to_owned() } else { ends }.into(),
            ]);
        }
        text.push_str(&table.draw(screen));
        if !self.old.is_empty() {
            text.push_str(&format!("\nstill with a certificate of the old CA: {}\n", self.old.join(", ")));
        }
        text
    }

    fn names(&self) -> Vec<String> {
        self.certificates.iter().map(|c| format!("{}/{}", c.holder, c.name)).collect()
    }
}

/// A context that was just written.
#[derive(Debug, Serialize)]
pub struct NewContext {
    /// Whose.
    pub name: String,
    /// What it may do.
    pub role: &'static str,
    /// The certificate's number.
    pub certificate: u64,
    /// Until when it holds.
    pub ends: Option<String>,
    /// Where the context is; none when it went to stdout.
    pub context: Option<String>,
}

impl View for NewContext {
    fn table(&self, _screen: &Screen) -> String {
        self.context.as_ref().map(|path| format!("{path}\n")).unwrap_or_default()
    }

    fn names(&self) -> Vec<String> {
        self.context.iter().cloned().collect()
    }
}
