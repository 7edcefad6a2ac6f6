//! Upgrades in place, crashes and successors.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::Ordering;

use libtest_mimic::Trial;
use muster_guard::client::ClientError;
use muster_guard::protocol::{Binding, LeasePhase, LogSpec, Refusal, Reply, Request, TaskSpec, TaskState};
use nix::sys::signal::Signal;

use crate::harness::{
    Host, TestResult, boottime_ns, descendants, eventually, last_stamp_ns, runs, shell, signal, slot,
    task_name, trial,
};

pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "an_upgrade_keeps_tasks_lease_and_connections",
            false,
            an_upgrade_keeps_tasks_lease_and_connections,
        ),
        trial(
            "a_binary_that_can_not_take_over_changes_nothing",
            false,
            a_binary_that_can_not_take_over_changes_nothing,
        ),
        trial("a_binary_that_vanishes_after_its_trial", false, a_binary_that_vanishes_after_its_trial),
        trial("a_hangup_signal_upgrades", false, a_hangup_signal_upgrades),
        trial("a_successor_fences_the_session_of_a_crashed_guard", false, a_successor_fences),
        trial("a_second_guard_is_refused", false, a_second_guard_is_refused),
        trial("a_family_of_seven_tasks_is_small", false, a_family_of_seven_tasks_is_small),
    ]
}

fn own_exe() -> String {
    std::env::current_exe().expect("the binary has a path").display().to_string()
}

fn an_upgrade_keeps_tasks_lease_and_connections() -> TestResult {
    let mut host = Host::start()?;
    host.open_session()?;
    let pid = host.start_stamping("db", "stamp")?;
    let order = host.order("free", 5, Binding::Free, shell("exec sleep 1000"));
    let free = host.start_task(order)?;
    let boot = host.prepare()?.guard_boot;
    let open_files = |pid: i32| std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    let files = open_files(host.pid());
    for _ in 0..5 {
        assert_eq!(host.call(Request::Reload { exe: own_exe() })?, Reply::Ok);
        assert_eq!(host.phase()?, LeasePhase::Valid);
    }
    // The kernel's list of what it waits for is one that comes and goes.
    let files_now = open_files(host.pid());
    assert!(files > 0 && files_now <= files + 1, "{files} files were open, {files_now} are");
    assert_eq!(host.prepare()?.guard_boot, boot);
    let (before, sent) = (boottime_ns(), host.voter.heartbeats.load(Ordering::Relaxed));
    eventually("the task outlived the lease of before the upgrade", || {
        last_stamp_ns(&host.path("db")).filter(|at| *at > before + 1_500_000_000)
    })?;
    assert!(runs(pid) && runs(free));
    assert!(host.voter.heartbeats.load(Ordering::Relaxed) > sent + 10);
    // Orders still reach inits that the binary before had started.
    host.call(Request::StopTask { slot: slot("free"), task: task_name(), grace_ms: 5000 })?;
    eventually("it stopped", || (!runs(free)).then_some(()))?;
    // And the end of the lease still kills.
    host.voter.acks.store(false, Ordering::Relaxed);
    host.wait_for_phase(LeasePhase::Lapsed)?;
    assert!(!runs(pid));
    Ok(())
}

fn a_binary_that_can_not_take_over_changes_nothing() -> TestResult {
    let mut host = Host::start()?;
    host.open_session()?;
    let pid = host.start_stamping("db", "stamp")?;
    for exe in ["/bin/false", "/nowhere/at/all"] {
        let result = host.call(Request::Reload { exe: exe.to_owned() });
        let refused = matches!(result, Err(ClientError::Refused(Refusal::CannotTakeOver { .. })));
        assert!(refused, "{result:?}");
    }
    assert_eq!(host.phase()?, LeasePhase::Valid);
    assert!(runs(pid));
    Ok(())
}

fn resumed(pid: i32) -> bool {
    let arguments = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    arguments.contains("--resume")
}

