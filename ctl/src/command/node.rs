//! `node …`, `drain`, `undrain`.

use std::time::Duration;

use muster_proto::v1 as pb;
use pb::act_on_node_request::Act;

use super::{Run, assignment, find_node};
use crate::cli::node::{DrainArgs, NodeVerb};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::view::node::{NodeDetail, NodeList};
use crate::view::outcome::{Outcome, Outcomes};
use crate::view::plan::Plan;
use crate::view::service::Instance;
use crate::view::status::Status;
use crate::{wait, when};

/// How long a drain without a deadline is waited for.
const DRAIN_WAIT: Duration = Duration::from_secs(600);
/// What a drain with a deadline may take beyond it: the last instances stop.
const BEYOND_DEADLINE: Duration = Duration::from_secs(30);

/// Runs a verb on nodes.
///
/// # Errors
/// As of any call.
pub async fn node(run: &mut Run, verb: NodeVerb) -> Result<Exit, Failure> {
    match verb {
        NodeVerb::List => {
            let status = Status::from(run.status().await?);
            let leader = status.leader().to_owned();
            run.out.show(&NodeList { nodes: status.nodes, leader })?;
        }
        NodeVerb::Show { node } => show(run, &node).await?,
        NodeVerb::Label { node, labels } => label(run, &node, &labels).await?,
        NodeVerb::Cordon { node } => {
            act(run, &node, Act::Cordon(true), &format!("{node} is cordoned: nothing new is placed there"))
                .await?;
        }
        NodeVerb::Uncordon { node } => {
            act(run, &node, Act::Cordon(false), &format!("{node} may be used again")).await?;
        }
        NodeVerb::Maintenance { switch, node } => {
            // Both orders are understood: the switch is the word that can only be a switch.
            let (on, node) = match (switch.as_str(), node.as_str()) {
                ("on", _) => (true, node),
                ("off", _) => (false, node),
                (_, "on") => (true, switch),
                (_, "off") => (false, switch),
                _ => return Err(Failure::Usage(format!("'{switch}' is neither on nor off"))),
            };
            let state =
                if on { "in maintenance: what runs there is left alone" } else { "out of maintenance" };
            act(run, &node, Act::Maintenance(on), &format!("{node} is {state}")).await?;
        }
        NodeVerb::Remove { node, detach } => remove(run, &node, detach).await?,
    }
    Ok(Exit::Done)
}

async fn show(run: &mut Run, name: &str) -> Result<(), Failure> {
    let status = run.status().await?;
    let node = find_node(&status, name)?.clone();
    let instances = status.services.iter().flat_map(|service| &service.instances);
    let here = instances.filter(|instance| instance.node == name).cloned();
    let placements = here.map(Instance::from).collect();
    run.out.show(&NodeDetail { node: node.into(), placements })
}

async fn act(run: &mut Run, node: &str, act: Act, message: &str) -> Result<(), Failure> {
    let reply = request(run, node, act).await?;
    run.acted(reply, node, message)
}

async fn request(run: &mut Run, node: &str, act: Act) -> Result<pb::ActReply, Failure> {
    let request = pb::ActOnNodeRequest { node: node.to_owned(), act: Some(act), ..Default::default() };
    run.client.act_on_node(request).await
}

async fn label(run: &mut Run, node: &str, labels: &[String]) -> Result<(), Failure> {
    let changes: Result<Vec<_>, Failure> = labels.iter().map(|text| assignment(text)).collect();
    let mut outcomes = Vec::new();
    for (key, value) in changes? {
        let message = match &value {
            Some(value) => format!("{node}: label {key} is {value}"),
            None => format!("{node}: label {key} is removed"),
        };
        let reply = request(run, node, Act::Label(pb::LabelChange { key, value })).await?;
        outcomes.push(Outcome::new(reply, node, &message));
    }
    run.out.show_outcome(&Outcomes(outcomes))
}

async fn remove(run: &mut Run, node: &str, detach: bool) -> Result<(), Failure> {
    run.confirm(format!("node {node} will be removed from the cluster for good"))?;
    let reply = request(run, node, Act::Remove(true)).await?;
    if detach {
        return run.acted(reply, node, &format!("{node} is being removed"));
    }
    wait::until(run, |status, _| wait::node::gone(status, node)).await?;
    run.done(reply, node, &format!("{node} is removed"))
}

/// Empties a node and waits until it is empty.
///
/// # Errors
/// As of any call; when the time is over, with what is still there and why.
pub async fn drain(run: &mut Run, args: DrainArgs) -> Result<Exit, Failure> {
    let node = &args.node;
    let request = pb::DrainRequest {
        node: node.clone(),
        deadline_ms: args.deadline.map(when::as_ms),
        max_parallel: args.max_parallel.unwrap_or(0),
        dry_run: args.dry_run,
        ..Default::default()
    };
    let plan = Plan::from(run.client.drain(request).await?);
    if args.dry_run || args.detach {
        run.out.show_outcome(&plan)?;
        return Ok(Exit::Done);
    }
    if !run.out.is_structured() {
        run.out.show_outcome(&plan)?;
    }
    run.wait_at_most(args.deadline.map_or(DRAIN_WAIT, |deadline| deadline + BEYOND_DEADLINE));
    let result = wait::until(run, |status, _| wait::node::drained(status, node, true)).await;
    if run.out.is_structured() {
        run.out.show(&plan)?;
    }
    result?;
    run.out.note(&format!("{node} is empty; 'musterctl undrain {node}' lets services return"));
    Ok(Exit::Done)
}

/// Ends a drain.
///
/// # Errors
/// As of any call.
pub async fn undrain(run: &mut Run, node: &str) -> Result<Exit, Failure> {
    act(run, node, Act::Undrain(true), &format!("{node} may be used again")).await?;
    Ok(Exit::Done)
}
