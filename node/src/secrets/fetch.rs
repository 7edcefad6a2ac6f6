//! How the node that is to start a task gets the values that the task names: from its own state and keyring if it is a
//! member of Raft, else from a member. Values are not kept: the next start asks again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use muster_core::id::{NodeId, SecretName};
use muster_core::spec::Driver;
use muster_core::state::State;
use muster_proto::v1;
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::{Keyring, open};
use crate::driver::{NoSecrets, SecretSource, SecretValues, StartOrder};
use crate::peers::{Peers, sender};

/// How long a member may take to answer: it may have to catch up with the placement.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// The source of a whole agent.
pub struct Fetcher {
    /// This node.
    pub me: NodeId,
    /// Its keys; empty on a node outside Raft.
    pub keyring: Keyring,
    /// The state as applied.
    pub state: watch::Receiver<Arc<State>>,
    /// The members.
    pub peers: Peers,
}

impl SecretSource for Fetcher {
    fn fetch<'a>(&'a self, order: &'a StartOrder) -> BoxFuture<'a, Result<SecretValues, NoSecrets>> {
        async move {
            let state = self.state.borrow().clone();
            let why = match self.open_here(&state, order) {
                Ok(values) => return Ok(values),
                Err(why) => why,
            };
            let values = self.ask_members(&state, order, why).await?;
            let Driver::Exec(exec) = &order.spec.driver;
            match exec.secrets.values().find(|name| !values.contains_key(*name)) {
                None => Ok(values),
                Some(name) => Err(NoSecrets(format!("secret {name} did not come with the others"))),
            }
        }
        .boxed()
    }
}

impl Fetcher {
    fn open_here(&self, state: &State, order: &StartOrder) -> Result<SecretValues, NoSecrets> {
        if !state.is_in_raft(self.me) {
            return Err(NoSecrets("no member of the control plane could be asked".to_owned()));
        }
        let found = state.secrets_for(self.me, &order.id.slot, order.generation, &order.id.task);
        let mut values = BTreeMap::new();
        for (name, secret) in found.map_err(|refusal| NoSecrets(refusal.to_string()))? {
            let value = open(state, &self.keyring, name, secret);
            let value = text(name, value.map_err(|error| NoSecrets(error.to_string()))?)?;
            values.insert(name.clone(), value);
        }
        Ok(values)
    }

    /// The members one after the other; `why` is what stood against it so far.
    async fn ask_members(
        &self,
        state: &State,
        order: &StartOrder,
        mut why: NoSecrets,
    ) -> Result<SecretValues, NoSecrets> {
        let request = v1::GetSecretsRequest {
            sender: Some(sender(state, self.me)),
            slot: Some(muster_wire::slot_to_proto(&order.id.slot)),
            generation: order.generation.0,
            task: order.id.task.to_string(),
        };
        for member in state.membership.voters().into_iter().filter(|id| *id != self.me) {
            let Ok(mut link) = self.peers.link(member) else { continue };
            match tokio::time::timeout(ASK_TIMEOUT, link.get_secrets(request.clone())).await {
                Ok(Ok(answer)) => return values_of(answer.into_inner()),
                Ok(Err(status)) => why = NoSecrets(status.message().to_owned()),
                Err(_) => why = NoSecrets(format!("{} did not answer", state.name_of(member))),
            }
        }
        Err(why)
    }
}

fn values_of(reply: v1::GetSecretsReply) -> Result<SecretValues, NoSecrets> {
    let mut values = BTreeMap::new();
    for secret in reply.secrets {
        let name = SecretName::new(&secret.name).map_err(|error| NoSecrets(error.to_string()))?;
        let value = text(&name, Zeroizing::new(secret.value.to_vec()))?;
        values.insert(name, value);
    }
    Ok(values)
}

/// A variable of an environment is a text; it was judged when the secret was made.
fn text(name: &SecretName, value: Zeroizing<Vec<u8>>) -> Result<muster_guard::protocol::EnvText, NoSecrets> {
    match std::str::from_utf8(&value) {
        Ok(text) => Ok(text.into()),
        Err(_) => Err(NoSecrets(format!("secret {name} is no text"))),
    }
}
