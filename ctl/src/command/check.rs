//! `check`: what needs attention, before it hurts.

use muster_proto::v1 as pb;

use super::Run;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::view::plan::{Item, Plan};
use crate::view::status::Status;

/// Shows what needs attention.
///
/// # Errors
/// As of any call; [`Failure::NoQuorum`] after what is known was shown.
pub async fn check(run: &mut Run) -> Result<Exit, Failure> {
    let status = Status::from(run.status().await?);
    let mut items = of_cluster(&status);
    items.extend(of_nodes(&status));
    items.extend(of_services(&status));
    if status.has_quorum() && status.nodes.len() > 1 {
        let request = pb::SimulateRequest { survive: 1, stale: run.stale, ..Default::default() };
        items.extend(of_loss(run.client.simulate(request).await?));
    }
    let summary = match items.len() {
        0 => "nothing needs attention".to_owned(),
        1 => "1 thing needs attention".to_owned(),
        more => format!("{more} things need attention"),
    };
    let changes = !items.is_empty();
    run.out.show(&Plan { items, summary, changes, revision: status.cluster.revision, ..Plan::default() })?;
    if !status.has_quorum() {
        return Err(Failure::NoQuorum("the quorum is lost".to_owned()));
    }
    Ok(if changes { Exit::Attention } else { Exit::Done })
}

fn attention(reason: String) -> Item {
    Item { action: "attention".to_owned(), reason: Some(reason), ..Item::default() }
}

fn of_cluster(status: &Status) -> Vec<Item> {
    let cluster = &status.cluster;
    let mut items: Vec<Item> = cluster.warnings.iter().cloned().map(attention).collect();
    let quorum = cluster.quorum;
    if cluster.leader.is_none() {
        items.push(attention("the cluster has no leader".to_owned()));
    }
    if quorum.margin < 0 {
        let text = format!("the quorum is lost: {} of {} voters are alive", quorum.alive, quorum.voters);
        items.push(attention(text));
    } else if quorum.margin == 0 {
        let text = match quorum.voters {
            1 => "there is one voter: with its host the cluster is lost; let two more hosts join".to_owned(),
            voters => format!("no further voter may fail: {} of {voters} are alive", quorum.alive),
        };
        items.push(attention(text));
    }
    items
}

fn of_nodes(status: &Status) -> Vec<Item> {
    let mut items = Vec::new();
    for node in &status.nodes {
        let mut tell =
            |reason: String| items.push(Item { node: Some(node.name.clone()), ..attention(reason) });
        if matches!(node.state.as_str(), "suspect" | "lost") {
            tell(format!("the node is {}", node.state));
        }
        if node.agent == "down" && node.state == "alive" {
            tell("its agent does not answer; the guard keeps its services".to_owned());
        }
        if node.lease_is_short() {
            let left = node.lease.headroom_ms.unwrap_or_default();
            tell(format!("little is left of its lease: {left} of {} ms", node.lease.ttl_ms));
        }
        for blocked in node.drain.iter().flat_map(|drain| &drain.blocked) {
            tell(format!("its drain is blocked by {}: {}", blocked.instance, blocked.reason));
        }
    }
    items
}

fn of_services(status: &Status) -> Vec<Item> {
    let not_as_wished = status.services.iter().filter(|service| !service.is_as_wished());
    not_as_wished
        .map(|service| {
            let counts = || format!("{} of {} instances run", service.running, service.wanted);
            let reason = service.reason.clone().unwrap_or_else(counts);
            let item = attention(format!("the service is {}: {reason}", service.state));
            Item { service: Some(service.name.clone()), ..item }
        })
        .collect()
}

/// Instances that would run nowhere after the worst loss of one host.
fn of_loss(worst: pb::PlanReply) -> Vec<Item> {
    let homeless = worst.items.into_iter().filter(|item| item.action == "unplaced");
    homeless
        .map(Item::from)
        .map(|item| {
            let why = item.reason.clone().unwrap_or_else(|| "no node takes it".to_owned());
            let loss = item.node.as_deref().map_or("of one host".to_owned(), |node| format!("of {node}"));
            let item_reason = format!("would run nowhere after the loss {loss}: {why}");
            Item { action: "attention".to_owned(), reason: Some(item_reason), ..item }
        })
        .collect()
}
