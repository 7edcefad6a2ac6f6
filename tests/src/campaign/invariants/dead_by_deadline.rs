//! On a host that can't renew its lease nothing exclusive runs beyond the lease. The last heartbeat that may be
//! acknowledged was sent before the host was isolated, so the lease ends at most one TTL later.

use std::time::Duration;

use super::{Round, Violation};
use crate::campaign::services::SERVICES;
use crate::harness::wait::{Moment, millis};

const NAME: &str = "dead by the deadline";
/// The profile 'lan', in which all clusters of the harness run.
pub const TTL: Duration = Duration::from_millis(1000);

/// Judges a round.
pub fn judge(round: &Round<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for (host, since) in &round.cost.isolated {
        let deadline = Moment(since.0) + TTL;
        // Healed before, it may have renewed its lease.
        if round.healing < deadline {
            continue;
        }
        for service in SERVICES.iter().filter(|service| service.is_exclusive()) {
            let runs = round.runs.get(service.name).into_iter().flatten();
            let old = runs.filter(|run| run.node == *host && run.first_ns < since.0);
            for run in old.filter(|run| run.last_ns > deadline.0) {
                let beyond = Moment(run.last_ns).since(deadline);
                found.push(Violation::wrong(
                    NAME,
                    format!(
                        "{} ran on {host} for {:.1} ms beyond its lease; the machine was late by {:.0} ms since",
                        service.name,
                        millis(beyond),
                        millis(round.metronome.late(*since, Moment(run.last_ns)))
                    ),
                ));
            }
        }
    }
    found
}
