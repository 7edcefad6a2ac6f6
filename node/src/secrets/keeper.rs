//! What a member of Raft does about secrets by itself: it fetches the keys that the state names, says so once they are
//! on its disk, and forgets those that are of no use. The leader also encrypts what an older key still holds.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use muster_core::command::{Command, PutSecret, SecretWrite};
use muster_core::id::{NodeId, SecretKeyId};
use muster_core::state::State;
use muster_core::state::secret::SecretKey;
use muster_proto::v1;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Keyring, KeyringError, SecretError, open, seal};
use crate::peers::{Peers, sender};
use crate::proposer::Proposer;
use crate::raft::RaftHandle;
use crate::seal::SealingKey;
use crate::submit::{Submit, SubmitError};

/// Between two tries.
const RETRY: Duration = Duration::from_millis(500);
/// How long another member may take to answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// Keeps the keyring in line with the state.
pub struct Keeper {
    /// This node.
    pub me: NodeId,
    /// Its keys.
    pub keyring: Keyring,
    /// The state as applied.
    pub state: watch::Receiver<Arc<State>>,
    /// Who leads.
    pub raft: RaftHandle,
    /// Writes.
    pub proposer: Proposer,
    /// The other members.
    pub peers: Peers,
}

/// Why something is not done yet.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Submit(#[from] SubmitError),
    #[error("the key {key} is not to be had: {why}")]
    NotToBeHad { key: SecretKeyId, why: String },
}

impl Keeper {
    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut told = String::new();
        loop {
            let state = self.state.borrow_and_update().clone();
            let failed = self.look_after(&state).await.err();
            if let Some(error) = &failed {
                // A member that is down for a while is no news each time.
                let text = error.to_string();
                if text != told {
                    tracing::warn!(%error, "the keys of secrets are not in order yet");
                    told = text;
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                // What failed asks all members again: not at the pace of the log.
                () = tokio::time::sleep(RETRY), if failed.is_some() => {}
                changed = self.state.changed(), if failed.is_none() => if changed.is_err() { return },
            }
        }
    }

    async fn look_after(&self, state: &State) -> Result<(), KeepError> {
        if !state.is_in_raft(self.me) || state.cluster.is_none() {
            return Ok(());
        }
        // First, so that no key that is in use can be taken for one that was never offered.
        let named: Vec<SecretKeyId> = state.secret_keys.iter().map(|key| key.id).collect();
        self.keyring.follow(&named)?;
        // A key that is lost for good must not keep this node from the others.
        let missing = self.fetch_all(state).await.err();
        let held = |key: &&SecretKey| self.keyring.get(key.id).is_some() && !key.holders.contains(&self.me);
        for key in state.secret_keys.iter().filter(held) {
            self.proposer.submit(Command::HoldSecretKey { node: self.me, key: key.id }).await?;
        }
        if self.raft.leader() == Some(self.me.0) {
            self.reseal(state).await?;
        }
        missing.map_or(Ok(()), Err)
    }

    /// Asks for every key that this node lacks; the first failure is told after all were tried.
    async fn fetch_all(&self, state: &State) -> Result<(), KeepError> {
        let mut failed = Ok(());
        for key in &state.secret_keys {
            if self.keyring.get(key.id).is_none() {
                failed = failed.and(self.fetch(state, key).await);
            }
        }
        failed
    }

    /// Asks one member after the other, those first that said that they have it.
    async fn fetch(&self, state: &State, key: &SecretKey) -> Result<(), KeepError> {
        let members: BTreeSet<NodeId> =
            state.membership.voters().into_iter().chain(state.standbys.iter().copied()).collect();
        let others = members.iter().filter(|id| !key.holders.contains(*id));
        let mut why = "there is no other member".to_owned();
        for member in key.holders.iter().chain(others).copied().filter(|id| *id != self.me) {
            match self.ask(state, member, key.id).await {
                Ok(found) => {
                    self.keyring.keep(found)?;
                    tracing::info!(key = %key.id, from = state.name_of(member), "has a key of the secrets");
                    return Ok(());
                }
                Err(error) => why = error,
            }
        }
        Err(KeepError::NotToBeHad { key: key.id, why })
    }

    async fn ask(&self, state: &State, member: NodeId, id: SecretKeyId) -> Result<SealingKey, String> {
        let mut link = self.peers.link(member).map_err(|error| error.to_string())?;
        let message = v1::GetSecretKeyRequest {
            sender: Some(sender(state, self.me)),
            id: muster_wire::secret_key_id_to_bytes(id),
        };
        let asked = tokio::time::timeout(ASK_TIMEOUT, link.get_secret_key(message)).await;
        let answer = asked.map_err(|_| "no answer".to_owned())?.map_err(|s| s.message().to_owned())?;
        let key = SealingKey::from_bytes(&answer.into_inner().key);
        let genuine = key.filter(|key| key.fingerprint() == id.0);
        genuine.ok_or_else(|| format!("{} gave another key", state.name_of(member)))
    }

    /// Encrypts with the newest key what an older one still holds. Each entry does nothing if the value has changed
    /// meanwhile, so that two leaders do no harm.
    async fn reseal(&self, state: &State) -> Result<(), KeepError> {
        let Some(newest) = state.sealing_key().map(|key| key.id) else { return Ok(()) };
        let Some(key) = self.keyring.get(newest) else { return Ok(()) };
        let mut unreadable = Ok(());
        for (name, secret) in state.secrets.iter().filter(|(_, secret)| secret.key != newest) {
            let value = match open(state, &self.keyring, name, secret) {
                Ok(value) => value,
                // The others are worth it; this one has to be set anew.
                Err(error) => {
                    unreadable = unreadable.and(Err(error.into()));
                    continue;
                }
            };
            let sealed = seal(state, (newest, &key), name, &value)?;
            let how = SecretWrite::Reseal { of: secret.revision };
            let put = PutSecret { name: name.clone(), key: newest, sealed, how };
            self.proposer.submit(Command::PutSecret(put)).await?;
        }
        unreadable
    }
}
