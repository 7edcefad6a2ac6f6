//! Nodes and services in one line each.
//!
//! `service NAME exclusive|replicated*N|everywhere` and then any of: require="A == b; has c" prefer="zone == a:50"
//! spread=zone with=db apart=db,web after=db cpu=500 memory=512 priority=80 failback=auto enforcement=user
//! replace_after=5s window=60s backoff=1s..30s command=/bin/x

use std::time::Duration;

use muster_core::command::Role;
use muster_core::id::{ServiceName, TaskName};
use muster_core::spec::selector::Requirement;
use muster_core::spec::{Driver, Enforcement, ExecSpec, Failback, Mode, Preference, ServiceSpec, TaskSpec};

use crate::cluster::{NodeTraits, service};

pub fn node(words: &[String]) -> NodeTraits {
    let mut traits = NodeTraits::default();
    for word in words {
        match word.split_once('=') {
            None if word == "witness" => traits.role = Role::Witness,
            None if word == "worker" => traits.role = Role::Worker,
            None if word == "user" => traits.by_user = true,
            None if word == "joining" => traits.joining = true,
            None => panic!("a node cannot be '{word}'"),
            Some(("cpu", n)) => traits.capacity.cpu_millis = n.parse().expect("a number"),
            Some(("memory", n)) => traits.capacity.memory_mib = n.parse().expect("a number"),
            Some((label, value)) => {
                traits.labels.insert(label.to_owned(), value.to_owned());
            }
        }
    }
    traits
}

pub fn spec(name: &str, words: &[String]) -> ServiceSpec {
    let mode = match words[0].as_str() {
        "exclusive" => Mode::Exclusive,
        "everywhere" => Mode::Everywhere,
        other => {
            let count = other.strip_prefix("replicated*").expect("exclusive, everywhere or replicated*N");
            Mode::Replicated { count: count.parse().expect("a number") }
        }
    };
    let exec = ExecSpec { command: vec!["/bin/server".to_owned()], ..ExecSpec::default() };
    let task =
        TaskSpec { name: TaskName::new("server").expect("a name"), driver: Driver::Exec(exec), health: None };
    let mut spec = ServiceSpec::with_defaults(service(name), mode, vec![task]);
    for word in &words[1..] {
        let (key, value) = word.split_once('=').unwrap_or_else(|| panic!("'{word}' is not KEY=VALUE"));
        set(&mut spec, key, value);
    }
    spec
}

fn set(spec: &mut ServiceSpec, key: &str, value: &str) {
    let placement = &mut spec.placement;
    match key {
        "require" => placement.require = value.split(';').map(requirement).collect(),
        "prefer" => placement.prefer = value.split(';').map(preference).collect(),
        "spread" => placement.spread = Some(value.to_owned()),
        "with" => placement.with = names(value),
        "apart" => placement.apart = names(value),
        "after" => placement.after = names(value),
        "cpu" => spec.resources.cpu_millis = value.parse().expect("a number"),
        "memory" => spec.resources.memory_mib = value.parse().expect("a number"),
        "priority" => spec.priority = value.parse().expect("a number"),
        "failback" => spec.failback = if value == "auto" { Failback::Auto } else { Failback::Manual },
        "enforcement" => {
            spec.enforcement = if value == "user" { Enforcement::User } else { Enforcement::Kernel };
        }
        "replace_after" => spec.replace_after = time(value),
        "window" => spec.restart.window = time(value),
        "backoff" => {
            let (min, max) = value.split_once("..").expect("MIN..MAX");
            spec.restart.backoff_min = time(min);
            spec.restart.backoff_max = time(max);
        }
        "command" => {
            let Driver::Exec(exec) = &mut spec.tasks[0].driver;
            exec.command = vec![value.to_owned()];
        }
        other => panic!("a service has no '{other}'"),
    }
}

fn names(list: &str) -> Vec<ServiceName> {
    list.split(',').map(service).collect()
}

fn requirement(text: &str) -> Requirement {
    text.trim().parse().unwrap_or_else(|e| panic!("'{text}': {e}"))
}

fn preference(text: &str) -> Preference {
    let (label, weight) = text.rsplit_once(':').expect("CONDITION:WEIGHT");
    Preference { label: requirement(label), weight: weight.parse().expect("a number") }
}

/// `500ms`, `5s`, `2m` or `1h`.
pub fn time(text: &str) -> Duration {
    let digits = text.trim_end_matches(char::is_alphabetic);
    let number: u64 = digits.parse().expect("a number and a unit");
    match &text[digits.len()..] {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number * 60),
        "h" => Duration::from_secs(number * 3600),
        other => panic!("'{other}' is no unit"),
    }
}
