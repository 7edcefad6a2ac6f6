//! The acts of a scenario.

use muster_core::command::{Command, DrainWish, NodeChange, StopCause};
use muster_core::id::NodeId;
use muster_core::scheduler;
use muster_core::spec::Enforcement;
use muster_core::state::slot::InstanceState;

use crate::cluster::{Cluster, service, slot};
use crate::{declare, show};

/// Plans that follow each other without an end are a bug of the scheduler.
const MAX_ROUNDS: usize = 100;

/// Carries out one line; answers what to print.
pub fn run(cluster: &mut Cluster, words: &[String]) -> Vec<String> {
    let rest = &words[1..];
    match words[0].as_str() {
        "node" => {
            cluster.join(&rest[0], declare::node(&rest[1..]));
            Vec::new()
        }
        "service" => {
            let services = vec![declare::spec(&rest[0], &rest[1..])];
            answer(cluster, Command::PutServices { services, if_revision: None })
        }
        "plan" => {
            let plan = scheduler::plan(&cluster.state, cluster.now);
            show::plan(cluster, &cluster.state, &plan)
        }
        "apply" => apply(cluster),
        "obey" => {
            cluster.obey();
            Vec::new()
        }
        "settle" => settle(cluster),
        "lose" => rest.iter().flat_map(|name| lose(cluster, name)).collect(),
        "agent-gone" | "agent-back" => note_agent(cluster, words),
        "return" => come_back(cluster, &rest[0], rest.get(1).is_some_and(|w| w == "empty")),
        "wait" => {
            cluster.wait(declare::time(&rest[0]));
            Vec::new()
        }
        "running" => report(cluster, &rest[0], InstanceState::Running),
        "unhealthy" => report(cluster, &rest[0], InstanceState::Unhealthy),
        "failed" => end(cluster, &rest[0], &StopCause::Failed { message: rest[1..].join(" ") }),
        "stopped" => end(cluster, &rest[0], &StopCause::Revoked),
        "drain" | "undrain" | "cordon" | "uncordon" | "maintenance" | "label" | "leave" => {
            change_node(cluster, words)
        }
        "stop" | "start" | "restart" | "scale" | "remove" | "rollback" | "move" | "forget-failures" => {
            change_service(cluster, words)
        }
        _ => ask(cluster, words),
    }
}

fn ask(cluster: &Cluster, words: &[String]) -> Vec<String> {
    let (state, now) = (&cluster.state, cluster.now);
    let nodes = || words[1..].iter().map(|name| cluster.node(name)).collect::<Vec<NodeId>>();
    match words[0].as_str() {
        "where" => show::placements(state),
        "explain" => match scheduler::explain_service(state, &service(&words[1]), now) {
            Ok(items) => show::explained(&items),
            Err(refusal) => vec![format!("refused: {refusal}")],
        },
        "simulate" => show::items(&scheduler::simulate(state, &nodes(), now)),
        "survive" => {
            let survival = scheduler::survive(state, words[1].parse().expect("a number"), now);
            let head = format!("worst of {}: {} lost", survival.tried, survival.lost.join(" and "));
            std::iter::once(head).chain(show::items(&survival.items)).collect()
        }
        "rebalance" => show::items(&scheduler::rebalance_items(state, now)),
        "preview-drain" => match scheduler::drain_preview(state, nodes()[0], now) {
            Ok(items) => show::items(&items),
            Err(refusal) => vec![format!("refused: {refusal}")],
        },
        "plan-service" => {
            let spec = declare::spec(&words[1], &words[2..]);
            match scheduler::plan_for_services(state, &[spec], now) {
                Ok(items) => show::items(&items),
                Err(refusal) => vec![format!("refused: {refusal}")],
            }
        }
        "blocked" => {
            let blocked = scheduler::drain_blocked(state, nodes()[0], now);
            blocked.iter().map(|(slot, why)| format!("{slot}: {why}")).collect()
        }
        "check-move" => match scheduler::check_move(state, &slot(&words[1]), cluster.node(&words[2]), now) {
            Ok(()) => vec!["allowed".to_owned()],
            Err(refusal) => vec![format!("refused: {refusal}")],
        },
        "wakeup" => match scheduler::next_wakeup(state, now) {
            Some(at) => vec![format!("in {:?}", at.since(now))],
            None => vec!["never".to_owned()],
        },
        other => panic!("there is no act '{other}'"),
    }
}

fn answer(cluster: &mut Cluster, command: Command) -> Vec<String> {
    match cluster.apply(command) {
        Ok(_) => Vec::new(),
        Err(refusal) => vec![format!("refused: {refusal}")],
    }
}

