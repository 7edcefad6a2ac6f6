//! On a host without a fault nothing stops. A copy of a replicated service may go when enough others run: what
//! replaced a copy that came back in time.

use muster::stamp::Run;

use super::{Round, Violation};
use crate::campaign::services::{Copies, SERVICES, Service};
use crate::harness::wait::{Moment, millis};

const NAME: &str = "nothing for nothing";

/// Judges a round.
pub fn judge(round: &Round<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for service in &SERVICES {
        if round.cost.quorum_lost && service.is_exclusive() {
            continue;
        }
        let runs: Vec<&Run> = round.runs.get(service.name).into_iter().flatten().collect();
        for run in runs.iter().filter(|run| !round.lives(run) && !round.cost.hosts.contains(&run.node)) {
            if is_superseded(round, service, &runs, run) {
                continue;
            }
            let after = Moment(run.last_ns).since(round.begun);
            let text = format!(
                "{} ended on {}, which had no fault, {:.0} ms after the fault began",
                service.name,
                run.node,
                millis(after)
            );
            found.push(Violation::wrong(NAME, text));
        }
    }
    found
}

fn is_superseded(round: &Round<'_>, service: &Service, runs: &[&Run], ended: &Run) -> bool {
    let Copies::Replicated(wanted) = service.copies else { return false };
    let others = runs
        .iter()
        .filter(|run| run.path != ended.path && run.first_ns < ended.last_ns && run.last_ns > ended.last_ns);
    !round.cost.hosts.is_empty() && others.count() >= wanted
}
