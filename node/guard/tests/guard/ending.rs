//! Ends: of leases, guards, shims and tasks.

use std::sync::atomic::Ordering;

use libtest_mimic::{Failed, Trial};
use muster_core::id::SessionId;
use muster_guard::client::ClientError;
use muster_guard::protocol::{Binding, Enforcement, Event, LeasePhase, Refusal, Request, TaskSpec};
use nix::sys::signal::Signal;

use crate::harness::{
    Host, NOBODY, TTL_MS, TestResult, boottime_ns, descendants, eventually, last_stamp_ns, runs, shell,
    signal, slot, trial,
};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a_lease_that_ends_kills_and_fences", false, a_lease_that_ends_kills_and_fences),
        trial("tasks_that_are_free_outlive_the_lease", false, tasks_that_are_free_outlive_the_lease),
        trial("a_primary_dies_with_the_lease", false, a_primary_dies_with_the_lease),
        trial("a_closed_session_kills_at_once", false, a_closed_session_kills_at_once),
        trial("a_frozen_guard_does_not_save_its_tasks", false, a_frozen_guard_does_not_save_its_tasks),
        trial("a_frozen_shim_does_not_save_its_tasks", false, a_frozen_shim_does_not_save_its_tasks),
        trial("frozen_together_they_do_not_save_them", false, frozen_together_they_do_not_save_them),
        trial("a_task_that_changed_its_user_dies_too", true, a_task_that_changed_its_user_dies_too),
        trial("a_daemon_dies_too", false, a_daemon_dies_too),
        trial("an_init_that_kills_ends_the_lease", false, an_init_that_kills_ends_the_lease),
        trial("tasks_die_with_their_guard", false, tasks_die_with_their_guard),
        trial("a_guard_told_to_end_ends_in_order", false, a_guard_told_to_end_ends_in_order),
        trial("a_release_without_an_agent_is_carried_out", false, a_release_without_an_agent_is_carried_out),
        trial(
            "a_release_asked_for_while_an_agent_was_there_is_forgotten",
            false,
            a_release_asked_for_while_an_agent_was_there_is_forgotten,
        ),
        trial("a_new_session_waits_for_the_old_ones_end", false, a_new_session_waits_for_the_old_ones_end),
        trial("unprivileged_tasks_die_too", true, unprivileged_tasks_die_too),
        trial("without_namespaces_tasks_die_too", true, without_namespaces_tasks_die_too),
    ]
}

pub const MS: u64 = 1_000_000;

/// Waits until the task stamps no more, and fails unless its last stamp is before the lease's end: at most a
/// TTL after `no_renewal_since_ns`.
pub fn dies_in_time(host: &Host, file: &str, pid: i32, no_renewal_since_ns: u64) -> TestResult {
    eventually("the task is dead", || (!runs(pid)).then_some(()))?;
    let last_ns = last_stamp_ns(&host.path(file)).ok_or("no stamp")?;
    let late_ns = last_ns.saturating_sub(no_renewal_since_ns + u64::from(TTL_MS) * MS);
    if late_ns > 0 {
        return Err(format!("the task ran {late_ns} ns longer than its lease").into());
    }
    Ok(())
}

/// The shim's timer is a little early, by the clocks' possible divergence: until the deadline the guard itself
/// might still renew.
fn wait_for_the_deadline(no_renewal_since_ns: u64) -> TestResult {
    let deadline_ns = no_renewal_since_ns + u64::from(TTL_MS) * MS;
    eventually("the deadline has passed", || (boottime_ns() > deadline_ns).then_some(()))
}

