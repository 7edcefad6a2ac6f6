//! Secrets: names that anybody may see, and values that only members of Raft can read, with keys that are in none of
//! this. A task that names a secret gets its value on the node that runs it.

use imbl::OrdSet;

use crate::command::SealedValue;
use crate::id::{Generation, NodeId, Revision, SecretKeyId, SecretName, ServiceName, SlotId, TaskName};
use crate::refusal::Refusal;
use crate::spec::{Driver, ServiceSpec};
use crate::state::State;
use crate::time::Stamp;

/// A secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// The entry that gave it its value. Another key does not change it.
    pub revision: Revision,
    /// When it was made.
    pub created: Stamp,
    /// When it got its value.
    pub changed: Stamp,
    /// Which key it is encrypted with.
    pub key: SecretKeyId,
    /// The value; empty outside Raft.
    pub sealed: SealedValue,
}

/// A key that secrets are encrypted with, as far as the state may know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretKey {
    /// Its fingerprint.
    pub id: SecretKeyId,
    /// When it was offered.
    pub since: Stamp,
    /// Who has it on disk.
    pub holders: OrdSet<NodeId>,
    /// A majority of the voters has it, so that no loss that the cluster survives loses it.
    pub counts: bool,
}

impl State {
    /// The key that is to be encrypted with.
    #[must_use]
    pub fn sealing_key(&self) -> Option<&SecretKey> {
        self.secret_keys.iter().rev().find(|key| key.counts)
    }

    /// Whether a node has every key that counts: what a member needs before it votes.
    #[must_use]
    pub fn holds_secret_keys(&self, node: NodeId) -> bool {
        self.secret_keys.iter().filter(|key| key.counts).all(|key| key.holders.contains(&node))
    }

    /// The services that name a secret, in order.
    pub fn users_of_secret<'a>(&'a self, name: &'a SecretName) -> impl Iterator<Item = &'a ServiceName> {
        let uses = move |spec: &ServiceSpec| spec.secrets().any(|used| used == name);
        self.services.iter().filter(move |(_, service)| uses(&service.spec)).map(|(name, _)| name)
    }

    /// Whether all secrets that a declaration names are there.
    ///
    /// # Errors
    /// [`Refusal::UnknownSecret`] with the first that is not.
    pub fn check_secrets(&self, spec: &ServiceSpec) -> Result<(), Refusal> {
        match spec.secrets().find(|name| !self.secrets.contains_key(*name)) {
            None => Ok(()),
            Some(name) => Err(Refusal::UnknownSecret { service: spec.name.clone(), secret: name.clone() }),
        }
    }

    /// The secrets that a node may be given to start a task: it holds that very placement, which is not to end, and
    /// the task names them. The one place where this is judged.
    ///
    /// # Errors
    /// [`Refusal::NotForThisNode`], or [`Refusal::NoSuchSecret`] when one was removed.
    pub fn secrets_for(
        &self,
        node: NodeId,
        slot: &SlotId,
        generation: Generation,
        task: &TaskName,
    ) -> Result<Vec<(&SecretName, &Secret)>, Refusal> {
        let refused = || Refusal::NotForThisNode { node: self.name_of(node), slot: slot.clone() };
        let placed = self.slots.get(slot).is_some_and(|slot| {
            let is_it = |p: &super::slot::Placement| p.node == node && p.generation == generation;
            slot.placements.iter().any(|p| is_it(p) && !p.is_revoking())
        });
        let service = self.services.get(&slot.service).filter(|_| placed).ok_or_else(refused)?;
        let task = service.spec.tasks.iter().find(|t| t.name == *task).ok_or_else(refused)?;
        let Driver::Exec(exec) = &task.driver;
        let mut found = Vec::new();
        for name in exec.secrets.values() {
            let secret = self.secrets.get(name).ok_or_else(|| Refusal::NoSuchSecret(name.clone()))?;
            if !found.iter().any(|(known, _)| *known == name) {
                found.push((name, secret.as_ref()));
            }
        }
        Ok(found)
    }
}
