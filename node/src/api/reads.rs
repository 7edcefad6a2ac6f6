//! What operators read.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_core::check;
use muster_core::id::NodeId;
use muster_core::refusal::Refusal;
use muster_core::state::State;
use muster_core::state::secret::SecretKey;
use muster_proto::v1;

use super::status::ApiError;
use super::view::{Sight, View, raft_view, service_view, token_view};
use super::{Api, convert};
use crate::clock;
use crate::raft::{RaftStatus, Role};

/// A voter that answered the leader within this time is up.
const ANSWERED_LATELY: Duration = Duration::from_secs(1);

impl Api {
    pub(super) async fn status(&self, state: &State, stale: bool) -> v1::ClusterStatus {
        let mut sight = self.sight(state, stale).await;
        sight.warnings.extend(broken_invariants(state));
        View::new(state, &sight).cluster()
    }

    pub(super) async fn list_services_here(
        &self,
        state: &State,
        request: &v1::ListServicesRequest,
    ) -> Result<v1::ListServicesReply, ApiError> {
        let sight = self.sight(state, request.stale).await;
        let view = View::new(state, &sight);
        let mut services = Vec::new();
        if request.names.is_empty() {
            services.extend(state.services.iter().map(|(name, service)| service_view(&view, name, service)));
        }
        for name in &request.names {
            let name = convert::service_name(name)?;
            let service = state.services.get(&name).ok_or_else(|| Refusal::NoSuchService(name.clone()))?;
            services.push(service_view(&view, &name, service));
        }
        Ok(v1::ListServicesReply { services, revision: state.revision.0 })
    }

    pub(super) fn raft_view(&self, state: &State) -> v1::RaftView {
        raft_view(state, &self.handles.raft.status(), self.handles.me)
    }

    /// What this node sees besides the replicated state.
    async fn sight(&self, state: &State, stale: bool) -> Sight {
        let raft = self.handles.raft.status();
        let leader = raft.leader.map(NodeId);
        let mut warnings = self.handles.warnings.to_vec();
        let dropped = self.handles.history.dropped();
        if dropped > 0 {
            warnings.push(format!("{dropped} events are missing in the history of {}", self.handles.name));
        }
        warnings.extend(super::certificates::warnings(state, clock::wall_now()));
        let lacks = |key: &&SecretKey| key.counts && self.handles.keyring.get(key.id).is_none();
        if let Some(key) = state.secret_keys.iter().find(lacks).filter(|_| state.is_in_raft(self.handles.me))
        {
            warnings.push(format!("{} lacks the key {} of the secrets", self.handles.name, key.id));
        }
        Sight {
            answered_by: self.handles.name.to_string(),
            term: raft.term,
            leader,
            voters_alive: self.voters_alive(state, &raft).await,
            healths: self.handles.healths.borrow().as_ref().clone(),
            now: self.handles.proposer.now(state),
            stale,
            warnings,
        }
    }

    async fn voters_alive(&self, state: &State, raft: &RaftStatus) -> BTreeSet<NodeId> {
        let voters = state.membership.voters();
        let me = self.handles.me;
        if raft.role == Role::Leader {
            let lately = |id: NodeId| {
                let since = raft.since_ack.get(&id.0).copied().flatten();
                id == me || since.is_some_and(|age| age < ANSWERED_LATELY)
            };
            return voters.into_iter().filter(|id| lately(*id)).collect();
        }
        if raft.leader.is_none() {
            return self.reachable_voters(state).await.into_iter().collect();
        }
        let has_session = |id: &NodeId| state.nodes.get(id).is_some_and(|node| node.session.is_some());
        voters.into_iter().filter(has_session).collect()
    }
}

/// How many broken invariants are named; one is enough to be told, and many say the same.
const NAMED_VIOLATIONS: usize = 3;

/// What should never be true of the state, and is: a fault of Muster.
fn broken_invariants(state: &State) -> Vec<String> {
    let found = check::violations(state);
    let named = found.iter().take(NAMED_VIOLATIONS);
    named
        .map(|violation| format!("an invariant of the state is broken, please report it: {violation}"))
        .collect()
}

/// All tokens that can still be used, by their ids.
pub(super) fn tokens(state: &State) -> v1::ListTokensReply {
    v1::ListTokensReply { tokens: state.tokens.values().map(token_view).collect() }
}

#[cfg(test)]
mod tests {
    use muster_core::id::Revision;

    use super::*;

    #[test]
    fn a_broken_invariant_is_told_and_a_sound_state_is_not() {
        let mut state = State::default();
        assert_eq!(broken_invariants(&state), Vec::<String>::new());
        state.topology = Revision(1);
        let told = broken_invariants(&state);
        let expected =
            "an invariant of the state is broken, please report it: the topology: is newer than the state";
        assert_eq!(told, [expected]);
    }
}
