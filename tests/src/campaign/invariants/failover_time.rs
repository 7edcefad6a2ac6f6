//! A failover takes no longer than the leases' formula: from the fault to the first stamp elsewhere, at most
//! max(W, election) + close round and commit + the service's own start.

use std::time::Duration;

use muster::stamp::Run;

use super::{Round, Violation};
use crate::campaign::services::SERVICES;
use crate::harness::wait::{Moment, millis};

const NAME: &str = "failover time";
/// W of the profile 'lan': the age at which a voter may give a session up.
const CLOSING_AGE: Duration = Duration::from_millis(1031);
/// The close round and one commit.
const COMMIT: Duration = Duration::from_millis(40);
/// Delivery, and the stamping program's own start when several services of a host start together.
const START: Duration = Duration::from_millis(100);
/// The formula, in all.
pub const LIMIT: Duration = CLOSING_AGE.saturating_add(COMMIT).saturating_add(START);

/// A failover that was seen.
#[derive(Clone, Debug)]
pub struct Failover {
    /// Of which service.
    pub service: &'static str,
    /// From where to where.
    pub hosts: (String, String),
    /// From the fault to the first stamp elsewhere.
    pub took: Duration,
    /// Without any copy.
    pub gap: Duration,
    /// The first stamp elsewhere.
    pub at: Moment,
}

/// All failovers of a round: exclusive services that moved off a host with a fault before it was healed.
#[must_use]
pub fn failovers(round: &Round<'_>) -> Vec<Failover> {
    let exclusive = SERVICES.iter().filter(|service| service.is_exclusive());
    exclusive.filter_map(|service| failover(round, service.name, round.runs.get(service.name)?)).collect()
}

fn failover(round: &Round<'_>, service: &'static str, runs: &[Run]) -> Option<Failover> {
    let old = runs.iter().find(|run| run.first_ns < round.begun.0 && round.cost.hosts.contains(&run.node))?;
    let new = runs.iter().find(|run| run.first_ns > round.begun.0 && run.node != old.node)?;
    let between = runs.iter().filter(|run| run.first_ns < new.first_ns).map(|run| run.last_ns).max()?;
    (new.first_ns < round.healing.0).then(|| Failover {
        service,
        hosts: (old.node.clone(), new.node.clone()),
        took: Moment(new.first_ns).since(round.cost.since.unwrap_or(round.begun)),
        gap: Moment(new.first_ns).since(Moment(between)),
        at: Moment(new.first_ns),
    })
}

/// Judges a round.
pub fn judge(round: &Round<'_>) -> Vec<Violation> {
    if !round.cost.fails_over {
        return Vec::new();
    }
    let late = failovers(round)
        .into_iter()
        .filter(|failover| failover.took > round.lenient(LIMIT, round.begun, failover.at));
    late.map(|failover| {
        let text = format!(
            "{} took {:.0} ms from {} to {}, formula {:.0}",
            failover.service,
            millis(failover.took),
            failover.hosts.0,
            failover.hosts.1,
            millis(LIMIT)
        );
        Violation::late(NAME, text)
    })
    .collect()
}
