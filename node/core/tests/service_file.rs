//! The service file: what operators write is read as declared, wrong keys and values are named, and what is
//! printed reads as itself in every format.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_core::id::{SecretName, ServiceName, TaskName};
use muster_core::spec::file::{HealthEntry, ServiceEntry, ServiceFile, TaskEntry};
use muster_core::spec::selector::{Requirement, Test};
use muster_core::spec::validate::SpecError;
use muster_core::spec::{
    Check, Driver, Enforcement, ExecSpec, Failback, HealthSpec, Limits, Mode, OnQuorumLoss, PlacementSpec,
    Preference, Resources, RestartPolicy, ServiceSpec, TaskSpec,
};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

const FULL: &str = r#"
[[service]]
name  = "orders-db"
mode  = "exclusive"
count = 1
priority = 60
stop_timeout = "1m30s"
on_quorum_loss = "stop"
enforcement = "user"
replace_after = "7s"
failback = "auto"
rto = "5s"
[service.placement]
require = ["disk == ssd", "zone in (a, b)"]
prefer  = [{ label = "zone == a", weight = 50 }]
spread  = "zone"
with    = ["orders-cache"]
apart   = ["reports-db"]
after   = ["storage"]
[service.resources]
cpu_millis = 500
memory_mib = 512
[service.restart]
attempts = 4
window   = "10m"
backoff  = "2s..20s"
[[service.task]]
name   = "server"
[service.task.exec]
command = ["/usr/bin/redis-server", "--port", "6379"]
user = "redis"
env = { A = "b", PASSWORD = { secret = "db-password" } }
stop_signal = "INT"
limits = { open_files = 65536 }
[service.task.health]
tcp = "127.0.0.1:6379"
timeout = "500ms"
"#;

const SMALL: &str =
    "[[service]]\nname = 'a'\n[[service.task]]\nname = 't'\n[service.task.exec]\ncommand = ['/bin/a']\n";

fn read(text: &str) -> Result<Vec<ServiceSpec>, String> {
    let file: ServiceFile = toml::from_str(text).map_err(|e| e.to_string())?;
    file.try_into().map_err(|e: SpecError| e.to_string())
}

fn service(name: &str) -> ServiceName {
    ServiceName::new(name).expect("a legal name")
}

fn secret(name: &str) -> SecretName {
    SecretName::new(name).expect("a legal name")
}

fn one_of(label: &str, values: &[&str]) -> Requirement {
    let values = values.iter().map(|value| (*value).to_owned()).collect();
    Requirement { label: label.to_owned(), test: Test::In(values) }
}

#[test]
fn every_key_is_read() {
    let exec = ExecSpec {
        command: ["/usr/bin/redis-server", "--port", "6379"].map(str::to_owned).into(),
        user: Some("redis".to_owned()),
        env: [("A".to_owned(), "b".to_owned())].into(),
        secrets: [("PASSWORD".to_owned(), secret("db-password"))].into(),
        limits: Limits { open_files: Some(65536), ..Limits::default() },
        stop_signal: Some("INT".to_owned()),
        ..ExecSpec::default()
    };
    let health = HealthSpec {
        check: Check::Tcp("127.0.0.1:6379".to_owned()),
        interval: Duration::from_secs(1),
        timeout: Duration::from_millis(500),
        failures: 3,
    };
    let expected = ServiceSpec {
        name: service("orders-db"),
        mode: Mode::Exclusive,
        priority: 60,
        stop_timeout: Duration::from_secs(90),
        on_quorum_loss: OnQuorumLoss::Stop,
        enforcement: Enforcement::User,
        replace_after: Duration::from_secs(7),
        failback: Failback::Auto,
        rto: Some(Duration::from_secs(5)),
        placement: PlacementSpec {
            require: vec![one_of("disk", &["ssd"]), one_of("zone", &["a", "b"])],
            prefer: vec![Preference { label: one_of("zone", &["a"]), weight: 50 }],
            spread: Some("zone".to_owned()),
            with: vec![service("orders-cache")],
            apart: vec![service("reports-db")],
            after: vec![service("storage")],
        },
        resources: Resources { cpu_millis: 500, memory_mib: 512 },
        restart: RestartPolicy {
            attempts: 4,
            window: Duration::from_secs(600),
            backoff_min: Duration::from_secs(2),
            backoff_max: Duration::from_secs(20),
        },
        tasks: vec![TaskSpec {
            name: TaskName::new("server").unwrap(),
            driver: Driver::Exec(exec),
            health: Some(health),
        }],
    };
    assert_eq!(read(FULL).unwrap(), [expected]);
}

