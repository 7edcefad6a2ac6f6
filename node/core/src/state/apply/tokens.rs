//! Commands about join tokens.

use super::{Applied, Effect};
use crate::command::TokenGrant;
use crate::event::{Event, EventKind};
use crate::refusal::Refusal;
use crate::state::State;

/// How many tokens may be outstanding.
pub const MAX_TOKENS: usize = 1000;

impl State {
    pub(super) fn create_token(&mut self, grant: &TokenGrant, events: &mut Vec<Event>) -> Applied {
        if self.tokens.contains_key(&grant.id) {
            return Err(Refusal::TokenExists(grant.id.clone()));
        }
        let now = self.now;
        self.tokens = self
            .tokens
            .iter()
            .filter(|(_, t)| t.expires > now)
            .map(|(k, t)| (k.clone(), t.clone()))
            .collect();
        if self.tokens.len() >= MAX_TOKENS {
            return Err(Refusal::Limit { what: "join tokens", limit: MAX_TOKENS });
        }
        self.tokens.insert(grant.id.clone(), grant.clone());
        events.push(self.event(EventKind::TokenCreated, format!("join token {} was made", grant.id)));
        Ok(Effect::CHANGED)
    }

    pub(super) fn revoke_token(&mut self, id: &str, events: &mut Vec<Event>) -> Applied {
        self.tokens.remove(id).ok_or_else(|| Refusal::NoSuchToken(id.to_owned()))?;
        events.push(self.event(EventKind::TokenRevoked, format!("join token {id} was revoked")));
        Ok(Effect::CHANGED)
    }

    /// Whether a token of that hash could be used now; only applying it tells for certain.
    ///
    /// # Errors
    /// Why not.
    pub fn check_token(&self, hash: &[u8; 32]) -> Result<(), Refusal> {
        self.usable_token(hash).map(drop)
    }

    pub(super) fn usable_token(&self, hash: &[u8; 32]) -> Result<&TokenGrant, Refusal> {
        let token = self.tokens.values().find(|t| t.hash == *hash).ok_or(Refusal::TokenUnknown)?;
        if token.expires <= self.now {
            return Err(Refusal::TokenExpired(token.id.clone()));
        }
        if token.uses == 0 {
            return Err(Refusal::TokenUsedUp(token.id.clone()));
        }
        Ok(token)
    }

    pub(super) fn use_token(&mut self, id: &str) {
        if let Some(token) = self.tokens.get_mut(id) {
            token.uses = token.uses.saturating_sub(1);
        }
    }
}
