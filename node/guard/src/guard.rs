//! The guard's one thread: a loop that keeps the lease, hears its wires and tends its tasks.
//!
//! ```text
//!   voters ◀─UDP─▶ Network ─▶ Session (HostLease) ──re-arm──▶ shims ──▶ inits ──▶ tasks
//!   agent  ◀─Unix─▶ Client ─▶ orders ──▶ Tasks ──spawn──────────┘        ▲
//!                                        └──────────go, signal, check────┘
//! ```
//! The whole value is what travels in memory when the guard executes a new binary over itself (`handover`).

mod cgroup;
mod client;
mod ending;
mod family;
pub(crate) mod handover;
mod network;
mod orders;
mod session;
mod shims;
mod succession;
mod tasks;
mod watch;

use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use muster_core::id::BootId;
use muster_core::time::HostInstant;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::datagram::Rejection;
use crate::handle::Handle;
use crate::kernel;
use crate::key::SessionKey;
use crate::launch::{Isolation, Ordinary};
use crate::options::Options;
use crate::protocol::{Enforcement, Event, GuardFrame, LeasePhase, LeaseStatus};
use crate::report::report;
use cgroup::Cgroups;
use client::{CLIENTS_MAX, Client};
use ending::Stopping;
use handover::Reload;
use network::Network;
use session::Session;
use shims::Shims;
use succession::{SealedFenced, Succession};
use tasks::Tasks;
use watch::Watch;

/// How soon the loop looks again while something is being killed.
const KILLING_LOOK: Duration = Duration::from_millis(5);

/// Everything that the guard knows.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Guard {
    options: Options,
    boot: BootId,
    pub(crate) isolation: Isolation,
    pub(crate) ordinary: Ordinary,
    realtime: bool,
    /// Hold the flocks on the data directory and on the run directory.
    locks: [Handle; 2],
    listener: Handle,
    clients: Vec<Client>,
    clients_made: u64,
    network: Network,
    /// The key for the next session.
    prepared: Option<PreparedKey>,
    session: Option<Session>,
    shims: Shims,
    tasks: Tasks,
    cgroups: Cgroups,
    succession: Succession,
    stopping: Option<Stopping>,
    reload: Option<Reload>,
    #[serde(skip)]
    signals: Option<SignalFd>,
    #[serde(skip)]
    watch: Watch<Source>,
}

#[derive(Debug, Serialize, Deserialize)]
struct PreparedKey(#[serde(with = "crate::key::as_hex")] SessionKey);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Network,
    Signals,
    Listener,
    Client(u64),
    Shim(u64),
    Wire(u64),
    TaskEnd(u64),
}

/// What a start finds and makes before the loop can begin.
pub(crate) struct Foundation {
    pub(crate) options: Options,
    pub(crate) boot: BootId,
    pub(crate) isolation: Isolation,
    pub(crate) ordinary: Ordinary,
    pub(crate) realtime: bool,
    pub(crate) locks: [std::fs::File; 2],
    pub(crate) listener: UnixListener,
}

impl Guard {
    /// A new guard. Returns only after everything of its predecessor is gone.
    pub(crate) fn new(foundation: Foundation) -> Self {
        let Foundation { options, boot, isolation, ordinary, realtime, locks, listener } = foundation;
        let succession = Succession::enter(&options.run_dir);
        Self {
            cgroups: Cgroups::find(&options.data_dir, crate::notify::is_wanted()),
            options,
            boot,
            isolation,
            ordinary,
            realtime,
            locks: locks.map(Into::into),
            listener: listener.into(),
            clients: Vec::new(),
            clients_made: 0,
            network: Network::open(),
            prepared: None,
            session: None,
            shims: Shims::default(),
            tasks: Tasks::default(),
            succession,
            stopping: None,
            reload: None,
            signals: None,
            watch: Watch::default(),
        }
    }

    /// Runs until the guard was told to stop and everything is done.
    pub(crate) fn run(&mut self) -> std::io::Result<()> {
        self.listen_to_signals()?;
        loop {
            let now = clock::now();
            self.keep_lease(now);
            self.tend_tasks(now);
            self.succession.send_due(now, &self.network);
            if self.tend_stopping(now) {
                return Ok(());
            }
            self.forget_gone_clients();
            self.list_sources();
            let timeout = self.next_look(clock::now());
            self.watch.wait(timeout)?;
            // Before anything else is heard: whatever arrives after the end changes nothing.
            self.keep_lease(clock::now());
            let mut heard = 0;
            while let Some(source) = self.watch.ready(heard) {
                self.hear(source);
                heard += 1;
            }
        }
    }

