//! Ends: of leases, guards, shims and tasks.

use std::sync::atomic::Ordering;

use libtest_mimic::Trial;
use muster_guard::protocol::{LeasePhase, Refusal};
use nix::sys::signal::Signal;

use crate::harness::{
    Host, KILL_BUDGET_MS, TTL_MS, TestResult, eventually, last_stamp_ns, runs, signal, trial,
};

pub fn trials() -> Vec<Trial> {
    vec![trial("a_lease_that_ends_kills_and_fences", false, a_lease_that_ends_kills_and_fences)]
}

fn a_lease_that_ends_kills_and_fences() -> TestResult {
    let mut host = Host::start()?;
    host.open_session()?;
    let pid = host.start_stamping("db", "stamp")?;
    host.voter.acks.store(false, Ordering::Relaxed);
    host.wait_for_phase(LeasePhase::Lapsed)?;
    assert!(!runs(pid));
    eventually("Fenced was sent", || (host.voter.fenced.load(Ordering::Relaxed) > 2).then_some(()))?;
    Ok(())
}