/// Plans and applies once; then nothing may be left to plan.
fn apply(cluster: &mut Cluster) -> Vec<String> {
    let plan = scheduler::plan(&cluster.state, cluster.now);
    let told = show::plan(cluster, &cluster.state, &plan);
    cluster.must(Command::ApplyPlan(plan));
    let rest = scheduler::plan(&cluster.state, cluster.now);
    assert!(rest.actions.is_empty(), "an applied plan left something to plan: {rest:?}");
    told
}

fn settle(cluster: &mut Cluster) -> Vec<String> {
    let mut told = Vec::new();
    for _ in 0..MAX_ROUNDS {
        let plan = scheduler::plan(&cluster.state, cluster.now);
        if !plan.actions.is_empty() {
            told.extend(apply(cluster));
        }
        if !cluster.obey() && plan.actions.is_empty() {
            // What cannot be placed is told at the end.
            let left = show::plan(cluster, &cluster.state, &plan);
            let news = left.into_iter().filter(|line| !told.contains(line) && line != "nothing to do");
            let news: Vec<String> = news.collect();
            told.extend(news);
            return told;
        }
    }
    panic!("the cluster never comes to rest: {told:#?}");
}

fn lose(cluster: &mut Cluster, name: &str) -> Vec<String> {
    let Some(session) = cluster.state.nodes[&cluster.node(name)].session else {
        return vec![format!("{name} has no session")];
    };
    let plan = scheduler::plan_after_loss(&cluster.state, session, cluster.now);
    let without = cluster.state.without_session(session);
    let told = show::plan(cluster, &without, &plan);
    cluster.must(Command::Fenced { session, plan });
    told
}

fn note_agent(cluster: &mut Cluster, words: &[String]) -> Vec<String> {
    let session = cluster.state.nodes[&cluster.node(&words[1])].session.expect("a session");
    answer(cluster, Command::NoteAgent { session, gone: words[0] == "agent-gone" })
}

fn come_back(cluster: &mut Cluster, name: &str, empty: bool) -> Vec<String> {
    let node = cluster.node(name);
    let here = cluster.state.placements_on(node).map(|(slot, p)| (slot.clone(), p.generation));
    let inventory = here.filter(|_| !empty).collect();
    cluster.open(node, inventory, Enforcement::Kernel);
    Vec::new()
}

fn report(cluster: &mut Cluster, instance: &str, state: InstanceState) -> Vec<String> {
    let slot = slot(instance);
    for placement in cluster.reachable(&slot) {
        cluster.observed(&slot, &placement, state);
    }
    Vec::new()
}

fn end(cluster: &mut Cluster, instance: &str, why: &StopCause) -> Vec<String> {
    let slot = slot(instance);
    let placements = cluster.reachable(&slot);
    let placement = placements.last().unwrap_or_else(|| panic!("{slot} is nowhere"));
    cluster.ended(&slot, placement, why.clone());
    Vec::new()
}

fn change_node(cluster: &mut Cluster, words: &[String]) -> Vec<String> {
    let node = cluster.node(&words[1]);
    let option = |key: &str| words.iter().find_map(|w| w.strip_prefix(key)?.strip_prefix('='));
    let change = match words[0].as_str() {
        "drain" => NodeChange::Drain(DrainWish {
            deadline: option("deadline").map(declare::time),
            max_parallel: option("parallel").map_or(0, |n| n.parse().expect("a number")),
        }),
        "undrain" => NodeChange::Undrain,
        "cordon" => NodeChange::Cordon(true),
        "uncordon" => NodeChange::Cordon(false),
        "maintenance" => NodeChange::Maintenance(words[2] == "on"),
        "label" => {
            let (key, value) = words[2].split_once('=').expect("LABEL=VALUE");
            NodeChange::Label { key: key.to_owned(), value: Some(value.to_owned()).filter(|v| !v.is_empty()) }
        }
        _ => return answer(cluster, Command::RemoveNode { node }),
    };
    answer(cluster, Command::ChangeNode { node, change })
}

fn change_service(cluster: &mut Cluster, words: &[String]) -> Vec<String> {
    if words[0] == "move" {
        let to = words.get(2).map(|name| cluster.node(name));
        return answer(cluster, Command::MoveInstance { slot: slot(&words[1]), to });
    }
    let service = service(&words[1]);
    let command = match words[0].as_str() {
        "stop" => Command::SetServiceWanted { service, wanted: false },
        "start" => Command::SetServiceWanted { service, wanted: true },
        "restart" => Command::RestartService { service },
        "scale" => Command::ScaleService { service, count: words[2].parse().expect("a number") },
        "remove" => Command::RemoveService { service },
        "rollback" => Command::RollbackService { service },
        _ => Command::ClearFailures { service },
    };
    answer(cluster, command)
}
