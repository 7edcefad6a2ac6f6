//! The guard of a simulated host: the pure host half of the lease behind the protocol that agents speak. What the real
//! one asks of Linux (shims, namespaces, timers) the host's simulated kernel does ([`crate::tasks`]).

mod clients;
mod orders;
mod session;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use muster::clock;
use muster_core::id::{BootId, Generation, SlotId};
use muster_core::lease::Fenced;
use muster_guard::datagram::{self, DATAGRAM_BYTES_MAX, FromGuard};
use muster_guard::key::SessionKey;
use muster_guard::protocol::{Event, GuardFrame, LeasePhase, Outcome, Reply, TaskReport, TaskState};
use tokio::sync::mpsc;

use self::clients::{Asked, Client, Heard};
use self::session::Session;
use crate::machine::Place;
use crate::mutant::Mutant;
use crate::network::{Network, SimUdp};
use crate::process::Exit;
use crate::tasks::{Note, Tasks};

/// What clients say and the guard has not taken yet.
const HEARD_MAX: usize = 64;
/// The longest time between two looks at everything.
const LOOK: Duration = Duration::from_millis(20);

/// What a guard needs.
#[derive(Clone)]
pub struct Setting {
    /// Its host.
    pub place: Place,
    /// The network.
    pub network: Network,
    /// The host's kernel.
    pub tasks: Tasks,
    /// What is wrong with it, in a run that is to be caught.
    pub mutant: Option<Mutant>,
}

struct Guard {
    setting: Setting,
    boot: BootId,
    socket: SimUdp,
    clients: BTreeMap<u64, Client>,
    prepared: Option<SessionKey>,
    session: Option<Session>,
    /// Everything that runs or was not forgotten yet, by the kernel's number.
    reports: BTreeMap<u64, TaskReport>,
    revoked: BTreeMap<SlotId, Generation>,
    revoking: Vec<(SlotId, Asked)>,
    stopping: Option<Asked>,
    /// The predecessor's end, told until a voter has heard it.
    predecessor: Option<Note>,
}

/// Runs until it is told to stop.
///
/// # Errors
/// When it can't listen.
pub async fn run(setting: Setting) -> Exit {
    // A new guard does nothing before everything of its predecessor is gone.
    while !setting.tasks.running().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(setting.tasks.ended());
    setting.tasks.disarm();
    let mut incoming = setting.network.listen(setting.place.guard()).map_err(|e| e.to_string())?;
    let socket = setting.network.datagrams(setting.place.heartbeats()).map_err(|e| e.to_string())?;
    let (heard_tx, mut heard) = mpsc::channel(HEARD_MAX);
    let boot = clock::host_now().boottime_ns.max(1);
    let mut guard = Guard {
        predecessor: setting.tasks.note(),
        setting,
        boot: BootId(boot),
        socket,
        clients: BTreeMap::new(),
        prepared: None,
        session: None,
        reports: BTreeMap::new(),
        revoked: BTreeMap::new(),
        revoking: Vec::new(),
        stopping: None,
    };
    let mut clients_made = 0;
    loop {
        guard.tend();
        if guard.is_over() {
            return Ok(());
        }
        let pause = guard.next_look();
        let tasks = guard.setting.tasks.clone();
        tokio::select! {
            biased;
            (_, bytes) = guard.socket.receive() => guard.hear_voter(&bytes),
            () = tasks.changed() => {}
            Some(heard) = heard.recv() => guard.hear_client(heard),
            Some(Ok(stream)) = incoming.next() => {
                clients_made += 1;
                guard.clients.insert(clients_made, Client::new(clients_made, stream, heard_tx.clone()));
            }
            () = tokio::time::sleep(pause) => {}
        }
    }
}

impl Guard {
    /// Everything that may be due.
    fn tend(&mut self) {
        let now = clock::host_now();
        let agent_present = self.clients.values().any(Client::is_agent);
        let tasks = self.setting.tasks.clone();
        if let Some(session) = &mut self.session {
            if tasks.timer_fired() {
                // It came up to 1 % before the guard's own moment: killing has begun with it (R4).
                session.lease.end(now);
            }
            session.send_due(now, agent_present, &self.socket);
            if session.phase(now) == LeasePhase::Killing {
                if !self.setting.mutant.is_some_and(Mutant::spares_tasks) {
                    tasks.kill_bound(world_ns());
                }
                if !tasks
                    .running()
                    .values()
                    .any(|task| task.binding == muster_guard::protocol::Binding::Exclusive)
                    || self.setting.mutant.is_some_and(Mutant::spares_tasks)
                {
                    session.lease.nothing_left(now);
                    tasks.disarm();
                }
            }
        }
        self.take_ended();
        self.tell_phase();
        self.tend_release();
        self.fence_predecessor();
        self.answer_revokes();
    }

