//! What can break, one kind a file.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Scene;
use crate::harness::wait::Moment;
use crate::harness::{Cluster, HarnessError};
use crate::sim::rng::Rng;

mod agent;
mod clock;
mod delay;
mod disk;
mod guard;
mod host;
mod link;
mod loss;
mod member;
mod operator;
mod quorum;
mod resource;
mod shim;
mod upgrade;

/// One kind of fault.
pub trait Fault {
    /// Its name in tables.
    fn name(&self) -> &'static str;

    /// Why it can't be done on this machine.
    fn obstacle(&self) -> Option<String> {
        None
    }

    /// Whether nothing else may break meanwhile: its steps need a cluster that answers, or a host that stays as it is.
    fn is_alone(&self) -> bool {
        false
    }

    /// Breaks something.
    ///
    /// # Errors
    /// When that is not possible; then nothing is broken.
    fn inject(&self, scene: &mut Scene, rng: &mut Rng) -> Result<Injury, HarnessError>;
}

/// What mends an injury.
pub type Heal = Box<dyn FnOnce(&mut Cluster) -> Result<(), HarnessError>>;

/// What is broken now.
pub struct Injury {
    /// For the story.
    pub told: String,
    /// How long it lasts.
    pub lasts: Duration,
    /// What it may cost.
    pub cost: Cost,
    /// Mends it. The cluster is whole some time after that.
    pub heal: Heal,
}

/// What two faults at once may take longer: an election, sessions anew.
const PAIR_RECOVERY: Duration = Duration::from_secs(5);

/// What a fault may cost. Whatever else happens is a violation.
#[derive(Clone, Debug, Default)]
pub struct Cost {
    /// Services on these hosts may stop.
    pub hosts: BTreeSet<String>,
    /// Too few voters are left: exclusive services may stop everywhere.
    pub quorum_lost: bool,
    /// From then on these can't renew their leases.
    pub isolated: Vec<(String, Moment)>,
    /// When the fault was complete: from then on a failover is timed.
    pub since: Option<Moment>,
    /// Services move elsewhere within the formula of the leases.
    pub fails_over: bool,
    /// How long beyond the ordinary it may take after healing until every service runs.
    pub recovery: Duration,
}

impl Cost {
    /// Nothing at all.
    #[must_use]
    pub fn nothing() -> Self {
        Self::default()
    }

    /// The services on a host.
    #[must_use]
    pub fn services_of(host: &str) -> Self {
        Self { hosts: BTreeSet::from([host.to_owned()]), ..Self::default() }
    }

    /// The host is lost to the others as of now: its services move.
    #[must_use]
    pub fn host_lost(host: &str) -> Self {
        let now = Moment::now();
        let isolated = vec![(host.to_owned(), now)];
        Self { isolated, since: Some(now), fails_over: true, ..Self::services_of(host) }
    }

    /// What two faults at once may cost. Together they may take the majority of the voters, and no bound in time was
    /// ever given for that.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            hosts: self.hosts.into_iter().chain(other.hosts).collect(),
            quorum_lost: true,
            isolated: self.isolated.into_iter().chain(other.isolated).collect(),
            since: None,
            fails_over: false,
            recovery: self.recovery + other.recovery + PAIR_RECOVERY,
        }
    }

    /// So much time more after healing.
    #[must_use]
    pub fn with_recovery(self, recovery: Duration) -> Self {
        Self { recovery, ..self }
    }
}

/// A time between two, in milliseconds.
fn span_ms(rng: &mut Rng, from: u64, to: u64) -> Duration {
    Duration::from_millis(rng.between(from, to))
}

/// Long enough that a lost host's services have moved.
fn long(rng: &mut Rng) -> Duration {
    span_ms(rng, 2_500, 5_000)
}

/// All kinds.
#[must_use]
pub fn all() -> Vec<Box<dyn Fault>> {
    vec![
        Box::new(agent::Killed),
        Box::new(agent::LeaderKilled),
        Box::new(agent::Frozen),
        Box::new(agent::LeaderFrozen),
        Box::new(guard::Killed),
        Box::new(guard::Frozen),
        Box::new(guard::FrozenBriefly),
        Box::new(shim::Killed),
        Box::new(shim::Frozen),
        Box::new(host::Crashed),
        Box::new(host::LeaderCrashed),
        Box::new(host::Frozen),
        Box::new(host::FrozenBriefly),
        Box::new(link::Cut),
        Box::new(link::CutBriefly),
        Box::new(link::Deaf),
        Box::new(link::Mute),
        Box::new(link::LeaderSeparated),
        Box::new(loss::Loss(1)),
        Box::new(loss::Loss(5)),
        Box::new(loss::Loss(20)),
        Box::new(quorum::AgentsKilled),
        Box::new(quorum::MajorityCrashed),
        Box::new(upgrade::GuardReloaded),
        Box::new(upgrade::RollingRestart),
        Box::new(operator::Drained),
        Box::new(operator::LeaderMoved),
        Box::new(operator::Moved),
        Box::new(member::LeftAndJoined),
        Box::new(delay::Delayed),
        Box::new(delay::Reordered),
        Box::new(clock::WallClockJumped),
        Box::new(clock::RateOff),
        Box::new(clock::OtherUptime),
        Box::new(disk::Full),
        Box::new(disk::Stalled),
        Box::new(disk::PowerCut),
        Box::new(resource::ProcessorStarved),
        Box::new(resource::MachineOverloaded),
        Box::new(resource::MemoryExhausted),
        Box::new(resource::DescriptorsExhausted),
    ]
}
