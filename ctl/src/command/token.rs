//! `token …`.

use muster_proto::v1 as pb;

use super::Run;
use crate::cli::{TokenRole, TokenVerb};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::view::token::{NewToken, TokenList};
use crate::{clock, when};

/// Runs a verb on join tokens.
///
/// # Errors
/// As of any call.
pub async fn token(run: &mut Run, verb: TokenVerb) -> Result<Exit, Failure> {
    match verb {
        TokenVerb::Create { role, ttl, uses } => {
            let role = match role {
                TokenRole::Auto => pb::Role::Auto,
                TokenRole::Worker => pb::Role::Worker,
                TokenRole::Witness => pb::Role::Witness,
            };
            let request = pb::CreateTokenRequest {
                role: role.into(),
                ttl_ms: when::as_ms(ttl),
                uses,
                ..Default::default()
            };
            let token = NewToken::from(run.client.create_token(request).await?);
            run.out.show(&token)?;
            let ends = when::relative(token.expires_ms, clock::wall_ms());
            run.out.note(&format!("the token ends {ends}; on the new host run:\n  {}", token.join));
        }
        TokenVerb::List => {
            let tokens = run.client.list_tokens(pb::ListTokensRequest { stale: run.stale }).await?;
            run.out.show(&TokenList::from(tokens))?;
        }
        TokenVerb::Revoke { id } => {
            let request = pb::RevokeTokenRequest { id: id.clone(), ..Default::default() };
            let reply = run.client.revoke_token(request).await?;
            run.acted(reply, &id, &format!("token {id} is revoked"))?;
        }
    }
    Ok(Exit::Done)
}
