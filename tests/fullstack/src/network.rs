//! The network between the simulated hosts: TCP that resends and keeps the order, UDP that does neither.
//!
//! What is sent in one step of the world arrives in a later one. Every direction between two hosts can be cut by itself,
//! lose datagrams, double them and delay them. A host without power answers nothing; one that has it again refuses what
//! it does not know.

mod fabric;
mod tcp;
mod udp;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use muster::security::principal::Principal;
use muster_tests::sim::rng::Rng;

use self::fabric::Fabric;
pub use self::tcp::{Incoming, SimDial, SimStream, node};
pub use self::udp::SimUdp;

const MS: u64 = 1_000_000;

/// How the way between two hosts is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weather {
    /// Of a hundred datagrams so many are lost; of TCP's segments so many come a resend later.
    pub loss_percent: u64,
    /// Of a hundred datagrams so many come twice.
    pub twice_percent: u64,
    /// Shortest time on the way.
    pub latency_ns: u64,
    /// The longest time on top of it.
    pub jitter_ns: u64,
}

impl Weather {
    /// A quiet LAN.
    pub const FAIR: Self = Self { loss_percent: 0, twice_percent: 0, latency_ns: MS / 5, jitter_ns: MS / 2 };
}

/// The network; cheap to clone.
#[derive(Clone)]
pub struct Network(Arc<Mutex<Fabric>>);

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Network")
    }
}

impl Network {
    /// A network in fair weather.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Fabric::new(Rng::new(seed)))))
    }

    fn lock(&self) -> MutexGuard<'_, Fabric> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time has come to `now_ns`: everything that is due arrives.
    pub fn advance(&self, now_ns: u64) {
        self.lock().advance(now_ns);
    }

    /// Nothing gets from one host to the other any more.
    pub fn cut(&self, from: IpAddr, to: IpAddr) {
        self.lock().cuts.insert((from, to));
    }

    /// It does again.
    pub fn mend(&self, from: IpAddr, to: IpAddr) {
        self.lock().cuts.remove(&(from, to));
    }

    /// The same weather for all.
    pub fn set_weather(&self, weather: Weather) {
        self.lock().weather = weather;
    }

    /// A host loses its power: nothing that it had under way leaves it any more, and its connections are gone without a
    /// word.
    pub fn power_off(&self, host: IpAddr) {
        self.lock().power_off(host);
    }

    /// It has power again, and knows nothing of its former connections.
    pub fn power_on(&self, host: IpAddr) {
        self.lock().without_power.remove(&host);
    }

    /// A sum over everything that was ever delivered, in order: equal runs have equal sums.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.lock().digest
    }

    /// How many datagrams and segments arrived.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.lock().delivered
    }

    /// Listens for connections.
    ///
    /// # Errors
    /// When the address is in use.
    pub fn listen(&self, address: SocketAddr) -> std::io::Result<Incoming> {
        Incoming::open(self.clone(), address)
    }

    /// Connects.
    ///
    /// # Errors
    /// When nobody listens there; while the host can't be reached it waits.
    pub async fn connect(&self, from: IpAddr, to: SocketAddr) -> std::io::Result<SimStream> {
        self.connect_as(from, to, Principal::Stranger).await
    }

    /// Connects as somebody.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_as(
        &self,
        from: IpAddr,
        to: SocketAddr,
        who: Principal,
    ) -> std::io::Result<SimStream> {
        tcp::connect(self.clone(), from, to, who).await
    }

    /// A socket for datagrams.
    ///
    /// # Errors
    /// When the address is in use.
    pub fn datagrams(&self, address: SocketAddr) -> std::io::Result<SimUdp> {
        SimUdp::open(self.clone(), address)
    }
}