#[test]
fn a_variable_is_a_text_or_names_a_secret() {
    let with = |value: &str| read(&format!("{SMALL}env = {{ A = {value} }}\n"));
    for (value, expected) in [
        ("{ secert = 'a' }", "unknown key 'secert' of variable of env: did you mean 'secret'?"),
        ("{ }", "task.t.exec.env.A.secret: is missing; write { secret = \"NAME\" }"),
        ("{ secret = 'A B' }", "'A B' is not a valid secret name"),
        ("{ secret = 'a', secret = 'b' }", "duplicate key"),
        ("7", "expected a text, or { secret = \"NAME\" }"),
    ] {
        let error = with(value).unwrap_err();
        assert!(error.contains(expected), "{value}: {error}");
    }
    let mut specs = with("'text'").unwrap();
    let Driver::Exec(exec) = &mut specs[0].tasks[0].driver;
    exec.secrets.insert("A".to_owned(), secret("a"));
    let both = muster_core::spec::validate::check(&specs[0]).unwrap_err().to_string();
    assert_eq!(both, "task.t.exec.env: 'A' is both a text and a secret; keep one of them");
}

#[test]
fn what_is_left_out_is_the_default_and_not_printed() {
    let specs = read(SMALL).unwrap();
    assert_eq!(specs[0], ServiceSpec::with_defaults(service("a"), Mode::Exclusive, specs[0].tasks.clone()));
    let printed = toml::to_string(&specs.iter().collect::<ServiceFile>()).unwrap();
    let expected = "[[service]]\nname = \"a\"\nmode = \"exclusive\"\n\n[[service.task]]\nname = \"t\"\n\n\
                    [service.task.exec]\ncommand = [\"/bin/a\"]\n";
    assert_eq!(printed, expected);
    let many = read(&SMALL.replace("name = 'a'", "name = 'a'\nmode = 'replicated'")).unwrap();
    assert_eq!(
        (many[0].mode, many[0].on_quorum_loss),
        (Mode::Replicated { count: 1 }, OnQuorumLoss::Continue)
    );
}

/// What is wrong in the text itself is refused at its line, in words.
#[test]
fn wrong_keys_and_values_are_named_at_their_line() {
    for (from, to, message) in [
        ("priority", "priorty", "unknown key 'priorty' of service: did you mean 'priority'?"),
        ("timeout = \"500ms\"", "tiemout = \"1s\"", "did you mean 'timeout'?"),
        ("spread  =", "colour  =", "unknown key 'colour' of placement; known are: require, prefer"),
        ("\"1m30s\"", "30", "expected a time in quotes, such as \"30s\""),
        ("\"1m30s\"", "\"30\"", "'30' is not a time"),
        ("\"2s..20s\"", "\"20s..2s\"", "'20s..2s' is not a range of times"),
        ("disk == ssd", "disk = ssd", "'disk = ssd', column 6: '=' alone means nothing"),
        ("mode  = \"exclusive\"", "mode  = \"exlusive\"", "did you mean 'exclusive'?"),
        (
            "mode  = \"exclusive\"",
            "mode  = \"promotable\"",
            "the mode 'promotable' is not part of this version; available: exclusive, replicated, everywhere",
        ),
        (
            "[service.task.exec]",
            "[service.task.docker]",
            "the driver 'docker' is not part of this version; available: exec",
        ),
        (
            "tcp = \"127.0.0.1:6379\"",
            "grpc = \"x\"",
            "the check 'grpc' is not part of this version; available: tcp, http, exec",
        ),
        ("\"orders-db\"", "\"Orders DB\"", "'Orders DB' is not a valid service name"),
    ] {
        let line = FULL.split(from).next().unwrap().matches('\n').count() + 1;
        let error = read(&FULL.replacen(from, to, 1)).unwrap_err();
        assert!(error.contains(message), "{to}: {error}");
        assert!(error.contains(&format!("line {line},")), "{to}: {error}");
    }
}

