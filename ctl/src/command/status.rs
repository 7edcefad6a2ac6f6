//! `status`.

use std::time::Duration;

use muster_proto::v1 as pb;

use super::Run;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::view::status::Status;

/// A status is wanted most when things are bad: after so long without an answer of the whole cluster, one
/// agent's own copy is shown. An election is over by then.
const PATIENCE: Duration = Duration::from_secs(3);

/// Shows the cluster at a glance.
///
/// # Errors
/// When no agent answers, or there is no quorum: then what is known was shown before.
pub async fn status(run: &mut Run, check: bool) -> Result<Exit, Failure> {
    let (status, unanswered) = look(run).await?;
    let status = Status::from(status);
    if check {
        run.out.show_outcome(&status)?;
    } else {
        run.out.show(&status)?;
    }
    let voters = status.cluster.quorum;
    match unanswered {
        Some(failure) if failure.exit() == Exit::NoQuorum => Err(failure),
        Some(failure) => Err(Failure::NoQuorum(format!("the cluster as a whole does not answer: {failure}"))),
        None if !status.has_quorum() => Err(Failure::NoQuorum(format!(
            "the quorum is lost: {} of {} voters are alive",
            voters.alive, voters.voters
        ))),
        None if check && needs_attention(&status) => Ok(Exit::Attention),
        None => Ok(Exit::Done),
    }
}

/// The status of the cluster, or else of the asked agent and why it is only that.
pub(super) async fn look(run: &mut Run) -> Result<(pb::ClusterStatus, Option<Failure>), Failure> {
    let all = run.timeout.unwrap_or(super::TIMEOUT);
    if run.stale {
        run.client.set_limit(all);
        return Ok((run.status().await?, None));
    }
    run.client.set_limit(all.min(PATIENCE));
    match run.status().await {
        Ok(status) => Ok((status, None)),
        Err(failure) if failure.is_unanswered() && failure.exit() != Exit::NoAgent => {
            run.client.set_limit(all);
            let own = run.client.get_status(pb::GetStatusRequest { stale: true }).await;
            match own {
                Ok(own) => Ok((own, Some(failure))),
                Err(_) => Err(failure),
            }
        }
        Err(failure) => Err(failure),
    }
}

/// Whether something is not as it should be that no operator asked for.
fn needs_attention(status: &Status) -> bool {
    let quorum = status.cluster.quorum;
    let node_is_bad = |state: &str, agent: &str| matches!(state, "suspect" | "lost") || agent == "down";
    (quorum.voters > 1 && quorum.margin == 0)
        || status.cluster.leader.is_none()
        || !status.cluster.warnings.is_empty()
        || status.nodes.iter().any(|node| node_is_bad(&node.state, &node.agent))
        || status.services.iter().any(|service| !service.is_as_wished())
}