fn a_lease_that_ends_kills_and_fences() -> TestResult {
    let mut host = Host::start()?;
    host.open_session()?;
    let pid = host.start_stamping("db", "stamp")?;
    host.voter.acks.store(false, Ordering::Relaxed);
    let stopped_ns = boottime_ns();
    host.wait_for_phase(LeasePhase::Lapsed)?;
    assert!(!runs(pid), "lapsed means that nothing is left");
    dies_in_time(&host, "db", pid, stopped_ns)?;
    eventually("Fenced was sent again", || (host.voter.fenced.load(Ordering::Relaxed) > 2).then_some(()))?;
    host.voter.acks.store(true, Ordering::Relaxed);
    let heartbeats = host.voter.heartbeats.load(Ordering::Relaxed);
    host.voter.closed.store(true, Ordering::Relaxed);
    host.wait_for_phase(LeasePhase::Ended)?;
    assert_eq!(host.voter.heartbeats.load(Ordering::Relaxed), heartbeats, "no heartbeat after the lapse");
    Ok(())
}

fn tasks_that_are_free_outlive_the_lease() -> TestResult {
    let mut host = Host::start()?;
    host.open_session()?;
    let order = host.order("free", 5, Binding::Free, shell("exec sleep 1000"));
    let free = host.start_task(order)?;
    let mut order = host.order("quorum", 5, Binding::Free, shell("exec sleep 1000"));
    order.stop_on_quorum_loss = true;
    let with_quorum = host.start_task(order)?;
    host.voter.acks.store(false, Ordering::Relaxed);
    host.wait_for_phase(LeasePhase::Lapsed)?;
    eventually("what stops on quorum loss stopped", || (!runs(with_quorum)).then_some(()))?;
    assert!(runs(free));
    Ok(())
}

fn a_primary_dies_with_the_lease() -> TestResult {
    let mut host = Host::start()?;
    let start = |host: &mut Host, name: &str| {
        let order = host.order(name, 5, Binding::Promotable, host.stamping("stamp", name));
        host.start_task(order)
    };
    let (primary, secondary) = (start(&mut host, "a")?, start(&mut host, "b")?);
    let promote = |session| Request::SetPrimary { slot: slot("a"), session, primary: true };
    let early = host.call(promote(SessionId(10)));
    assert!(matches!(early, Err(ClientError::Refused(Refusal::NoValidLease))), "{early:?}");
    let session = host.open_session()?;
    host.call(promote(session))?;
    // The timer alone must end it.
    signal(host.pid(), Signal::SIGSTOP);
    let stopped_ns = boottime_ns();
    dies_in_time(&host, "a", primary, stopped_ns)?;
    assert!(runs(secondary));
    wait_for_the_deadline(stopped_ns)?;
    signal(host.pid(), Signal::SIGCONT);
    host.wait_for_phase(LeasePhase::Lapsed)?;
    assert!(runs(secondary));
    Ok(())
}

fn a_closed_session_kills_at_once() -> TestResult {
    let mut host = Host::start()?;
    host.open_session()?;
    let pid = host.start_stamping("db", "stamp")?;
    host.voter.closed.store(true, Ordering::Relaxed);
    let closed_ns = boottime_ns();
    host.wait_for_phase(LeasePhase::Ended)?;
    assert!(!runs(pid));
    assert!(boottime_ns() - closed_ns < u64::from(TTL_MS) * MS, "long before the deadline");
    Ok(())
}

fn a_frozen_guard_does_not_save_its_tasks() -> TestResult {
    let mut host = Host::start()?;
    host.open_session()?;
    let pid = host.start_stamping("db", "stamp")?;
    signal(host.pid(), Signal::SIGSTOP);
    let stopped_ns = boottime_ns();
    dies_in_time(&host, "db", pid, stopped_ns)?;
    wait_for_the_deadline(stopped_ns)?;
    signal(host.pid(), Signal::SIGCONT);
    // What it finds in its socket is too late to change anything.
    host.wait_for_phase(LeasePhase::Lapsed)
}

fn a_frozen_shim_does_not_save_its_tasks() -> TestResult {
    let mut host = Host::start()?;
    host.open_session()?;
    let pid = host.start_stamping("db", "stamp")?;
    for shim in descendants(host.pid(), "muster-shim") {
        signal(shim, Signal::SIGSTOP);
    }
    let stopped_ns = boottime_ns();
    dies_in_time(&host, "db", pid, stopped_ns)?;
    // The lease is as good as ever, and what died may be started anew under a new shim.
    host.wait_for_event(|event| matches!(event, Event::TaskExited { .. }))?;
    assert_eq!(host.phase()?, LeasePhase::Valid);
    host.start_stamping("db", "stamp").map(drop)
}

