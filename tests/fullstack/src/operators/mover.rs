//! An operator who moves things about: drains, moves, restarts, scales, hands the leadership over.

use std::time::Duration;

use muster_proto::v1;
use muster_proto::v1::act_on_node_request::Act as NodeAct;
use muster_proto::v1::act_on_service_request::Act;
use muster_tests::sim::rng::Rng;

use super::{Agents, Agreement, Setting, timed, within};

const ALONE: [&str; 3] = ["alone-0", "alone-1", "alone-2"];

/// Goes on until peace, then tidies up.
pub(super) async fn run(setting: Setting, agents: Agents, mut rng: Rng) {
    while !Agreement::is(&setting.agreement.peace) {
        act(&setting, &agents, &mut rng).await;
        tokio::time::sleep(Duration::from_millis(rng.between(200, 3_000))).await;
    }
    for name in &setting.names {
        for act in [NodeAct::Undrain(true), NodeAct::Cordon(false), NodeAct::Maintenance(false)] {
            while !on_node(&agents, &mut rng, name, act.clone()).await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn act(setting: &Setting, agents: &Agents, rng: &mut Rng) {
    let node = setting.names[usize::try_from(rng.below(setting.names.len() as u64)).unwrap_or(0)].clone();
    let service = rng.pick(&ALONE).unwrap_or("alone-0").to_owned();
    match rng.below(9) {
        0 | 1 => {
            let request =
                v1::MoveRequest { service, to: node, failover: rng.percent(30), ..Default::default() };
            told("move", within(agents.any(rng).r#move(timed(request))).await);
        }
        // A drained voter gives its vote away, where there is somebody to take it.
        2 | 3 => {
            let drained = node.clone();
            let request = v1::DrainRequest { node, max_parallel: 1, ..Default::default() };
            if told("drain", within(agents.any(rng).drain(timed(request))).await) {
                tokio::time::sleep(Duration::from_millis(rng.between(500, 4_000))).await;
                on_node(agents, rng, &drained, NodeAct::Undrain(true)).await;
            }
        }
        4 => {
            on_node(agents, rng, &node, NodeAct::Undrain(true)).await;
        }
        5 => {
            let cordon = rng.percent(40);
            on_node(agents, rng, &node, NodeAct::Cordon(cordon)).await;
        }
        6 => {
            let act = Some(Act::Restart(true));
            let request = v1::ActOnServiceRequest { service, act, ..Default::default() };
            told("restart", within(agents.any(rng).act_on_service(timed(request))).await);
        }
        7 => {
            let act = Some(Act::Scale(u32::try_from(rng.between(2, 4)).unwrap_or(3)));
            let request = v1::ActOnServiceRequest { service: "many".to_owned(), act, ..Default::default() };
            told("scale", within(agents.any(rng).act_on_service(timed(request))).await);
        }
        _ => {
            let request = v1::HandOverRequest { to: if rng.percent(50) { node } else { String::new() } };
            told("transfer-leader", within(agents.any(rng).transfer_leader(timed(request))).await);
        }
    }
}

async fn on_node(agents: &Agents, rng: &mut Rng, node: &str, act: NodeAct) -> bool {
    let what = format!("{act:?} {node}");
    let request = v1::ActOnNodeRequest { request: None, node: node.to_owned(), act: Some(act) };
    told(&what, within(agents.any(rng).act_on_node(timed(request))).await)
}

fn told<T>(what: &str, outcome: Result<T, tonic::Status>) -> bool {
    match outcome {
        Ok(_) => tracing::info!("an operator: {what}"),
        Err(ref status) => tracing::info!(status = status.message(), "an operator: {what}: not done"),
    }
    outcome.is_ok()
}
