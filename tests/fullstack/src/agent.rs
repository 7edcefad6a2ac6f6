//! The agent of a simulated host: the product's own, on simulated ground.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use muster::acks::Acks;
use muster::agent::guard_door::{GuardDoor, GuardStream};
use muster::api::status::EXIT_KEY;
use muster::command::init;
use muster::config::Config;
use muster::node::ground::Ground;
use muster::node::{self, RunOptions};
use muster::peers;
use muster::security::dial::Dial;
use muster::security::principal::Principal;
use muster::security::rejections::Rejections;
use muster::security::store::Store;
use muster::seed::Seed;
use muster::storage::directory::{DataDirectory, Identity};
use muster::storage::history::History;
use muster::token::Token;
use muster_core::command::NodeDescription;
use muster_core::id::SessionId;
use muster_core::time::Timing;
use muster_proto::v1;
use muster_proto::v1::joining_client::JoiningClient;
use muster_tls::{Expected, Pin};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::disk::Disk;
use crate::machine::Place;
use crate::network::{Network, SimDial, SimUdp, node};
use crate::process::Exit;

/// How often the voter's half is told that it is awake; as the product's own thread does.
const TICK: Duration = Duration::from_millis(20);
/// Between two tries to join.
const JOIN_PAUSE: Duration = Duration::from_millis(200);
/// How long one try may take.
const JOIN_TIMEOUT: Duration = Duration::from_secs(3);

/// What an agent needs.
#[derive(Clone)]
pub struct Setting {
    /// Its host.
    pub place: Place,
    /// The network.
    pub network: Network,
    /// Its disk.
    pub disk: Disk,
    /// The cluster's timing profile.
    pub profile: &'static str,
    /// A snapshot is written every so many entries.
    pub snapshot_every: u64,
    /// How it joins when it has no identity yet.
    pub invitation: Option<Invitation>,
    /// Ends it in order.
    pub stop: CancellationToken,
}

/// What an operator types behind `muster join`.
#[derive(Clone, Debug)]
pub struct Invitation {
    /// The token.
    pub token: String,
    /// Agents that may let it in.
    pub agents: Vec<String>,
}

/// The configuration of a host.
///
/// # Panics
/// Never: the text is well-formed.
#[must_use]
pub fn config(place: &Place, profile: &str) -> Config {
    let data_dir = place.data_dir.display();
    let text = format!(
        "[node]\nname = '{}'\ndata_dir = '{data_dir}'\nrun_dir = '{data_dir}/run'\nlisten = ['{}']\n\
         capacity = {{ cpu_millis = 4000, memory_mib = 4096 }}\n[http]\nlisten = []\n[timing]\nprofile = '{profile}'\n",
        place.name,
        place.agent(),
    );
    toml::from_str(&text).expect("the text is well-formed")
}

/// `muster init`; returns the token for the others.
///
/// # Errors
/// When the data directory can't be used.
pub fn init(place: &Place, profile: &str) -> Result<String, String> {
    init::prepare(&config(place, profile), "simulated").map_err(|e| e.to_string())?;
    // Nothing is encrypted here, and keys would differ from run to run, as their randomness does not come by way of the
    // simulated kernel: this cluster does without a CA, and its token has a pin of nothing.
    Store::new(&place.data_dir).forget_authority().map_err(|e| e.to_string())?;
    let token = Token::generate(Pin::of(b"simulated")).map_err(|e| e.to_string())?;
    let seed = Seed::read(&place.data_dir).map_err(|e| e.to_string())?;
    let mut seed = seed.ok_or("init left no seed")?;
    if let Some(first) = seed.bootstrap.as_mut() {
        first.id.clone_from(&token.id);
        first.hash = token.hash().iter().map(|byte| format!("{byte:02x}")).collect();
    }
    seed.write(&place.data_dir).map_err(|e| e.to_string())?;
    Ok(token.text)
}

