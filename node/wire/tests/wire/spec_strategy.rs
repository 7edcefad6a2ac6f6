//! Arbitrary declarations. They are legal for the types, not necessarily for `validate`.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_core::id::{SecretName, ServiceName, TaskName};
use muster_core::spec::selector::{Requirement, Test};
use muster_core::spec::{
    Check, Driver, Enforcement, ExecSpec, Failback, HealthSpec, Limits, Mode, OnQuorumLoss, PlacementSpec,
    Preference, Resources, RestartPolicy, ServiceSpec, TaskSpec,
};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// Texts with what texts may have: nothing, spaces, other alphabets.
pub fn text() -> impl Strategy<Value = String> + Clone {
    "[a-zé \"=/]{0,6}"
}

pub fn texts() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(text(), 0..3)
}

pub fn text_map() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map(text(), text(), 0..3)
}

/// Small and large numbers.
pub fn number() -> impl Strategy<Value = u64> + Clone {
    prop_oneof![0..40u64, any::<u64>()]
}

pub fn time() -> impl Strategy<Value = Duration> {
    number().prop_map(Duration::from_millis)
}

/// From few names, so that they meet.
pub fn service_name() -> impl Strategy<Value = ServiceName> + Clone {
    "[ab]{1,2}".prop_map(|name| ServiceName::new(&name).expect("legal by construction"))
}

fn service_names() -> impl Strategy<Value = Vec<ServiceName>> {
    prop::collection::vec(service_name(), 0..3)
}

pub fn resources() -> impl Strategy<Value = Resources> {
    (any::<u32>(), any::<u32>()).prop_map(|(cpu_millis, memory_mib)| Resources { cpu_millis, memory_mib })
}

pub fn enforcement() -> impl Strategy<Value = Enforcement> {
    select(vec![Enforcement::User, Enforcement::Kernel])
}

fn requirement() -> impl Strategy<Value = Requirement> {
    let test = prop_oneof![
        texts().prop_map(Test::In),
        texts().prop_map(Test::NotIn),
        Just(Test::Has),
        Just(Test::HasNot),
    ];
    (text(), test).prop_map(|(label, test)| Requirement { label, test })
}

fn placement() -> impl Strategy<Value = PlacementSpec> {
    let preference = (requirement(), any::<i32>()).prop_map(|(label, weight)| Preference { label, weight });
    (
        prop::collection::vec(requirement(), 0..3),
        prop::collection::vec(preference, 0..3),
        option::of(text()),
        service_names(),
        service_names(),
        service_names(),
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

fn limits() -> impl Strategy<Value = Limits> {
    let limit = || option::of(number());
    (limit(), limit(), limit(), limit(), limit()).prop_map(
        |(open_files, processes, core_bytes, address_space_bytes, locked_memory_bytes)| Limits {
            open_files,
            processes,
            core_bytes,
            address_space_bytes,
            locked_memory_bytes,
        },
    )
}

pub fn secret_name() -> impl Strategy<Value = SecretName> {
    "[a-c]{1,2}".prop_map(|name| SecretName::new(&name).expect("legal by construction"))
}

fn exec() -> impl Strategy<Value = ExecSpec> {
    let maybe = || option::of(text());
    let secrets = prop::collection::btree_map(text(), secret_name(), 0..3);
    (texts(), maybe(), maybe(), maybe(), text_map(), secrets, limits(), maybe()).prop_map(
        |(command, user, group, directory, env, secrets, limits, stop_signal)| ExecSpec {
            command,
            user,
            group,
            directory,
            env,
            secrets,
            limits,
            stop_signal,
        },
    )
}

fn health() -> impl Strategy<Value = HealthSpec> {
    let check = prop_oneof![
        text().prop_map(Check::Tcp),
        text().prop_map(Check::Http),
        texts().prop_map(Check::Exec),
    ];
    (check, time(), time(), any::<u32>()).prop_map(|(check, interval, timeout, failures)| HealthSpec {
        check,
        interval,
        timeout,
        failures,
    })
}

fn task() -> impl Strategy<Value = TaskSpec> {
    ("[a-z]{1,3}", exec(), option::of(health())).prop_map(|(name, exec, health)| TaskSpec {
        name: TaskName::new(&name).expect("legal by construction"),
        driver: Driver::Exec(exec),
        health,
    })
}

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![
        Just(Mode::Exclusive),
        any::<u32>().prop_map(|count| Mode::Replicated { count }),
        Just(Mode::Everywhere),
    ]
}

fn restart() -> impl Strategy<Value = RestartPolicy> {
    (any::<u32>(), time(), time(), time()).prop_map(|(attempts, window, backoff_min, backoff_max)| {
        RestartPolicy { attempts, window, backoff_min, backoff_max }
    })
}

pub fn spec() -> impl Strategy<Value = ServiceSpec> {
    let policy = (
        any::<u32>(),
        time(),
        select(vec![OnQuorumLoss::Stop, OnQuorumLoss::Continue]),
        enforcement(),
        time(),
        select(vec![Failback::Manual, Failback::Auto]),
        option::of(time()),
    );
    let tasks = prop::collection::vec(task(), 0..3);
    (service_name(), mode(), policy, placement(), resources(), restart(), tasks).prop_map(
        |(name, mode, policy, placement, resources, restart, tasks)| {
            let (priority, stop_timeout, on_quorum_loss, enforcement, replace_after, failback, rto) = policy;
            ServiceSpec {
                name,
                mode,
                priority,
                stop_timeout,
                on_quorum_loss,
                enforcement,
                replace_after,
                failback,
                rto,
                placement,
                resources,
                restart,
                tasks,
            }
        },
    )
}
