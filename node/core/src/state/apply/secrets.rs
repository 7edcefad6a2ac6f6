//! Commands about secrets and the keys that they are encrypted with. What a value is does not matter here: outside
//! Raft it is left out, and every replica must come to the same answer.

use std::sync::Arc;

use super::{Applied, Effect};
use crate::command::{PutSecret, SecretWrite};
use crate::event::{Event, EventKind};
use crate::id::{NodeId, SecretKeyId, SecretName};
use crate::refusal::Refusal;
use crate::state::State;
use crate::state::secret::{Secret, SecretKey};

/// How many secrets a cluster may have.
pub const MAX_SECRETS: usize = 1000;
/// The one that is encrypted with, and the one that it replaces.
const MAX_KEYS_THAT_COUNT: usize = 2;

impl State {
    /// A key that nobody else had fetched when its maker was lost is replaced by the next one.
    pub(super) fn offer_secret_key(&mut self, key: SecretKeyId) -> Applied {
        if self.secret_keys.iter().any(|known| known.id == key) {
            return Ok(Effect::NONE);
        }
        if self.secret_keys.iter().filter(|known| known.counts).count() >= MAX_KEYS_THAT_COUNT {
            return Err(Refusal::SecretRotationUnderWay);
        }
        self.secret_keys.retain(|known| known.counts);
        let offered = SecretKey { id: key, since: self.now, holders: imbl::OrdSet::new(), counts: false };
        self.secret_keys.push(offered);
        Ok(Effect::CHANGED)
    }

    pub(super) fn hold_secret_key(
        &mut self,
        node: NodeId,
        key: SecretKeyId,
        events: &mut Vec<Event>,
    ) -> Applied {
        self.existing_node(node)?;
        let membership = &self.membership;
        let Some(known) = self.secret_keys.iter_mut().find(|known| known.id == key) else {
            return Ok(Effect::NONE);
        };
        if known.holders.insert(node).is_some() {
            return Ok(Effect::NONE);
        }
        if !known.counts && membership.is_majority(|voter| known.holders.contains(&voter)) {
            known.counts = true;
            let message = format!("secrets are encrypted with the key {key}");
            events.push(self.event(EventKind::SecretKeyChanged, message));
            self.forget_unused_secret_keys();
        }
        Ok(Effect::CHANGED)
    }

    pub(super) fn put_secret(&mut self, put: &PutSecret, events: &mut Vec<Event>) -> Applied {
        if self.sealing_key().is_none_or(|key| key.id != put.key) {
            return Err(Refusal::StaleSecretKey);
        }
        let known = self.secrets.get(&put.name);
        let no_such = || Refusal::NoSuchSecret(put.name.clone());
        let secret = match (put.how, known) {
            (SecretWrite::Create, Some(_)) => return Err(Refusal::SecretExists(put.name.clone())),
            (SecretWrite::Create, None) if self.secrets.len() >= MAX_SECRETS => {
                return Err(Refusal::Limit { what: "secrets", limit: MAX_SECRETS });
            }
            (SecretWrite::Create, None) => self.new_value(put, self.now),
            (SecretWrite::Set, known) => self.new_value(put, known.ok_or_else(no_such)?.created),
            (SecretWrite::Reseal { of }, known) => match known.filter(|known| known.revision == of) {
                Some(known) => Secret { key: put.key, sealed: put.sealed.clone(), ..(**known).clone() },
                None => return Ok(Effect::NONE),
            },
        };
        self.secrets.insert(put.name.clone(), Arc::new(secret));
        match put.how {
            SecretWrite::Create => {
                events.push(self.event(EventKind::SecretCreated, format!("secret {} was made", put.name)));
            }
            SecretWrite::Set => {
                let message = format!("secret {} has another value", put.name);
                events.push(self.event(EventKind::SecretChanged, message));
            }
            SecretWrite::Reseal { .. } => {}
        }
        self.forget_unused_secret_keys();
        Ok(Effect::CHANGED)
    }

    fn new_value(&self, put: &PutSecret, created: crate::time::Stamp) -> Secret {
        let (key, sealed) = (put.key, put.sealed.clone());
        Secret { revision: self.revision, created, changed: self.now, key, sealed }
    }

    pub(super) fn remove_secret(
        &mut self,
        name: &SecretName,
        forced: bool,
        events: &mut Vec<Event>,
    ) -> Applied {
        if !self.secrets.contains_key(name) {
            return Err(Refusal::NoSuchSecret(name.clone()));
        }
        let users: Vec<String> = self.users_of_secret(name).map(ToString::to_string).collect();
        if !forced && !users.is_empty() {
            return Err(Refusal::SecretInUse { secret: name.clone(), services: users.join(", ") });
        }
        self.secrets.remove(name);
        let left = if users.is_empty() {
            String::new()
        } else {
            format!("; services that can't start anew without it: {}", users.join(", "))
        };
        events.push(self.event(EventKind::SecretRemoved, format!("secret {name} was removed{left}")));
        self.forget_unused_secret_keys();
        Ok(Effect::CHANGED)
    }

    /// A key that another one has replaced goes when nothing is encrypted with it any more.
    fn forget_unused_secret_keys(&mut self) {
        let Some(newest) = self.sealing_key().map(|key| key.id) else { return };
        let secrets = &self.secrets;
        let is_used = |id: SecretKeyId| secrets.values().any(|secret| secret.key == id);
        self.secret_keys.retain(|key| !key.counts || key.id == newest || is_used(key.id));
    }

    pub(super) fn forget_holder_of_secret_keys(&mut self, node: NodeId) {
        for key in &mut self.secret_keys {
            key.holders.remove(&node);
        }
    }
}