    /// The socket for clients.
    pub(crate) fn listener_fd(&self) -> &impl AsFd {
        &self.listener
    }

    fn listen_to_signals(&mut self) -> nix::Result<()> {
        let mut mask = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            mask.add(signal);
        }
        SigSet::all().thread_set_mask()?;
        self.signals = Some(SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?);
        Ok(())
    }

    fn hear(&mut self, source: Source) {
        match source {
            Source::Network => self.hear_voters(),
            Source::Signals => self.hear_signals(),
            Source::Listener => self.accept(),
            Source::Client(number) => self.hear_client(number),
            Source::Shim(number) => self.hear_shim(number),
            Source::Wire(number) => self.hear_init(number),
            Source::TaskEnd(number) => self.task_ended(number),
        }
    }

    /// Takes what the signals say.
    pub(super) fn hear_signals(&mut self) {
        while let Some(Ok(Some(signal))) = self.signals.as_ref().map(|signals| signals.read_signal()) {
            match i32::try_from(signal.ssi_signo).map(Signal::try_from) {
                Ok(Ok(Signal::SIGTERM | Signal::SIGINT)) => self.begin_to_stop(None, None),
                Ok(Ok(Signal::SIGHUP)) => {
                    let exe = self.options.exe.clone();
                    if let Err(refusal) = self.begin_reload(exe, None) {
                        report!("no upgrade: {refusal}");
                    }
                }
                _ => self.reap(),
            }
        }
    }

    /// Sends what is due, and acts on the lease's end. Cheap enough for every turn; allocates nothing.
    fn keep_lease(&mut self, now: HostInstant) {
        let agent_present = self.clients.iter().any(Client::is_agent);
        let Some(session) = &mut self.session else { return };
        session.send_due(now, agent_present, &self.network);
        let phase = session.phase(now);
        if phase == LeasePhase::Killing {
            self.kill_bound(now);
        }
        self.tell_phase(now);
    }

    fn tell_phase(&mut self, now: HostInstant) {
        let Some(session) = &mut self.session else { return };
        let (phase, id) = (session.phase(now), session.id());
        if session.told == phase {
            return;
        }
        session.told = phase;
        if phase == LeasePhase::Killing {
            report!("session {id}: {phase:?}, last acks: {}", session.last_acks(now));
        } else {
            report!("session {id}: {phase:?}");
        }
        self.push(&Event::LeasePhase { session: id, phase });
        self.note_for_successor();
    }

    fn hear_voters(&mut self) {
        let Self { network, session, succession, .. } = self;
        let (mut renewed, mut kill, mut adopted, mut release) = (false, false, false, false);
        network.receive(|bytes| {
            succession.receive(bytes);
            if let Some(session) = session {
                let effect = session.receive(bytes);
                renewed |= effect.renewed;
                kill |= effect.kill;
                adopted |= effect.list_adopted || effect.targets_changed;
                release |= effect.release;
            }
        });
        if renewed {
            self.arm_bound_shims(clock::now());
        }
        if kill {
            self.keep_lease(clock::now());
        }
        if adopted {
            self.note_for_successor();
        }
        if let (true, Some(session)) = (release, &mut self.session)
            && !session.release
        {
            session.release = true;
            let session = session.id();
            report!("session {session}: the controller asks for its release");
            self.push(&Event::ReleaseRequested { session });
        }
    }

    fn arm_bound_shims(&mut self, now: HostInstant) {
        let Some(timer_ns) = self.session.as_mut().and_then(|session| session.timer_boottime_ns(now)) else {
            return;
        };
        for shim in self.shims.bound().filter(|shim| !shim.dead) {
            // A shim that is too stuck to read dies by the value it had.
            if shim.arm(timer_ns, false).unwrap_or(false) {
                self.tasks.wake_inits(shim.number);
            }
        }
    }

    fn list_sources(&mut self) {
        let watch = &mut self.watch;
        watch.begin();
        // Acks come twenty times a second.
        for socket in [&self.network.v4, &self.network.v6].into_iter().flatten() {
            watch.add_busy(socket.as_raw_fd(), Source::Network);
        }
        let signals = self.signals.as_ref().map_or(-1, |signals| signals.as_fd().as_raw_fd());
        watch.add(signals, false, Source::Signals);
        for task in &self.tasks.all {
            watch.add(task.wire_fd(), false, Source::Wire(task.number));
            watch.add(task.pidfd_fd(), false, Source::TaskEnd(task.number));
        }
        for shim in self.shims.all.iter().filter(|shim| !shim.dead) {
            watch.add(shim.wire.as_raw_fd(), false, Source::Shim(shim.number));
        }
        for client in &self.clients {
            watch.add(client.stream.as_raw_fd(), client.has_unsent(), Source::Client(client.number));
        }
        if self.clients.len() < CLIENTS_MAX {
            watch.add(self.listener.as_raw_fd(), false, Source::Listener);
        }
        watch.end();
    }

    /// How long nothing needs to be done if nothing happens; `None`: for ever.
    fn next_look(&mut self, now: HostInstant) -> Option<Duration> {
        let mut next: Option<Duration> = None;
        let mut sooner = |at: Option<Duration>| next = next.into_iter().chain(at).min();
        if let Some(session) = &mut self.session {
            let phase = session.phase(now);
            sooner(session.lease.send_due_in(now));
            if phase == LeasePhase::Valid {
                sooner(session.lease.kill_at().map(|kill_at| kill_at.shortest_since(now)));
            }
            if phase == LeasePhase::Killing {
                sooner(Some(KILLING_LOOK));
            }
        }
        for task in self.tasks.all.iter().filter(|task| task.is_alive()) {
            let at_ns = task.kill_at_ns.into_iter().chain(task.kill_init_at_ns).min();
            sooner(at_ns.map(|at_ns| clock::until(now, at_ns)));
        }
        sooner(self.succession.due_at_ns().map(|at_ns| clock::until(now, at_ns)));
        sooner(self.reload.as_ref().map(|reload| clock::until(now, reload.give_up_at_ns)));
        sooner(self.stopping.as_ref().map(|_| KILLING_LOOK));
        sooner(self.tasks.all.iter().any(tasks::Task::is_lost).then_some(KILLING_LOOK));
        next
    }

    fn accept(&mut self) {
        let Ok(fd) = nix::sys::socket::accept4(
            self.listener.as_raw_fd(),
            nix::sys::socket::SockFlag::SOCK_CLOEXEC | nix::sys::socket::SockFlag::SOCK_NONBLOCK,
        ) else {
            return;
        };
        self.clients_made += 1;
        self.clients.push(Client::new(self.clients_made, kernel::inherited(fd).into()));
    }

    fn forget_gone_clients(&mut self) {
        let agent_is_gone = self.clients.iter().any(|client| client.gone && client.came_as_agent());
        self.clients.retain(|client| !client.gone);
        if agent_is_gone {
            report!("the agent is gone; tasks and lease go on");
            // What was asked while an agent was here, perhaps long ago, says nothing about the absence that
            // begins now: only a release that is still asked for may end what runs.
            if let Some(session) = &mut self.session {
                session.release = false;
            }
        }
    }

    /// Sends an event to all who want them.
    fn push(&mut self, event: &Event) {
        for client in self.clients.iter_mut().filter(|client| client.wants_events) {
            client.send(&GuardFrame::Event(event.clone()));
        }
    }

    fn enforcement(&self) -> Enforcement {
        if self.isolation == Isolation::Nothing { Enforcement::User } else { Enforcement::Kernel }
    }

    fn lease_status(&mut self, now: HostInstant) -> LeaseStatus {
        let mut status = LeaseStatus {
            realtime: self.realtime,
            overflowed: self.network.overflowed,
            ..LeaseStatus::default()
        };
        if let Some(session) = &mut self.session {
            status.phase = session.phase(now);
            status.session = Some(session.id());
            status.remaining_ms = u64::try_from(session.lease.remaining(now).as_millis()).unwrap_or(u64::MAX);
            status.headroom_ms = if session.headroom_ms == u64::MAX { 0 } else { session.headroom_ms };
            status.membership = session.lease.list().membership.id;
            (status.sent, status.acked) = (session.sent, session.acked);
            status.rejections = session.rejections;
            status.rejected = Rejection::ALL.iter().map(|kind| session.rejections.of(*kind)).sum();
        }
        status
    }

    /// Writes down what a successor must know if this guard crashes from now on.
    fn note_for_successor(&mut self) {
        let now = clock::now();
        let shims = self.shims.all.iter().filter_map(|shim| shim.process);
        let inits = self.tasks.all.iter().filter(|task| task.is_alive()).filter_map(|task| task.init);
        let processes = shims.chain(inits).collect();
        // Without namespaces a successor can't prove that nothing is left.
        let provable = self.isolation != Isolation::Nothing;
        let session = self.session.as_mut().filter(|_| provable).and_then(|session| {
            (session.phase(now) != LeasePhase::Ended).then(|| SealedFenced {
                tenure: session.lease.tenure(),
                heartbeat_ms: session.heartbeat_ms,
                datagram: session.fenced_in_advance(),
                voters: session.lease.targets().iter().map(|target| target.address).collect(),
            })
        });
        self.succession.write(processes, session);
    }
}
