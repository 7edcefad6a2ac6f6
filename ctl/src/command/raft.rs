//! `raft …`.

use muster_proto::v1 as pb;

use super::Run;
use crate::cli::RaftVerb;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::view::raft::Raft;

/// Runs a verb on the control plane.
///
/// # Errors
/// As of any call.
pub async fn raft(run: &mut Run, verb: RaftVerb) -> Result<Exit, Failure> {
    match verb {
        RaftVerb::Status => {
            let view = run.client.get_raft(pb::GetRaftRequest { stale: run.stale }).await?;
            run.out.show(&Raft::from(view))?;
        }
        RaftVerb::TransferLeader { to } => {
            let request = pb::HandOverRequest { to: to.clone().unwrap_or_default() };
            let reply = run.client.transfer_leader(request).await?;
            let target = to.as_deref().unwrap_or("another voter");
            run.acted(reply, target, &format!("the leadership goes to {target}"))?;
        }
    }
    Ok(Exit::Done)
}
