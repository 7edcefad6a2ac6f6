//! Secrets: values come in from operators and go out to the nodes that are to start tasks, and are never shown.

use std::sync::Arc;
use std::time::Duration;

use muster_core::command::{Command, PutSecret, SecretWrite};
use muster_core::id::{Generation, Revision, SecretKeyId, SecretName, TaskName};
use muster_core::refusal::Refusal;
use muster_core::state::State;
use muster_proto::v1;

use super::caller::Caller;
use super::status::ApiError;
use super::{Api, convert};
use crate::seal::SealingKey;
use crate::secrets::{self, MAX_VALUE_BYTES, SecretError};

/// A key may be replaced between the encryption of a value and its entry; twice in a row it is not.
const TRIES: usize = 2;
/// How long a member waits for the entry that placed the instance, before another one is asked.
const CATCH_UP: Duration = Duration::from_millis(1500);

/// All secrets, without their values.
pub(super) fn list(state: &State) -> v1::ListSecretsReply {
    let secrets = state.secrets.iter().map(|(name, secret)| v1::SecretView {
        name: name.to_string(),
        revision: secret.revision.0,
        created_ms: secret.created.0,
        changed_ms: secret.changed.0,
        used_by: used_by(state, name),
    });
    let keys = state.secret_keys.iter().filter(|key| key.counts).count();
    v1::ListSecretsReply {
        secrets: secrets.collect(),
        key: state.sealing_key().map(|key| key.id.to_string()).unwrap_or_default(),
        keys: u32::try_from(keys).unwrap_or(u32::MAX),
    }
}

fn used_by(state: &State, name: &SecretName) -> Vec<String> {
    state.users_of_secret(name).map(ToString::to_string).collect()
}

fn secret_name(name: &str) -> Result<SecretName, ApiError> {
    SecretName::new(name).map_err(|error| ApiError::Invalid(error.to_string()))
}

impl Api {
    /// On the leader: encrypts the value, and nothing but that is proposed.
    pub(super) async fn put_secret_here(
        &self,
        caller: &Caller,
        request: v1::PutSecretRequest,
    ) -> Result<v1::PutSecretReply, ApiError> {
        let name = secret_name(&request.name)?;
        check_value(&name, &request.value)?;
        let id = convert::request_id(request.request);
        let how = if request.create { SecretWrite::Create } else { SecretWrite::Set };
        for tried in 1.. {
            let (key, sealing) = self.sealing_key(caller).await?;
            let sealed = secrets::seal(&self.state(), (key, &sealing), &name, &request.value)?;
            let put = PutSecret { name: name.clone(), key, sealed, how };
            match self.submit(caller, id, Command::PutSecret(put)).await {
                // A retry under the same id would get the same answer again.
                Err(ApiError::Judged(Refusal::StaleSecretKey)) if tried < TRIES && id.client == 0 => {}
                Err(error) => return Err(error),
                Ok(reply) => {
                    let state = self.state_at(caller, reply.revision).await?;
                    let used_by = used_by(&state, &name);
                    return Ok(v1::PutSecretReply { revision: reply.revision.0, used_by });
                }
            }
        }
        Err(Refusal::StaleSecretKey.into())
    }

    pub(super) async fn remove_secret_here(
        &self,
        caller: &Caller,
        request: v1::RemoveSecretRequest,
    ) -> Result<v1::ActReply, ApiError> {
        let name = secret_name(&request.name)?;
        let done = format!("secret {name} was removed");
        let command = Command::RemoveSecret { name, forced: request.force };
        self.act(caller, request.request, command, done, "nothing to change").await
    }

    /// On the leader: makes another key, and waits until all values are encrypted with it.
    pub(super) async fn rotate_secret_key_here(
        &self,
        caller: &Caller,
        request: v1::RotateSecretKeyRequest,
    ) -> Result<v1::ActReply, ApiError> {
        let _turn = self.secret_key_turn.lock().await;
        let key = self.offer_key(caller, convert::request_id(request.request)).await?;
        let all_done = |state: &State| {
            state.sealing_key().is_some_and(|newest| newest.id == key)
                && state.secrets.values().all(|secret| secret.key == key)
        };
        let state = self.state_when(caller, "all secrets to be encrypted with the new key", all_done).await?;
        let message = format!("{} secrets are encrypted with the key {key}", state.secrets.len());
        let (revision, changed) = (state.revision.0, true);
        Ok(v1::ActReply { revision, changed, message, warnings: Vec::new() })
    }

    /// The key to encrypt with, which the first secret brings about.
    async fn sealing_key(&self, caller: &Caller) -> Result<(SecretKeyId, Arc<SealingKey>), ApiError> {
        let known = self.state().sealing_key().map(|key| key.id);
        let id = match known {
            Some(id) => id,
            None => self.first_key(caller).await?,
        };
        let key = self.handles.keyring.get(id).ok_or(SecretError::NoKey(id))?;
        Ok((id, key))
    }