/// What is wrong with the meaning is refused with the path of the key and a remedy.
#[test]
fn contradictions_are_named_with_their_path() {
    for (from, to, message) in [
        ("name  = \"orders-db\"", "", "service.#1.name: is missing; add name"),
        (
            "count = 1",
            "count = 2",
            "service.orders-db.count: only a replicated service has a count; remove it",
        ),
        (
            "mode  = \"exclusive\"",
            "mode  = \"replicated\"",
            "service.orders-db.enforcement: has an effect only",
        ),
        ("weight = 50 ", "", "service.orders-db.placement.prefer.weight: is missing; add weight = 50"),
        ("weight = 50 ", "weight = 500 ", "service.orders-db.placement.prefer.weight: 500 is out of range"),
        ("tcp = \"127.0.0.1:6379\"", "", "service.orders-db.task.server.health: has no check"),
        (
            "timeout = \"500ms\"",
            "http = \"http://127.0.0.1/\"",
            "service.orders-db.task.server.health: has several checks; keep one",
        ),
        (
            "\"/usr/bin/redis-server\"",
            "\"bin/redis\"",
            "task.server.exec.command: 'bin/redis' is a relative path",
        ),
        (
            "stop_signal = \"INT\"",
            "stop_signal = \"SIGTREM\"",
            "task.server.exec.stop_signal: 'SIGTREM' is not a signal to stop with; use TERM, INT",
        ),
        ("name   = \"server\"", "", "service.orders-db.task.#1.name: is missing"),
    ] {
        assert!(FULL.contains(from), "{from}");
        let error = read(&FULL.replacen(from, to, 1)).unwrap_err();
        assert!(error.contains(message), "{to}: {error}");
    }
    let no_driver = SMALL.replace("[service.task.exec]\ncommand = ['/bin/a']\n", "");
    assert!(read(&no_driver).unwrap_err().starts_with("service.a.task.t: is missing; add a driver's table"));
}

#[test]
fn a_key_given_twice_is_refused() {
    let twice = r#"{"service": [{"name": "a", "name": "b"}]}"#;
    assert!(
        serde_json::from_str::<ServiceFile>(twice)
            .unwrap_err()
            .to_string()
            .contains("duplicate field `name`")
    );
}

#[test]
fn the_keys_of_each_table_are_those_of_its_fields() {
    assert_eq!(ServiceFile::KEYS, ["service"]);
    assert!(ServiceEntry::KEYS.contains(&"stop_timeout"));
    assert_eq!(TaskEntry::KEYS, ["name", "exec", "health"]);
    assert_eq!(HealthEntry::KEYS, ["tcp", "http", "exec", "interval", "timeout", "failures"]);
}

fn text() -> impl Strategy<Value = String> {
    "[a-z0-9 \"'\\\\é#=-]{1,6}"
}

/// Up to seven days, as `validate` allows.
fn time() -> impl Strategy<Value = Duration> {
    (1..=604_800_000u64).prop_map(Duration::from_millis)
}

fn requirement() -> impl Strategy<Value = Requirement> {
    let values = || prop::collection::vec(text(), 1..3);
    let test = prop_oneof![
        values().prop_map(Test::In),
        values().prop_map(Test::NotIn),
        Just(Test::Has),
        Just(Test::HasNot),
    ];
    (text(), test).prop_map(|(label, test)| Requirement { label, test })
}

fn placement() -> impl Strategy<Value = PlacementSpec> {
    let preference = (requirement(), -100..=100i32).prop_map(|(label, weight)| Preference { label, weight });
    let names = |pattern: &'static str| {
        prop::collection::vec(pattern.prop_map(|name| ServiceName::new(&name).expect("legal")), 0..3)
    };
    (
        prop::collection::vec(requirement(), 0..3),
        prop::collection::vec(preference, 0..3),
        option::of(text()),
        names("b[a-z]"),
        names("c[a-z]"),
        names("d[a-z]"),
    )
        .prop_map(|(require, prefer, spread, with, apart, after)| PlacementSpec {
            require,
            prefer,
            spread,
            with,
            apart,
            after,
        })
}

