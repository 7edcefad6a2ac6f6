//! The cluster of a campaign with its services and everybody who watches them.

use std::collections::BTreeMap;
use std::time::Duration;

use muster::stamp::Run;

use super::counter::Counter;
use super::ledger::Ledger;
use super::options::HOSTS;
use super::services::SERVICES;
use crate::harness::wait::{self, Moment};
use crate::harness::{Cluster, HarnessError, Metronome};
use crate::history::Clients;
use crate::sim::rng::Rng;

/// How long all services may take to start at first.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// The last stamps of a busy machine may be that old.
const PLACED_TIMEOUT: Duration = Duration::from_secs(60);

/// The cluster and its watchers.
#[derive(Debug)]
pub struct Scene {
    /// Calls the API all the time.
    pub clients: Clients,
    /// Counts in Redis; `None`: it is not installed.
    pub counter: Option<Counter>,
    /// All runs.
    pub ledger: Ledger,
    /// How late the machine is.
    pub metronome: Metronome,
    /// The cluster.
    pub cluster: Cluster,
}

impl Scene {
    /// A whole cluster on which all services run.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn open(seed: u64) -> Result<Self, HarnessError> {
        let mut cluster = Cluster::start(HOSTS)?;
        let (muster, stamps) = (cluster.binaries().muster.clone(), cluster.stamps().clone());
        let files: String =
            SERVICES.iter().map(|service| service.file(&muster, stamps.directory())).collect();
        cluster.api().apply(&files)?;
        let counter = Counter::open(&cluster)?;
        cluster.whole()?;
        let clients = Clients::start(cluster.second_api()?, seed)?;
        let ledger = Ledger::new(stamps)?;
        let scene = Self { clients, counter, ledger, metronome: Metronome::start(), cluster };
        scene.placed(START_TIMEOUT)?;
        Ok(scene)
    }

    /// Waits until every service stamps in as many copies as wanted; since when it is so.
    ///
    /// # Errors
    /// When it does not become so.
    pub fn placed(&self, limit: Duration) -> Result<Moment, HarnessError> {
        let hosts = self.cluster.hosts().iter().filter(|host| host.has_agent()).count();
        let asked = Moment::now();
        wait::until(limit, "every service to run", || {
            let (mut missing, mut first) = (Vec::new(), 0);
            for service in &SERVICES {
                let runs = self.ledger.runs(service).map_err(|e| e.to_string())?;
                // Only a stamp behind the question proves that a copy runs.
                let running = runs.iter().filter(|run| run.last_ns > asked.0).count();
                if running < service.wanted(hosts) {
                    missing.push(format!("{} {running}/{}", service.name, service.wanted(hosts)));
                }
                first = first.max(runs.iter().map(|run| run.first_ns).max().unwrap_or(0));
            }
            let since = Moment(first).max(asked);
            if missing.is_empty() { Ok(since) } else { Err(missing.join(", ")) }
        })
    }

    /// As [`Scene::placed`], for as long as it may take before it counts as never.
    ///
    /// # Errors
    /// When it does not become so.
    pub fn placed_at_all(&self) -> Result<Moment, HarnessError> {
        self.placed(PLACED_TIMEOUT)
    }

    /// The runs of each service that stamp now.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn living(&self) -> Result<BTreeMap<&'static str, Vec<Run>>, HarnessError> {
        SERVICES.iter().map(|service| Ok((service.name, self.ledger.living(service)?))).collect()
    }

    /// Any host.
    ///
    /// # Panics
    /// Never: there are hosts.
    pub fn any(&self, rng: &mut Rng) -> String {
        self.among(rng, &self.cluster.others(&[]))
    }

    /// Any host that runs an exclusive service: a fault there costs something.
    ///
    /// # Errors
    /// When the runs can't be read.
    pub fn busy(&self, rng: &mut Rng) -> Result<String, HarnessError> {
        let living = self.living()?;
        let exclusive = SERVICES.iter().filter(|service| service.is_exclusive());
        let mut hosts: Vec<String> =
            exclusive.flat_map(|service| &living[service.name]).map(|run| run.node.clone()).collect();
        hosts.sort();
        hosts.dedup();
        Ok(if hosts.is_empty() { self.any(rng) } else { self.among(rng, &hosts) })
    }

    /// A host with something to lose: mostly one that runs an exclusive service, sometimes the leader.
    ///
    /// # Errors
    /// When nobody leads.
    pub fn victim(&self, rng: &mut Rng) -> Result<String, HarnessError> {
        if rng.percent(35) { self.cluster.api().leader() } else { self.busy(rng) }
    }

    /// One of these.
    ///
    /// # Panics
    /// When there is none.
    pub fn among(&self, rng: &mut Rng, hosts: &[String]) -> String {
        let names: Vec<&str> = hosts.iter().map(String::as_str).collect();
        rng.pick(&names).expect("a cluster has hosts").to_owned()
    }

    /// A host for the story: who it is to the cluster.
    #[must_use]
    pub fn describe(&self, host: &str) -> String {
        let leads = self.cluster.api().leader().is_ok_and(|leader| leader == host);
        let living = self.living().unwrap_or_default();
        let runs = living.iter().filter(|(_, runs)| runs.iter().any(|run| run.node == host));
        let names: Vec<&str> = runs.map(|(name, _)| *name).collect();
        format!("{host} ({}runs {})", if leads { "leads, " } else { "" }, names.join(" "))
    }
}
