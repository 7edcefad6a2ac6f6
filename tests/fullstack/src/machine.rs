//! A host: its address, clocks, disk and processes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use muster_tests::sim::rng::Rng;
use tokio_util::sync::CancellationToken;

use crate::disk::Disk;
use crate::kernel::Clocks;
use crate::process::Process;
use crate::tasks::Tasks;

/// When the simulated world begins, in milliseconds since 1970.
const EPOCH_MS: u64 = 1_700_000_000_000;
/// The port of agents.
const AGENT_PORT: u16 = 7420;
/// Where a host's guard takes connections of its agent.
const GUARD_PORT: u16 = 1;
/// Where a guard sends its heartbeats from.
const HEARTBEAT_PORT: u16 = 2;

/// How a host's clocks differ from the world's.
#[derive(Clone, Copy, Debug)]
pub struct Skew {
    /// Parts per million that `CLOCK_BOOTTIME` and `CLOCK_MONOTONIC` gain.
    pub boottime_ppm: i64,
    /// Parts per million that `CLOCK_MONOTONIC_RAW` gains.
    pub raw_ppm: i64,
    /// How much the host had run when the world began.
    pub up_ns: u64,
    /// How wrong the wall clock is.
    pub wall_ms: u64,
}

impl Skew {
    /// LEASES.md allows each clock a rate that is off by up to 1 %.
    #[must_use]
    pub fn random(rng: &mut Rng) -> Self {
        let ppm = |rng: &mut Rng| i64::try_from(rng.below(19_001)).unwrap_or(0) - 9_500;
        Self {
            boottime_ppm: ppm(rng),
            raw_ppm: ppm(rng),
            up_ns: rng.between(1, 1_000) * 1_000_000_000,
            wall_ms: rng.below(3_000),
        }
    }

    /// What the host's clocks show.
    #[must_use]
    pub fn read(&self, world_ns: u64) -> Clocks {
        let gained = |ppm: i64| {
            let change = i128::from(world_ns) * i128::from(ppm) / 1_000_000;
            u64::try_from(i128::from(world_ns) + change).unwrap_or(0) + self.up_ns
        };
        let boottime_ns = gained(self.boottime_ppm);
        Clocks {
            monotonic_ns: boottime_ns,
            boottime_ns,
            raw_ns: gained(self.raw_ppm),
            wall_ns: (EPOCH_MS + self.wall_ms) * 1_000_000 + world_ns,
        }
    }
}

/// Which of a host's processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The agent.
    Agent,
    /// The guard.
    Guard,
}

/// What does not change about a host.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its number, from 1; it need not be its node id.
    pub number: u8,
    /// Its name.
    pub name: String,
    /// How its guard's lines in the trace begin.
    pub guard_name: String,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// How its clocks go.
    pub skew: Skew,
}

impl Place {
    /// Its address.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, self.number))
    }

    /// Where its agent listens.
    #[must_use]
    pub fn agent(&self) -> SocketAddr {
        SocketAddr::new(self.ip(), AGENT_PORT)
    }

    /// Where its guard listens.
    #[must_use]
    pub fn guard(&self) -> SocketAddr {
        SocketAddr::new(self.ip(), GUARD_PORT)
    }

    /// Where its guard sends from.
    #[must_use]
    pub fn heartbeats(&self) -> SocketAddr {
        SocketAddr::new(self.ip(), HEARTBEAT_PORT)
    }
}

/// A host.
pub struct Machine {
    /// What does not change.
    pub place: Place,
    /// Under the Raft log.
    pub disk: Disk,
    /// Its kernel, as far as its guard uses it.
    pub tasks: Tasks,
    /// The agent.
    pub agent: Option<Process>,
    /// Ends the agent in order.
    pub stop: CancellationToken,
    /// When the service manager starts the agent, which does not run.
    pub agent_due_ns: Option<u64>,
    /// The guard.
    pub guard: Option<Process>,
    /// When the service manager starts the guard, which does not run.
    pub guard_due_ns: Option<u64>,
    /// Whether it has power.
    pub powered: bool,
}