fn frozen_together_they_do_not_save_them() -> TestResult {
    let mut host = Host::start()?;
    host.open_session()?;
    let pid = host.start_stamping("db", "stamp")?;
    let family = ["muster-shim", "muster-init"].map(|name| descendants(host.pid(), name)).concat();
    assert_eq!(family.len(), 2);
    let stopped_ns = boottime_ns();
    signal(host.pid(), Signal::SIGSTOP);
    family.into_iter().for_each(|pid| signal(pid, Signal::SIGSTOP));
    dies_in_time(&host, "db", pid, stopped_ns + 20 * MS)
}

fn a_task_that_changed_its_user_dies_too() -> TestResult {
    let mut host = Host::start()?;
    host.open_session()?;
    let directory = host.path("open");
    std::fs::create_dir(&directory)?;
    std::fs::set_permissions(&directory, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
    let spec = TaskSpec { user: Some("nobody".to_owned()), ..host.stamping("stamp", "open/db") };
    let order = host.order("db", 5, Binding::Exclusive, spec);
    let pid = host.start_task(order)?;
    eventually("the task stamps", || last_stamp_ns(&host.path("open/db")))?;
    signal(host.pid(), Signal::SIGSTOP);
    let stopped_ns = boottime_ns();
    dies_in_time(&host, "open/db", pid, stopped_ns)
}

fn a_daemon_dies_too() -> TestResult {
    let mut host = Host::start()?;
    host.open_session()?;
    host.start_stamping("db", "daemon")?;
    let daemon = eventually("the daemon runs", || stamping_below(&host).first().copied())?;
    signal(host.pid(), Signal::SIGSTOP);
    let stopped_ns = boottime_ns();
    dies_in_time(&host, "db", daemon, stopped_ns)
}

/// The stamping processes below the guard.
fn stamping_below(host: &Host) -> Vec<i32> {
    let stamps = |pid: &i32| {
        let arguments = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments.split('\0').nth(1) == Some("stamp")
    };
    descendants(host.pid(), &host.own_name()).into_iter().filter(stamps).collect()
}

/// A guard that thaws just after an init has killed, while it might still renew by its own clock: the lease is over.
fn an_init_that_kills_ends_the_lease() -> TestResult {
    let mut host = Host::start()?;
    host.open_session()?;
    let pid = host.start_stamping("db", "stamp")?;
    signal(host.pid(), Signal::SIGSTOP);
    eventually("the init kills", || (!runs(pid)).then_some(()))?;
    signal(host.pid(), Signal::SIGCONT);
    host.wait_for_phase(LeasePhase::Lapsed)
}

fn tasks_die_with_their_guard() -> TestResult {
    let mut host = Host::start()?;
    host.open_session()?;
    let exclusive = host.start_stamping("db", "stamp")?;
    let order = host.order("free", 5, Binding::Free, shell("exec sleep 1000"));
    let free = host.start_task(order)?;
    host.kill_guard()?;
    eventually("all tasks are dead", || (!runs(exclusive) && !runs(free)).then_some(()))
}

fn a_guard_told_to_end_ends_in_order() -> TestResult {
    let mut host = Host::start()?;
    host.open_session()?;
    let file = host.path("said");
    let script = format!(
        "trap 'echo goodbye > {}; exit 0' TERM; echo up; while :; do sleep 0.05; done",
        file.display()
    );
    let spec = TaskSpec { stop_grace_ms: 10_000, ..shell(&script) };
    let order = host.order("db", 5, Binding::Exclusive, spec);
    let pid = host.start_task(order)?;
    eventually("the script got on", || {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        (!children.is_empty()).then_some(())
    })?;
    signal(host.pid(), Signal::SIGTERM);
    assert!(host.wait_for_guard()?);
    assert!(!runs(pid));
    assert_eq!(std::fs::read_to_string(file)?, "goodbye\n");
    assert!(host.voter.fenced.load(Ordering::Relaxed) > 0);
    Ok(())
}

fn a_release_without_an_agent_is_carried_out() -> TestResult {
    let mut host = Host::start()?;
    host.open_session()?;
    let pid = host.start_stamping("db", "stamp")?;
    host.voter.release.store(true, Ordering::Relaxed);
    host.wait_for_event(|event| matches!(event, Event::ReleaseRequested { .. }))?;
    assert!(runs(pid), "with an agent it is the agent's to do");
    host.agent = None;
    eventually("the guard stopped it", || (!runs(pid)).then_some(()))?;
    eventually("Fenced was sent", || (host.voter.fenced.load(Ordering::Relaxed) > 0).then_some(()))
}

fn a_release_asked_for_while_an_agent_was_there_is_forgotten() -> TestResult {
    let mut host = Host::start()?;
    host.open_session()?;
    let pid = host.start_stamping("db", "stamp")?;
    host.voter.release.store(true, Ordering::Relaxed);
    host.wait_for_event(|event| matches!(event, Event::ReleaseRequested { .. }))?;
    host.voter.release.store(false, Ordering::Relaxed);
    let acked = host.voter.heartbeats.load(Ordering::Relaxed);
    eventually("the wish is withdrawn", || {
        (host.voter.heartbeats.load(Ordering::Relaxed) > acked + 2).then_some(())
    })?;
    host.agent = None;
    eventually("the guard says so", || (!host.voter.agent_present.load(Ordering::Relaxed)).then_some(()))?;
    let acked = host.voter.heartbeats.load(Ordering::Relaxed);
    eventually("the lease goes on", || {
        (host.voter.heartbeats.load(Ordering::Relaxed) > acked + 5).then_some(())
    })?;
    assert!(runs(pid), "an agent that is restarted stops nothing");
    assert_eq!(host.voter.fenced.load(Ordering::Relaxed), 0);
    Ok(())
}

fn a_new_session_waits_for_the_old_ones_end() -> TestResult {
    let mut host = Host::start()?;
    host.open_session()?;
    let pid = host.start_stamping("db", "stamp")?;
    let early: Result<_, Failed> = host.open_session_without_lease();
    assert!(early.is_err(), "the old session still holds");
    eventually("the old session's task is dead", || (!runs(pid)).then_some(()))?;
    host.wait_for_phase(LeasePhase::Lapsed)?;
    host.open_session()?;
    host.start_stamping("db", "stamp").map(drop)
}

fn unprivileged_tasks_die_too() -> TestResult {
    let mut host = Host::start_as(Some(NOBODY))?;
    if host.prepare()?.enforcement != Enforcement::Kernel {
        println!("SKIPPED the rest: no user namespaces here");
        return Ok(());
    }
    host.open_session()?;
    let pid = host.start_stamping("db", "stamp")?;
    for process in [descendants(host.pid(), "muster-shim"), vec![host.pid()]].concat() {
        signal(process, Signal::SIGSTOP);
    }
    let stopped_ns = boottime_ns();
    dies_in_time(&host, "db", pid, stopped_ns)
}

fn without_namespaces_tasks_die_too() -> TestResult {
    let Some(mut host) = Host::start_without_namespaces()? else { return Ok(()) };
    assert_eq!(host.prepare()?.enforcement, Enforcement::User);
    host.open_session()?;
    let simple = host.start_stamping("db", "stamp")?;
    host.start_stamping("dm", "daemon")?;
    assert_eq!(stamping_below(&host).len(), 2);
    host.voter.acks.store(false, Ordering::Relaxed);
    let stopped_ns = boottime_ns();
    host.wait_for_phase(LeasePhase::Lapsed)?;
    dies_in_time(&host, "db", simple, stopped_ns)?;
    assert!(stamping_below(&host).into_iter().all(|pid| !runs(pid)));
    Ok(())
}
