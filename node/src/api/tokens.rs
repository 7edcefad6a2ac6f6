//! Join tokens.

use std::time::Duration;

use muster_core::command::{Command, TokenGrant};
use muster_core::refusal::Refusal;
use muster_core::state::State;
use muster_proto::v1;
use muster_tls::Certificate;

use super::Api;
use super::caller::Caller;
use super::status::ApiError;
use crate::token::Token;

/// How long a token can be used when the caller does not say.
const DEFAULT_TTL: Duration = Duration::from_secs(3600);
/// The longest time that a token can be used.
const LONGEST_TTL: Duration = Duration::from_secs(30 * 24 * 3600);
/// The most hosts that may join with one token.
const MAX_USES: u32 = 1000;

impl Api {
    pub(super) async fn create_token_here(
        &self,
        caller: &Caller,
        request: v1::CreateTokenRequest,
    ) -> Result<v1::CreateTokenReply, ApiError> {
        let ttl = if request.ttl_ms == 0 { DEFAULT_TTL } else { Duration::from_millis(request.ttl_ms) };
        if ttl > LONGEST_TTL {
            let days = LONGEST_TTL.as_secs() / (24 * 3600);
            return Err(ApiError::Invalid(format!("a token can be valid for {days} days at most")));
        }
        if request.uses > MAX_USES {
            return Err(ApiError::Invalid(format!("a token can be used {MAX_USES} times at most")));
        }
        let no_randomness = |error: getrandom::Error| ApiError::Internal(error.to_string());
        let state = self.state();
        let authority = state.signing_authority().ok_or(Refusal::NoCluster)?;
        let authority = Certificate::from_der(&authority.certificate)
            .map_err(|error| ApiError::Internal(error.to_string()))?;
        let token = Token::generate(authority.pin()).map_err(no_randomness)?;
        let expires = self.handles.proposer.now(&state).plus(ttl);
        let grant = TokenGrant {
            id: token.id.clone(),
            hash: token.hash(),
            role: muster_wire::role_from_proto(request.role)?,
            expires,
            uses: request.uses.max(1),
        };
        // Not the caller's request id: the answer to a retry would name a token whose secret is lost. A token
        // that nobody got expires by itself.
        let request = super::convert::own_request()?;
        self.submit(caller, request, Command::CreateToken(grant)).await?;
        Ok(v1::CreateTokenReply {
            token: token.text,
            id: token.id,
            expires_ms: expires.0,
            addresses: where_to_join(&self.state()),
        })
    }

    pub(super) async fn revoke_token_here(
        &self,
        caller: &Caller,
        request: v1::RevokeTokenRequest,
    ) -> Result<v1::ActReply, ApiError> {
        let done = format!("token {} was revoked", request.id);
        let command = Command::RevokeToken { id: request.id };
        self.act(caller, request.request, command, done, "nothing to change").await
    }
}

/// The addresses of all voters: whoever joins asks one after the other.
pub(super) fn where_to_join(state: &State) -> Vec<String> {
    let voters = state.membership.voters();
    let nodes = voters.iter().filter_map(|id| state.nodes.get(id));
    nodes.flat_map(|node| node.description.addresses.iter().cloned()).collect()
}
