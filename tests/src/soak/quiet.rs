//! False kills: a cluster to which nothing happens but a share of packets lost, and every end of a service counts.

use std::time::Duration;

use super::report::Section;
use super::stage::{Limit, Place, Stage};
use crate::campaign::ledger::Ledger;
use crate::campaign::services::SERVICES;
use crate::harness::wait::{self, Moment};
use crate::harness::{Cluster, HarnessError, binaries};

/// Hosts; all of them vote.
const HOSTS: u8 = 3;
/// Between two looks at whether the time is up.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long the services may take to start.
const START: Duration = Duration::from_secs(30);
/// What may happen: no kill at all, but at a fifth lost one in a day of a node.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A quiet cluster.
#[derive(Debug)]
pub struct Quiet {
    /// So many of a hundred packets are lost, in each direction between any two hosts.
    pub loss_percent: u8,
}

/// What was seen.
struct Seen {
    watched: Duration,
    kills: usize,
}

impl Stage for Quiet {
    fn name(&self) -> String {
        match self.loss_percent {
            0 => "quiet cluster, idle".to_owned(),
            percent => format!("quiet cluster, {percent} % of the packets lost"),
        }
    }

    fn place(&self) -> Place {
        Place::Throughout
    }

    fn obstacle(&self) -> Option<String> {
        binaries::obstacle()
    }

    fn run(&mut self, limit: &Limit<'_>) -> Section {
        let seen = match self.watch(limit) {
            Ok(seen) => seen,
            Err(error) => return Section::broken(&self.name(), &error.to_string()),
        };
        let mut section = Section::new(&self.name());
        let node_minutes = seen.watched.as_secs_f64() / 60.0 * f64::from(HOSTS);
        section.measure("minutes of nodes watched", (node_minutes * 10.0).round() / 10.0);
        section.count("services ended for nothing", seen.kills as u64);
        if seen.kills > self.allowed(seen.watched) {
            let text = format!("{} services ended in {node_minutes:.0} minutes of nodes", seen.kills);
            let again = format!("cargo run --release -p muster-tests --bin soak -- --only '{}'", self.name());
            section.violations.push(format!("{text}\nplay it again: {again}"));
        }
        section
    }
}

impl Quiet {
    fn allowed(&self, watched: Duration) -> usize {
        if self.loss_percent < 20 {
            return 0;
        }
        let days = (watched.as_secs() * u64::from(HOSTS)).div_ceil(DAY.as_secs());
        // A lapse ends every exclusive service of its host.
        usize::try_from(days).unwrap_or(1) * SERVICES.iter().filter(|service| service.is_exclusive()).count()
    }

    fn watch(&self, limit: &Limit<'_>) -> Result<Seen, HarnessError> {
        let mut cluster = Cluster::start(HOSTS.into())?;
        let (muster, stamps) = (cluster.binaries().muster.clone(), cluster.stamps().clone());
        let files: String =
            SERVICES.iter().map(|service| service.file(&muster, stamps.directory())).collect();
        cluster.api().apply(&files)?;
        cluster.whole()?;
        let ledger = Ledger::new(stamps)?;
        let living = || -> Result<usize, HarnessError> {
            SERVICES.iter().try_fold(0, |sum, service| Ok(sum + ledger.living(service)?.len()))
        };
        let wanted: usize = SERVICES.iter().map(|service| service.wanted(HOSTS.into())).sum();
        wait::until(START, "every service to run", || {
            let living = living().map_err(|e| e.to_string())?;
            if living == wanted { Ok(()) } else { Err(format!("{living} of {wanted} run")) }
        })?;
        if self.loss_percent > 0 {
            for host in cluster.others(&[]) {
                cluster.network().lose(&host, self.loss_percent)?;
            }
        }
        let begun = Moment::now();
        while !limit.is_over() {
            wait::pass(LOOK_EVERY);
        }
        let watched = begun.elapsed();
        let runs = SERVICES
            .iter()
            .try_fold(0, |sum, service| Ok::<_, HarnessError>(sum + ledger.runs(service)?.len()))?;
        // Whatever ended and was not started again counts as well.
        let kills = (runs - wanted).max(wanted.saturating_sub(living()?));
        Ok(Seen { watched, kills })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_fifth_lost_excuses_a_lapse() {
        let hour = Duration::from_secs(3600);
        assert_eq!(Quiet { loss_percent: 0 }.allowed(hour), 0);
        assert_eq!(Quiet { loss_percent: 5 }.allowed(hour), 0);
        assert!(Quiet { loss_percent: 20 }.allowed(hour) > 0);
    }
}
