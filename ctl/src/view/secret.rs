//! Secrets, without their values.

use muster_proto::v1 as pb;
use serde::Serialize;

use super::{some, time};
use crate::output::{Screen, Table, View};
use crate::when;

/// What was done to a secret.
#[derive(Debug, Serialize)]
pub struct SecretPut {
    name: String,
    result: &'static str,
    revision: u64,
    /// Services that are started anew for it.
    restarted: Vec<String>,
}

impl SecretPut {
    /// `result`: created or changed.
    pub fn new(name: &str, result: &'static str, revision: u64, restarted: Vec<String>) -> Self {
        Self { name: name.to_owned(), result, revision, restarted }
    }
}

impl View for SecretPut {
    fn table(&self, _screen: &Screen) -> String {
        match self.restarted.as_slice() {
            [] => format!("secret {} is {}\n", self.name, self.result),
            services => {
                format!("secret {} is {}; restarted: {}\n", self.name, self.result, services.join(", "))
            }
        }
    }

    fn names(&self) -> Vec<String> {
        vec![self.name.clone()]
    }
}

/// `secret list`.
#[derive(Debug, Serialize)]
pub struct SecretList {
    secrets: Vec<Secret>,
    /// The fingerprint of the key that they are encrypted with.
    key: Option<String>,
    /// Whether some are still encrypted with an older key.
    rotating: bool,
}

#[derive(Debug, Serialize)]
struct Secret {
    name: String,
    revision: u64,
    created: Option<String>,
    changed: Option<String>,
    used_by: Vec<String>,
    #[serde(skip)]
    changed_ms: u64,
}

impl From<pb::ListSecretsReply> for SecretList {
    fn from(wire: pb::ListSecretsReply) -> Self {
        let secret = |s: pb::SecretView| Secret {
            name: s.name,
            revision: s.revision,
            created: time(s.created_ms),
            changed: time(s.changed_ms),
            used_by: s.used_by,
            changed_ms: s.changed_ms,
        };
        Self {
            secrets: wire.secrets.into_iter().map(secret).collect(),
            key: some(&wire.key),
            rotating: wire.keys > 1,
        }
    }
}

impl View for SecretList {
    fn table(&self, screen: &Screen) -> String {
        if self.secrets.is_empty() {
            return "no secrets; to make one: musterctl secret create NAME --from-file FILE\n".to_owned();
        }
        let mut table = Table::new().fixed("SECRET").right("REVISION").fixed("CHANGED").shrinks("USED BY");
        for secret in &self.secrets {
            table.row([
                secret.name.as_str().into(),
                secret.revision.to_string().into(),
                when::relative(secret.changed_ms, screen.now_ms).into(),
                secret.used_by.join(", ").into(),
            ]);
        }
        table.draw(screen)
    }

    fn names(&self) -> Vec<String> {
        self.secrets.iter().map(|secret| secret.name.clone()).collect()
    }
}