/// The guard goes on as before, and hears signals as before.
fn a_binary_that_vanishes_after_its_trial() -> TestResult {
    let mut host = Host::start()?;
    host.open_session()?;
    let pid = host.start_stamping("db", "stamp")?;
    let exe = host.path("vanishes");
    for round in 0..2 {
        std::fs::write(&exe, "#!/bin/sh\nrm \"$0\"\n")?;
        std::fs::set_permissions(&exe, std::fs::Permissions::from_mode(0o755))?;
        let result = host.call(Request::Reload { exe: exe.display().to_string() });
        let gone = matches!(&result, Err(ClientError::Refused(refusal)) if refusal.to_string().contains("os error 2"));
        assert!(gone, "{round}: {result:?}");
    }
    assert!(!resumed(host.pid()) && runs(pid));
    assert_eq!(host.call(Request::Reload { exe: own_exe() })?, Reply::Ok);
    assert_eq!(host.phase()?, LeasePhase::Valid);
    signal(host.pid(), Signal::SIGTERM);
    eventually("the guard ends", || (!runs(host.pid())).then_some(()))
}

fn a_hangup_signal_upgrades() -> TestResult {
    let mut host = Host::start()?;
    host.open_session()?;
    let pid = host.start_stamping("db", "stamp")?;
    assert!(!resumed(host.pid()));
    signal(host.pid(), Signal::SIGHUP);
    eventually("the new binary runs", || resumed(host.pid()).then_some(()))?;
    assert_eq!(host.phase()?, LeasePhase::Valid);
    let Reply::Tasks(tasks) = host.call(Request::ListTasks)? else { return Err("no tasks".into()) };
    assert_eq!(tasks[0].state, TaskState::Running { pid });
    Ok(())
}

fn a_successor_fences() -> TestResult {
    let mut host = Host::start()?;
    host.open_session()?;
    let pid = host.start_stamping("db", "stamp")?;
    let boot = host.prepare()?.guard_boot;
    host.kill_guard()?;
    assert_eq!(host.voter.fenced.load(Ordering::Relaxed), 0);
    let heartbeats = host.voter.heartbeats.load(Ordering::Relaxed);
    host.start_guard()?;
    eventually("the successor sends Fenced", || {
        (host.voter.fenced.load(Ordering::Relaxed) > 2).then_some(())
    })?;
    assert!(!runs(pid), "only after everything is gone");
    host.voter.closed.store(true, Ordering::Relaxed);
    let count = eventually("a voter answered", || {
        let count = host.voter.fenced.load(Ordering::Relaxed);
        std::thread::sleep(std::time::Duration::from_millis(200));
        (host.voter.fenced.load(Ordering::Relaxed) == count).then_some(count)
    })?;
    assert!(count > 2);
    assert_eq!(
        host.voter.heartbeats.load(Ordering::Relaxed),
        heartbeats,
        "it never goes on with the session"
    );
    host.connect()?;
    assert_ne!(host.prepare()?.guard_boot, boot);
    host.voter.closed.store(false, Ordering::Relaxed);
    host.open_session()?;
    host.start_stamping("db", "stamp").map(drop)
}

fn a_second_guard_is_refused() -> TestResult {
    let mut host = Host::start()?;
    let first = host.pid();
    let keep = host.take_guard();
    host.start_guard()?;
    assert!(!host.wait_for_guard()?);
    host.connect()?;
    assert!(runs(first));
    host.put_guard(keep);
    Ok(())
}

fn a_family_of_seven_tasks_is_small() -> TestResult {
    let mut host = Host::start()?;
    host.open_session()?;
    for number in 0..7 {
        let binding = if number % 2 == 0 { Binding::Exclusive } else { Binding::Free };
        let name = format!("s{number}");
        let path = host.path(&format!("{name}.log")).display().to_string();
        let log = Some(LogSpec { path, max_bytes: 1 << 20, keep: 1 });
        let order = host.order(&name, 5, binding, TaskSpec { log, ..shell("echo up; exec sleep 1000") });
        host.start_task(order)?;
    }
    let named = |name: &str| descendants(host.pid(), name);
    eventually("each log has its process", || (named("muster-log").len() == 7).then_some(()))?;
    let family: Vec<i32> =
        ["muster-shim", "muster-init", "muster-log", &host.own_name()].into_iter().flat_map(named).collect();
    assert_eq!(family.len(), 1 + 2 + 7 + 7);
    let figure = |pid: i32, name: &str| -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_ascii_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0)
    };
    let sum = |name: &str| family.iter().map(|pid| figure(*pid, name)).sum::<u64>();
    println!("a family of seven tasks: RSS {} KiB, PSS {} KiB", sum("Rss:"), sum("Pss:"));
    // What they share with each other counts once: a build for tests has several times the code of a release.
    assert!(sum("Pss:") > 0 && sum("Pss:") < 12 * 1024);
    Ok(())
}
