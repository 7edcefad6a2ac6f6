//! `move`, `failover`, `simulate`, `rebalance`: where things run.

use muster_proto::v1 as pb;

use super::Run;
use crate::cli::SimulateArgs;
use crate::cli::service::{FailoverArgs, MoveArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::view::plan::Plan;
use crate::wait;
use crate::wait::service::Instance;

/// Moves an instance in an orderly way.
///
/// # Errors
/// As of any call; when it went elsewhere, with the reason.
pub async fn move_to(run: &mut Run, args: MoveArgs) -> Result<Exit, Failure> {
    place(run, &args.instance, Some(args.to), false, args.detach).await
}

/// Makes an instance run elsewhere, also when its host is gone.
///
/// # Errors
/// As of any call.
pub async fn failover(run: &mut Run, args: FailoverArgs) -> Result<Exit, Failure> {
    place(run, &args.instance, args.to, true, args.detach).await
}

async fn place(
    run: &mut Run,
    instance: &str,
    to: Option<String>,
    failover: bool,
    detach: bool,
) -> Result<Exit, Failure> {
    let instance = Instance::parse(instance)?;
    let request = pb::MoveRequest {
        service: instance.service.clone(),
        index: instance.index,
        to: to.clone().unwrap_or_default(),
        failover,
        ..Default::default()
    };
    let reply = run.client.r#move(request).await?;
    let target = to.as_deref().unwrap_or("another node");
    if detach || !reply.changed {
        let message = if reply.changed { "is to run" } else { "runs" };
        run.acted(reply, &instance.to_string(), &format!("{instance} {message} on {target}"))?;
        return Ok(Exit::Done);
    }
    let revision = reply.revision;
    let judge =
        |status: &pb::ClusterStatus, _| wait::service::moved(status, &instance, to.as_deref(), revision);
    let status = wait::until(run, judge).await?;
    let found = status.services.iter().find(|service| service.name == instance.service);
    let newest = found.and_then(|service| {
        service.instances.iter().filter(|i| i.generation > revision).max_by_key(|i| i.generation)
    });
    let place = newest.map_or(target, |instance| &instance.node);
    run.done(reply, &instance.to_string(), &format!("{instance} runs on {place}"))?;
    Ok(Exit::Done)
}

/// Shows what a loss would do.
///
/// # Errors
/// As of any call.
pub async fn simulate(run: &mut Run, args: SimulateArgs) -> Result<Exit, Failure> {
    let request = pb::SimulateRequest {
        lose_nodes: args.lose,
        lose_zones: args.lose_zone,
        survive: args.survive.unwrap_or(0),
        stale: run.stale,
    };
    let plan = run.client.simulate(request).await?;
    run.out.show(&Plan::from(plan))?;
    Ok(Exit::Done)
}

/// Evens out where instances run.
///
/// # Errors
/// As of any call; when an instance went elsewhere, with the reason.
pub async fn rebalance(run: &mut Run, dry_run: bool, detach: bool) -> Result<Exit, Failure> {
    // Whatever moves for it gets a generation above this one.
    let before = run.client.get_status(pb::GetStatusRequest { stale: false }).await?.revision;
    let plan = run.client.rebalance(pb::RebalanceRequest { dry_run, ..Default::default() }).await?;
    let moving = |item: &&pb::PlanItem| !item.to.is_empty() && item.to != item.node;
    let target = |item: &pb::PlanItem| Ok((Instance::parse(&item.instance)?, item.to.clone()));
    let moves = plan.items.iter().filter(moving).map(target);
    let moves: Vec<(Instance, String)> = moves.collect::<Result<_, Failure>>()?;
    run.out.show(&Plan::from(plan))?;
    if dry_run || detach || moves.is_empty() {
        return Ok(Exit::Done);
    }
    wait::until(run, |status, _| wait::service::all_moved(status, &moves, before)).await?;
    run.out.note(&match moves.len() {
        1 => "1 instance has moved".to_owned(),
        more => format!("{more} instances have moved"),
    });
    Ok(Exit::Done)
}