    /// Two callers at once get one key: the later one finds it made.
    async fn first_key(&self, caller: &Caller) -> Result<SecretKeyId, ApiError> {
        let _turn = self.secret_key_turn.lock().await;
        if let Some(key) = self.state().sealing_key() {
            return Ok(key.id);
        }
        self.offer_key(caller, convert::own_request()?).await?;
        let counts = |state: &State| state.sealing_key().is_some();
        let state = self.state_when(caller, "a majority to have the key of the secrets", counts).await?;
        state.sealing_key().map(|key| key.id).ok_or_else(|| Refusal::StaleSecretKey.into())
    }

    /// Makes a key here and tells the others that there is one to be fetched; the newest one that was offered, which is
    /// another one when this is a retry. One at a time: making a key forgets the one before that nobody heard of.
    async fn offer_key(
        &self,
        caller: &Caller,
        request: muster_core::id::RequestId,
    ) -> Result<SecretKeyId, ApiError> {
        let keyring = self.handles.keyring.clone();
        let named: Vec<SecretKeyId> = self.state().secret_keys.iter().map(|key| key.id).collect();
        let made = crate::blocking::run(move || keyring.make(&named)).await;
        let made = made.map_err(|error| ApiError::Internal(error.to_string()))?;
        let key = made.map_err(|error| ApiError::Internal(error.to_string()))?;
        let reply = self.submit(caller, request, Command::OfferSecretKey { key }).await?;
        let state = self.state_at(caller, reply.revision).await?;
        Ok(state.secret_keys.last().map_or(key, |newest| newest.id))
    }

    async fn state_when(
        &self,
        caller: &Caller,
        what: &str,
        so: impl Fn(&State) -> bool,
    ) -> Result<Arc<State>, ApiError> {
        let mut states = self.handles.published.state.clone();
        let waited = tokio::time::timeout(caller.timeout, states.wait_for(|state| so(state))).await;
        match waited {
            Ok(Ok(state)) => Ok(Arc::clone(&state)),
            Ok(Err(_)) => Err(ApiError::Internal("the agent stops".to_owned())),
            Err(_) => Err(ApiError::TimedOut(what.to_owned())),
        }
    }

    /// What a node needs to start a task: judged by the replicated state, in one place.
    pub(super) async fn secrets_for(
        &self,
        caller: &Caller,
        request: v1::GetSecretsRequest,
    ) -> Result<v1::GetSecretsReply, ApiError> {
        let node = caller.node()?;
        if !self.state().is_in_raft(self.handles.me) {
            return Err(self.not_leader());
        }
        let slot = muster_wire::slot_from_proto(request.slot, "get_secrets.slot")?;
        let task = TaskName::new(&request.task).map_err(|error| ApiError::Invalid(error.to_string()))?;
        let hurried = Caller { timeout: CATCH_UP.min(caller.timeout), ..caller.clone() };
        let state = self.state_at(&hurried, Revision(request.generation)).await?;
        let mut found = Vec::new();
        let judged = state.secrets_for(node, &slot, Generation(request.generation), &task);
        let judged = judged.inspect_err(|refusal| tracing::warn!(%refusal, "secrets were asked for"));
        for (name, secret) in judged? {
            let value = secrets::open(&state, &self.handles.keyring, name, secret)?;
            let value = value.to_vec().into();
            found.push(v1::SecretValue { name: name.to_string(), value });
        }
        Ok(v1::GetSecretsReply { secrets: found })
    }

    /// A key, for another member.
    pub(super) fn secret_key_for(
        &self,
        caller: &Caller,
        request: &v1::GetSecretKeyRequest,
    ) -> Result<v1::GetSecretKeyReply, ApiError> {
        let node = caller.node()?;
        let state = self.state();
        if !state.is_in_raft(node) {
            let needs = "the certificate of a member of Raft";
            return Err(ApiError::NotAllowed { who: format!("node {}", state.name_of(node)), needs });
        }
        let id = muster_wire::secret_key_id_from_bytes(&request.id)?;
        let key = self.handles.keyring.get(id).ok_or(SecretError::NoKey(id))?;
        Ok(v1::GetSecretKeyReply { key: key.bytes().to_vec().into() })
    }
}

/// What can be the value of a variable in an environment.
fn check_value(name: &SecretName, value: &[u8]) -> Result<(), ApiError> {
    let wrong = |what: &str| Err(ApiError::Invalid(format!("the value of secret {name} {what}")));
    if value.is_empty() {
        return wrong("is empty");
    }
    if value.len() > MAX_VALUE_BYTES {
        return wrong(&format!("has {} bytes, more than {MAX_VALUE_BYTES}", value.len()));
    }
    match std::str::from_utf8(value) {
        Ok(text) if text.contains('\0') => wrong("contains a NUL character"),
        Ok(_) => Ok(()),
        Err(_) => wrong("is not UTF-8 text; encode it, for example with base64"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_bad_value_is_not_the_value() {
        let name = SecretName::new("a").unwrap();
        for value in [b"\xffhunter2".as_slice(), b"hunter2\0", &vec![b'h'; MAX_VALUE_BYTES + 1], b""] {
            let error = check_value(&name, value).unwrap_err().to_string();
            assert!(error.contains("secret a") && !error.contains("hunter2") && error.len() < 120, "{error}");
        }
        assert_eq!(check_value(&name, &vec![b'h'; MAX_VALUE_BYTES]), Ok(()));
    }
}
