//! Join tokens, as `token list` shows them: never their secret.

use muster_core::command::TokenGrant;
use muster_proto::v1;

/// One token.
pub(in crate::api) fn token_view(grant: &TokenGrant) -> v1::TokenView {
    v1::TokenView {
        id: grant.id.clone(),
        role: muster_wire::role_to_proto(grant.role).into(),
        expires_ms: grant.expires.0,
        uses: grant.uses,
    }
}
