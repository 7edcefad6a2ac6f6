//! Operators at another host: they declare services, write and read annotations, and move things about, over the API;
//! and an auditor who looks at every replica.

mod auditor;
mod clients;
mod mover;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use muster::peers;
use muster::security::dial::Dial;
use muster::security::principal::Principal;
use muster_core::spec::ServiceSpec;
use muster_core::spec::file::ServiceFile;
use muster_proto::v1;
use muster_proto::v1::cluster_client::ClusterClient;
use muster_tests::sim::rng::Rng;
use muster_tls::Expected;
use tonic::Request;
use tonic::transport::Channel;

use crate::invariants::Checker;
use crate::invariants::history::History;
use crate::kernel;
use crate::mutant::Mutant;
use crate::network::{Network, SimDial, node};
use crate::process::Exit;

/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(4);
/// The services: as many as hosts, so that something runs everywhere.
const SERVICES: &str = r#"
[[service]]
name = "alone-0"
stop_timeout = "1s"
restart = { attempts = 100, window = "1m", backoff = "50ms..200ms" }
[[service.task]]
name = "main"
exec = { command = ["/bin/serve"] }
[[service]]
name = "alone-1"
stop_timeout = "1s"
restart = { attempts = 100, window = "1m", backoff = "50ms..200ms" }
[[service.task]]
name = "main"
exec = { command = ["/bin/serve"] }
[[service]]
name = "alone-2"
stop_timeout = "1s"
restart = { attempts = 100, window = "1m", backoff = "50ms..200ms" }
[[service.task]]
name = "main"
exec = { command = ["/bin/serve"] }
[[service]]
name = "many"
mode = "replicated"
count = 3
stop_timeout = "1s"
restart = { attempts = 100, window = "1m", backoff = "50ms..200ms" }
[[service.task]]
name = "main"
exec = { command = ["/bin/serve"] }
"#;

/// What the world tells the operators, and they the world.
#[derive(Clone, Default)]
pub struct Agreement {
    /// No more faults: what was drained is taken back, nothing is moved.
    pub peace: Arc<AtomicBool>,
    /// Nothing more is done but to look.
    pub end: Arc<AtomicBool>,
    /// Everything was found placed and running, since peace.
    pub placed: Arc<AtomicBool>,
    /// The last reads were made.
    pub read_out: Arc<AtomicBool>,
    /// All replicas were found equal, since the end.
    pub equal: Arc<AtomicBool>,
    /// The services were declared.
    pub declared: Arc<AtomicBool>,
}

impl Agreement {
    fn is(flag: &AtomicBool) -> bool {
        flag.load(Ordering::Relaxed)
    }

    fn set(flag: &AtomicBool) {
        flag.store(true, Ordering::Relaxed);
    }
}

/// What operators need.
#[derive(Clone)]
pub struct Setting {
    /// The network.
    pub network: Network,
    /// The agents.
    pub agents: Vec<String>,
    /// The hosts' names, in the same order.
    pub names: Vec<String>,
    /// The cluster, as agents name it to each other.
    pub cluster: Vec<u8>,
    /// Where the seed of their chance comes from.
    pub seed: u64,
    /// What they did.
    pub history: History,
    /// Who judges what they saw.
    pub checker: Checker,
    /// Whether they move things about.
    pub moves: bool,
    /// What is broken.
    pub mutant: Option<Mutant>,
    /// With the world.
    pub agreement: Agreement,
}

/// The operators' address.
#[must_use]
pub fn address() -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, 200))
}

/// Works until the run is over.
///
/// # Errors
/// Never; the process is ended by the world.
pub async fn run(setting: Setting) -> Exit {
    let mut rng = Rng::new(setting.seed);
    let channels = Agents::new(&setting, Principal::Local { uid: 0 });
    declare(&channels, &mut rng.clone()).await;
    Agreement::set(&setting.agreement.declared);
    tracing::info!("the services are declared");
    for number in 1..=clients::COUNT {
        tokio::spawn(clients::run(number, setting.clone(), channels.clone(), Rng::new(rng.number())));
    }
    if setting.moves {
        tokio::spawn(mover::run(setting.clone(), channels.clone(), Rng::new(rng.number())));
    }
    // To see the whole state of each agent it follows them, as a node does.
    let auditor = Agents::new(&setting, node(1));
    auditor::run(setting, auditor, rng).await;
    Ok(())
}

/// Channels to all agents.
#[derive(Clone)]
struct Agents(Vec<Channel>);

impl Agents {
    fn new(setting: &Setting, who: Principal) -> Self {
        let dialer = SimDial { network: setting.network.clone(), from: address(), who };
        let dial = |agent: &String| {
            let settings = peers::settings(agent).expect("the addresses are well-formed");
            dialer.dial(&settings, agent, Expected::AnyNode)
        };
        Self(setting.agents.iter().map(dial).collect())
    }

    fn channel(&self, index: usize) -> Channel {
        self.0[index].clone()
    }

    /// A client of any agent.
    fn any(&self, rng: &mut Rng) -> ClusterClient<Channel> {
        let count = u64::try_from(self.0.len()).unwrap_or(1);
        self.client(usize::try_from(rng.below(count)).unwrap_or(0))
    }

    fn client(&self, index: usize) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel(index)).max_decoding_message_size(8 << 20)
    }
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}

fn now_ns() -> u64 {
    kernel::world_ns()
}

/// Waits for an answer, at most as long as a call may take.
async fn within<T>(call: impl Future<Output = Result<T, tonic::Status>>) -> Result<T, tonic::Status> {
    let limit = CALL_TIMEOUT + Duration::from_millis(200);
    tokio::time::timeout(limit, call)
        .await
        .unwrap_or_else(|_| Err(tonic::Status::deadline_exceeded("no answer")))
}

/// The declarations.
fn specs() -> Vec<ServiceSpec> {
    let file: ServiceFile = toml::from_str(SERVICES).expect("the file is well-formed");
    file.try_into().expect("the services are valid")
}

async fn declare(agents: &Agents, rng: &mut Rng) {
    let services: Vec<_> = specs().iter().map(muster_wire::spec_to_proto).collect();
    loop {
        let request = v1::ApplyRequest { services: services.clone(), ..v1::ApplyRequest::default() };
        match within(agents.any(rng).apply(timed(request))).await {
            Ok(_) => return,
            Err(status) => tracing::debug!(status = status.message(), "not declared yet"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