fn exec() -> impl Strategy<Value = ExecSpec> {
    let maybe = || option::of(text());
    let limit = || option::of(0..=i64::MAX.unsigned_abs());
    let env = prop::collection::btree_map("[A-Z]{1,3}", text(), 0..3);
    let secrets = prop::collection::btree_map("_[A-Z]{1,3}", "[a-z]{1,3}".prop_map(|n| secret(&n)), 0..3);
    let limits = (limit(), limit(), limit(), limit(), limit());
    let signal = option::of(prop::sample::select(vec!["TERM".to_owned(), "SIGUSR1".to_owned()]));
    (
        prop::collection::vec(text(), 0..3),
        maybe(),
        maybe(),
        option::of("/[a-z]{0,3}"),
        (env, secrets),
        limits,
        signal,
    )
        .prop_map(|(arguments, user, group, directory, (env, secrets), limits, stop_signal)| ExecSpec {
            command: std::iter::once("/bin/a".to_owned()).chain(arguments).collect(),
            user,
            group,
            directory,
            env: BTreeMap::from_iter(env),
            secrets,
            limits: Limits {
                open_files: limits.0,
                processes: limits.1,
                core_bytes: limits.2,
                address_space_bytes: limits.3,
                locked_memory_bytes: limits.4,
            },
            stop_signal,
        })
}

fn health() -> impl Strategy<Value = HealthSpec> {
    let check = prop_oneof![
        Just(Check::Tcp("127.0.0.1:1".to_owned())),
        Just(Check::Http("http://127.0.0.1/".to_owned())),
        prop::collection::vec(text(), 1..3).prop_map(Check::Exec),
    ];
    (check, time(), time(), 1..=u32::MAX).prop_map(|(check, interval, timeout, failures)| HealthSpec {
        check,
        interval,
        timeout,
        failures,
    })
}

fn spec() -> impl Strategy<Value = ServiceSpec> {
    let mode = prop_oneof![
        Just(Mode::Exclusive),
        (1..=1000u32).prop_map(|count| Mode::Replicated { count }),
        Just(Mode::Everywhere)
    ];
    let policy = (0..=100u32, time(), any::<bool>(), any::<bool>(), time(), option::of(time()));
    let restart = (any::<u32>(), time(), time(), time()).prop_map(|(attempts, window, a, b)| RestartPolicy {
        attempts,
        window,
        backoff_min: a.min(b),
        backoff_max: a.max(b),
    });
    let resources = (any::<u32>(), any::<u32>())
        .prop_map(|(cpu_millis, memory_mib)| Resources { cpu_millis, memory_mib });
    let tasks = prop::collection::btree_map("[a-z]{1,3}", (exec(), option::of(health())), 1..3);
    let failback = select(vec![Failback::Manual, Failback::Auto]);
    (mode, policy, placement(), resources, restart, tasks, failback).prop_map(
        |(
            mode,
            (priority, stop_timeout, user, runs_on, replace_after, rto),
            placement,
            resources,
            restart,
            tasks,
            failback,
        )| {
            let task = |(name, (exec, health)): (String, (ExecSpec, Option<HealthSpec>))| TaskSpec {
                name: TaskName::new(&name).expect("legal"),
                driver: Driver::Exec(exec),
                health,
            };
            let exclusive = mode.is_exclusive();
            ServiceSpec {
                name: ServiceName::new("a").expect("legal"),
                mode,
                priority,
                stop_timeout,
                on_quorum_loss: if runs_on && !exclusive {
                    OnQuorumLoss::Continue
                } else {
                    OnQuorumLoss::Stop
                },
                enforcement: if user && exclusive { Enforcement::User } else { Enforcement::Kernel },
                replace_after,
                failback,
                rto,
                placement,
                resources,
                restart,
                tasks: tasks.into_iter().map(task).collect(),
            }
        },
    )
}

proptest! {
    #[test]
    fn what_is_printed_reads_as_itself_in_every_format(specs in prop::collection::vec(spec(), 0..3)) {
        let file: ServiceFile = specs.iter().collect();
        let printed = toml::to_string(&file).unwrap();
        prop_assert_eq!(toml::from_str::<ServiceFile>(&printed).unwrap(), file.clone(), "{}", printed);
        let printed = serde_json::to_string_pretty(&file).unwrap();
        prop_assert_eq!(serde_json::from_str::<ServiceFile>(&printed).unwrap(), file.clone(), "{}", printed);
        let printed = serde_yaml_ng::to_string(&file).unwrap();
        prop_assert_eq!(serde_yaml_ng::from_str::<ServiceFile>(&printed).unwrap(), file.clone(), "{}", printed);
        prop_assert_eq!(Vec::<ServiceSpec>::try_from(file).unwrap(), specs);
    }
}