    fn next_look(&mut self) -> Duration {
        let now = clock::host_now();
        let Some(session) = &mut self.session else { return LOOK };
        let send = session.lease.send_due_in(now).unwrap_or(LOOK);
        let kill = session.lease.kill_at().map_or(LOOK, |at| at.shortest_since(now));
        send.min(kill).clamp(Duration::from_millis(1), LOOK)
    }

    fn hear_voter(&mut self, bytes: &[u8]) {
        let closed = datagram::read_closed_unverified(bytes);
        if self.predecessor.as_ref().is_some_and(|note| closed == Some(note.tenure)) {
            self.predecessor = None;
            self.setting.tasks.set_note(None);
        }
        let Some(session) = &mut self.session else { return };
        let effect = session.receive(bytes);
        let now = clock::host_now();
        if effect.renewed
            && let Some(timer_ns) = session.lease.timer_boottime_ns(now)
            && !self.setting.mutant.is_some_and(Mutant::spares_tasks)
        {
            self.setting.tasks.arm(timer_ns, session.lease.deadline());
        }
        let id = session.id();
        let released = effect.release && !std::mem::replace(&mut session.release, effect.release);
        if effect.list_adopted || effect.targets_changed {
            self.note_for_successor();
        }
        if released {
            self.push(&Event::ReleaseRequested { session: id });
        }
    }

    /// What the kernel says has ended.
    fn take_ended(&mut self) {
        for ended in self.setting.tasks.ended() {
            let Some(report) = self.reports.get_mut(&ended.number) else { continue };
            let at_boottime_ns = clock::host_now().boottime_ns;
            report.state = TaskState::Exited { how: ended.how, at_boottime_ns };
            let event = Event::TaskExited {
                slot: report.slot.clone(),
                generation: report.generation,
                task: report.task.clone(),
                how: ended.how,
                at_boottime_ns,
            };
            self.push(&event);
        }
    }

    fn tell_phase(&mut self) {
        let Some(session) = &mut self.session else { return };
        let phase = session.phase(clock::host_now());
        if session.told != phase {
            session.told = phase;
            let session = session.id();
            tracing::info!(%session, ?phase, "the lease");
            self.push(&Event::LeasePhase { session, phase });
            self.note_for_successor();
        }
    }

    fn note_for_successor(&self) {
        let Some(session) = &self.session else { return };
        let over = session.told == LeasePhase::Ended;
        self.setting.tasks.set_note((!over).then(|| session.note()));
    }

    /// The controller asked for a release: while no agent is there to do it, the guard stops what is exclusive.
    fn tend_release(&mut self) {
        let now = clock::host_now();
        let agent_present = self.clients.values().any(Client::is_agent);
        let Some(session) = &mut self.session else { return };
        if session.release && !agent_present && session.phase(now) <= LeasePhase::Valid {
            session.lease.end(now);
        }
    }

    fn fence_predecessor(&self) {
        let Some(note) = self.predecessor.as_ref().filter(|_| self.session.is_none()) else { return };
        for target in &note.targets {
            self.socket.send(&note.fenced, *target);
        }
    }

    fn is_over(&mut self) -> bool {
        let Some(asked) = self.stopping else { return false };
        let now = clock::host_now();
        if !self.setting.tasks.running().is_empty() {
            return false;
        }
        if let Some(session) = &mut self.session {
            session.lease.end(now);
            if session.phase(now) != LeasePhase::Ended {
                return false;
            }
        }
        self.answer(asked, Ok(Reply::Ok));
        true
    }

    fn push(&mut self, event: &Event) {
        for client in self.clients.values().filter(|client| client.wants_events) {
            client.send(&GuardFrame::Event(event.clone()));
        }
    }

    fn answer(&self, asked: Asked, outcome: Result<Reply, muster_guard::protocol::Refusal>) {
        let outcome = match outcome {
            Ok(reply) => Outcome::Done(reply),
            Err(refusal) => Outcome::Refused(refusal),
        };
        if let Some(client) = self.clients.get(&asked.client) {
            client.send(&GuardFrame::Reply { id: asked.request, outcome });
        }
    }

    fn hear_client(&mut self, heard: Heard) {
        match heard {
            Heard::Gone(number) => {
                self.clients.remove(&number);
            }
            Heard::Request(asked, request) => match self.obey(*request, asked) {
                Ok(Some(reply)) => self.answer(asked, Ok(reply)),
                Ok(None) => {}
                Err(refusal) => self.answer(asked, Err(refusal)),
            },
        }
    }
}

/// The world's time, as the simulated kernel counts it.
fn world_ns() -> u64 {
    crate::kernel::world_ns()
}

/// The `Fenced` of a session, sealed.
fn sealed_fenced(fenced: Fenced, key: &SessionKey) -> Vec<u8> {
    let mut buffer = [0; DATAGRAM_BYTES_MAX];
    let length = datagram::encode_from_guard(&FromGuard::Fenced(fenced), key, &mut buffer);
    buffer[..length].to_vec()
}
