//! Join tokens.

use muster_proto::v1 as pb;
use serde::Serialize;

use super::time;
use crate::output::{Screen, Table, View};
use crate::when;

/// The role's name in files and output.
pub fn role_name(role: pb::Role) -> &'static str {
    match role {
        pb::Role::Auto => "auto",
        pb::Role::Worker => "worker",
        pb::Role::Witness => "witness",
    }
}

/// A token that was just made; the secret is shown this once.
#[derive(Debug, Serialize)]
pub struct NewToken {
    token: String,
    id: String,
    expires: Option<String>,
    addresses: Vec<String>,
    /// What to run on the new host.
    pub join: String,
    /// When it ends.
    #[serde(skip)]
    pub expires_ms: u64,
}

impl From<pb::CreateTokenReply> for NewToken {
    fn from(wire: pb::CreateTokenReply) -> Self {
        let join = format!("muster join --now --token {} {}", wire.token, wire.addresses.join(" "));
        Self {
            join: join.trim_end().to_owned(),
            token: wire.token,
            id: wire.id,
            expires: time(wire.expires_ms),
            addresses: wire.addresses,
            expires_ms: wire.expires_ms,
        }
    }
}

impl View for NewToken {
    fn table(&self, _screen: &Screen) -> String {
        format!("{}\n", self.token)
    }

    fn names(&self) -> Vec<String> {
        vec![self.token.clone()]
    }
}

/// `token list`.
#[derive(Debug, Serialize)]
pub struct TokenList {
    tokens: Vec<Token>,
}

#[derive(Debug, Serialize)]
struct Token {
    id: String,
    role: &'static str,
    expires: Option<String>,
    uses: u32,
    #[serde(skip)]
    expires_ms: u64,
}

impl From<pb::ListTokensReply> for TokenList {
    fn from(wire: pb::ListTokensReply) -> Self {
        let token = |t: pb::TokenView| Token {
            role: role_name(t.role()),
            expires: time(t.expires_ms),
            uses: t.uses,
            expires_ms: t.expires_ms,
            id: t.id,
        };
        Self { tokens: wire.tokens.into_iter().map(token).collect() }
    }
}

impl View for TokenList {
    fn table(&self, screen: &Screen) -> String {
        if self.tokens.is_empty() {
            return "no tokens; to let a host join: musterctl token create\n".to_owned();
        }
        let mut table = Table::new().fixed("TOKEN").fixed("ROLE").fixed("ENDS").right("USES LEFT");
        for token in &self.tokens {
            table.row([
                token.id.as_str().into(),
                token.role.into(),
                when::relative(token.expires_ms, screen.now_ms).into(),
                token.uses.to_string().into(),
            ]);
        }
        table.draw(screen)
    }

    fn names(&self) -> Vec<String> {
        self.tokens.iter().map(|token| token.id.clone()).collect()
    }
}