/// Runs until it is told to stop, or can't go on.
///
/// # Errors
/// Why it could not go on.
pub async fn run(setting: Setting) -> Exit {
    let config = config(&setting.place, setting.profile);
    let mut directory = DataDirectory::open(&setting.place.data_dir).map_err(|e| e.to_string())?;
    if directory.identity().is_none() {
        let invitation = setting.invitation.clone().ok_or("it has neither identity nor invitation")?;
        join(&setting, &config, &invitation, &mut directory).await?;
    }
    let incoming = setting.network.listen(setting.place.agent()).map_err(|e| e.to_string())?;
    let id = directory.identity().map_or(0, |identity| identity.node_id);
    let who = node(id);
    let dialer = Arc::new(SimDial { network: setting.network.clone(), from: setting.place.ip(), who });
    let (network, place) = (setting.network.clone(), setting.place.clone());
    let ground = Ground {
        log: setting.disk.open(),
        snapshot_every: setting.snapshot_every,
        history: History::nowhere(),
        raft_dialer: Arc::clone(&dialer) as Arc<dyn Dial>,
        agent_dialer: dialer,
        guard: Arc::new(Door { network: network.clone(), place: place.clone() }),
        incoming: Box::new(move |_, _| incoming),
        rejections: Rejections::default(),
        live: None,
        unix: None,
        http: Vec::new(),
        heartbeats: Box::new(move |acks, fenced| {
            let socket = network.datagrams(place.agent())?;
            let answering = tokio::spawn(answer_heartbeats(acks, fenced, socket));
            Ok(Box::new(AbortOnDropHandle::new(answering)) as Box<dyn Send>)
        }),
    };
    let options = RunOptions { config, guard_exe: PathBuf::new(), autostart_guard: false };
    node::run_on(options, directory, ground, setting.stop).await.map_err(|e| e.to_string())
}

/// The product does this on a thread of its own, with sockets of its own.
async fn answer_heartbeats(acks: Acks, fenced: mpsc::Sender<SessionId>, socket: SimUdp) {
    loop {
        let first = tokio::time::timeout(TICK, socket.receive()).await.ok();
        acks.tick();
        let mut next = first;
        while let Some((from, content)) = next {
            if let Some((bytes, length)) = acks.answer(&content, &fenced) {
                socket.send(&bytes[..length], from);
            }
            next = socket.received();
        }
    }
}

/// `muster join`, over the simulated network.
async fn join(
    setting: &Setting,
    config: &Config,
    invitation: &Invitation,
    directory: &mut DataDirectory,
) -> Exit {
    let (network, who) = (setting.network.clone(), Principal::Stranger);
    let dialer = SimDial { network, from: setting.place.ip(), who };
    let description = NodeDescription {
        addresses: vec![setting.place.agent().to_string()],
        capacity: config.capacity(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        features: (node::FEATURES_LOWEST, node::FEATURES_HIGHEST),
        ..NodeDescription::default()
    };
    let mut request = v1::JoinRequest {
        token: invitation.token.clone(),
        name: setting.place.name.clone(),
        description: Some(muster_wire::description_to_proto(&description)),
        role: v1::Role::Auto.into(),
        ..v1::JoinRequest::default()
    };
    let mut rounds = 1u64;
    let reply = 'joined: loop {
        for agent in &invitation.agents {
            let settings = peers::settings(agent).map_err(|e| e.to_string())?;
            let mut joining = JoiningClient::new(dialer.dial(&settings, agent, Expected::AnyNode));
            match tokio::time::timeout(JOIN_TIMEOUT, joining.join(request.clone())).await {
                Ok(Ok(reply)) => break 'joined reply.into_inner(),
                Ok(Err(status)) => {
                    tracing::info!(agent, status = status.message(), "could not join yet");
                    // A refusal is remembered with the words of the request; without one the try may yet be applied.
                    if status.metadata().contains_key(EXIT_KEY) {
                        request.certificate_request = rounds.to_be_bytes().to_vec().into();
                        rounds += 1;
                    }
                }
                Err(_) => tracing::info!(agent, "no answer"),
            }
        }
        tokio::time::sleep(JOIN_PAUSE).await;
    };
    let timing = reply.timing.as_ref().map(muster_wire::timing_from_proto);
    let peers = reply.peers.iter().flat_map(|p| p.addresses.iter().cloned()).collect();
    let seed = Seed { timing: timing.unwrap_or(Timing::LAN), peers, bootstrap: None };
    seed.write(directory.path()).map_err(|e| e.to_string())?;
    let identity = Identity {
        cluster_id: reply.cluster_id.iter().map(|b| format!("{b:02x}")).collect(),
        cluster_name: reply.cluster_name,
        node_id: reply.node,
        node_name: setting.place.name.clone(),
        incarnation: reply.incarnation,
        machine_id: directory.machine_id().to_owned(),
    };
    directory.claim(identity).map_err(|e| e.to_string())
}

/// The way to the guard's process.
#[derive(Debug)]
struct Door {
    network: Network,
    place: Place,
}

impl GuardDoor for Door {
    fn connect(&self) -> BoxFuture<'_, std::io::Result<Box<dyn GuardStream>>> {
        async {
            let connecting = self.network.connect(self.place.ip(), self.place.guard());
            // On one host nobody waits for somebody who is not there.
            let stream = tokio::time::timeout(Duration::from_millis(100), connecting).await;
            let stream = stream.unwrap_or(Err(ErrorKind::ConnectionRefused.into()))?;
            Ok(Box::new(stream) as Box<dyn GuardStream>)
        }
        .boxed()
    }

    fn start_guard(&self) -> std::io::Result<bool> {
        Ok(false)
    }
}
