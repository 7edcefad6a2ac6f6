//! A guard without processes: it speaks the protocol on a real socket and keeps the rules of R10.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use muster_core::id::{BootId, Generation, SessionId, SlotId, TaskName};
use muster_guard::protocol::codec::{FrameDecoder, encode_frame};
use muster_guard::protocol::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

const FRAMES_MAX: usize = 1024;

type TaskKey = (SlotId, TaskName);

#[derive(Default)]
struct Inner {
    boot: BootId,
    lease: LeaseStatus,
    tasks: BTreeMap<TaskKey, TaskReport>,
    revoked: BTreeMap<SlotId, Generation>,
    /// Starts of these tasks are refused.
    broken: BTreeMap<TaskName, Refusal>,
    /// These tasks ignore their stop signal.
    stubborn: Vec<TaskName>,
    check: Option<ExitHow>,
    started: Vec<StartTask>,
    stops: Vec<TaskName>,
    clock_ns: u64,
    out: Option<mpsc::Sender<GuardFrame>>,
}

pub struct FakeGuard {
    inner: Arc<Mutex<Inner>>,
    socket: PathBuf,
    listener: Mutex<Option<AbortHandle>>,
}

impl FakeGuard {
    pub fn start(run_dir: &Path) -> Self {
        let guard =
            Self { inner: Arc::default(), socket: run_dir.join("guard.sock"), listener: Mutex::default() };
        guard.listen(BootId(1));
        guard
    }

    fn listen(&self, boot: BootId) {
        self.inner.lock().unwrap().boot = boot;
        let listener = UnixListener::bind(&self.socket).unwrap();
        let inner = Arc::clone(&self.inner);
        let accept = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, Arc::clone(&inner)));
            }
        });
        *self.listener.lock().unwrap() = Some(accept.abort_handle());
    }

    /// The guard crashes: connections and tasks go with it. A new one starts.
    pub fn restart(&self) {
        if let Some(listener) = self.listener.lock().unwrap().take() {
            listener.abort();
        }
        std::fs::remove_file(&self.socket).unwrap();
        let boot = BootId(self.inner.lock().unwrap().boot.0 + 1);
        let started = std::mem::take(&mut self.inner.lock().unwrap().started);
        *self.inner.lock().unwrap() = Inner { started, ..Inner::default() };
        self.listen(boot);
    }

    pub fn break_task(&self, task: &str, refusal: Refusal) {
        self.inner.lock().unwrap().broken.insert(TaskName::new(task).unwrap(), refusal);
    }

    pub fn make_stubborn(&self, task: &str) {
        self.inner.lock().unwrap().stubborn.push(TaskName::new(task).unwrap());
    }

    pub fn set_check(&self, how: ExitHow) {
        self.inner.lock().unwrap().check = Some(how);
    }

    pub fn exit(&self, slot: &SlotId, task: &str, how: ExitHow) {
        self.inner.lock().unwrap().exit(&(slot.clone(), TaskName::new(task).unwrap()), how);
    }

    /// The lease ends: everything exclusive is killed.
    pub fn lapse(&self) {
        let mut inner = self.inner.lock().unwrap();
        inner.set_phase(LeasePhase::Killing);
        let exclusive: Vec<_> = inner
            .tasks
            .iter()
            .filter(|(_, t)| t.binding == Binding::Exclusive)
            .map(|(k, _)| k.clone())
            .collect();
        exclusive.iter().for_each(|key| inner.exit(key, ExitHow::Signal(9)));
        inner.set_phase(LeasePhase::Lapsed);
    }

    pub fn started(&self) -> Vec<StartTask> {
        self.inner.lock().unwrap().started.clone()
    }

    /// How often a task was started.
    pub fn starts(&self, task: &str) -> usize {
        self.inner.lock().unwrap().started.iter().filter(|start| start.task.as_str() == task).count()
    }

    pub fn stops(&self) -> Vec<String> {
        self.inner.lock().unwrap().stops.iter().map(ToString::to_string).collect()
    }

    pub fn is_running(&self, slot: &SlotId, task: &str) -> bool {
        let key = (slot.clone(), TaskName::new(task).unwrap());
        self.inner
            .lock()
            .unwrap()
            .tasks
            .get(&key)
            .is_some_and(|t| matches!(t.state, TaskState::Running { .. }))
    }

    pub fn revoked(&self, slot: &SlotId) -> Option<Generation> {
        self.inner.lock().unwrap().revoked.get(slot).copied()
    }

    pub fn session(&self) -> Option<SessionId> {
        self.inner.lock().unwrap().lease.session
    }

    pub fn has_agent(&self) -> bool {
        self.inner.lock().unwrap().out.as_ref().is_some_and(|out| !out.is_closed())
    }

    /// As if an agent before had started it.
    pub fn adopt(&self, slot: &SlotId, task: &str, generation: Generation) {
        let task = TaskName::new(task).unwrap();
        let mut inner = self.inner.lock().unwrap();
        inner.run(slot, &task, generation, Binding::Free);
    }
}

impl Inner {
    fn tell(&self, event: Event) {
        if let Some(out) = &self.out {
            out.try_send(GuardFrame::Event(event)).ok();
        }
    }

    fn set_phase(&mut self, phase: LeasePhase) {
        self.lease.phase = phase;
        let session = self.lease.session.unwrap();
        self.tell(Event::LeasePhase { session, phase });
    }

    fn run(&mut self, slot: &SlotId, task: &TaskName, generation: Generation, binding: Binding) -> i32 {
        self.clock_ns += 1;
        let pid = i32::try_from(self.clock_ns).unwrap();
        let report = TaskReport {
            slot: slot.clone(),
            task: task.clone(),
            generation,
            binding,
            primary: false,
            enforcement: Enforcement::Kernel,
            state: TaskState::Running { pid },
            log_dropped_bytes: 0,
        };
        self.tasks.insert((slot.clone(), task.clone()), report);
        pid
    }

    fn exit(&mut self, key: &TaskKey, how: ExitHow) {
        self.clock_ns += 1;
        let at_boottime_ns = self.clock_ns;
        let Some(report) = self.tasks.get_mut(key) else { return };
        if matches!(report.state, TaskState::Exited { .. }) {
            return;
        }
        report.state = TaskState::Exited { how, at_boottime_ns };
        let generation = report.generation;
        let (slot, task) = key.clone();
        self.tell(Event::TaskExited { slot, generation, task, how, at_boottime_ns });
    }

    fn is_alive(&self, key: &TaskKey) -> Option<Generation> {
        let alive = |t: &&TaskReport| !matches!(t.state, TaskState::Exited { .. });
        self.tasks.get(key).filter(alive).map(|t| t.generation)
    }

    fn answer(&mut self, request: Request) -> Result<Reply, Refusal> {
        match request {
            Request::Hello(_) => Ok(Reply::Welcome(Welcome {
                version: PROTOCOL_HIGHEST,
                program: "fake".to_owned(),
                guard_boot: self.boot,
                enforcement: Enforcement::Kernel,
                lease: self.lease.clone(),
                tasks: self.tasks.values().cloned().collect(),
            })),
            Request::PrepareSession => Ok(Reply::Prepared(Prepared {
                guard_boot: self.boot,
                key: "ab".repeat(32),
                enforcement: Enforcement::Kernel,
                inventory: self.inventory(),
            })),
            Request::OpenSession(grant) => {
                if grant.guard_boot != self.boot {
                    return Err(Refusal::WrongBoot { boot: self.boot });
                }
                self.lease.session = Some(grant.grant.tenure.session);
                self.set_phase(LeasePhase::Waiting);
                self.set_phase(LeasePhase::Valid);
                Ok(Reply::Ok)
            }
            Request::StartTask(start) => self.start(*start),
            Request::StopTask { slot, task, grace_ms } => {
                let key = (slot, task);
                self.is_alive(&key).ok_or(Refusal::NoSuchTask)?;
                self.stops.push(key.1.clone());
                if grace_ms == 0 {
                    self.exit(&key, ExitHow::Signal(9));
                } else if !self.stubborn.contains(&key.1) {
                    self.exit(&key, ExitHow::Code(0));
                }
                Ok(Reply::Ok)
            }
            Request::Revoke { slot, generation } => {
                let of_slot: Vec<_> = self.tasks.keys().filter(|(s, _)| *s == slot).cloned().collect();
                of_slot.iter().for_each(|key| self.exit(key, ExitHow::Signal(9)));
                let revoked = self.revoked.entry(slot).or_default();
                *revoked = generation.max(*revoked);
                Ok(Reply::Ok)
            }
            Request::ForgetSlot { slot } => {
                self.tasks.retain(|(s, _), _| *s != slot);
                Ok(Reply::Ok)
            }
            Request::RunCheck { .. } => Ok(Reply::Checked { how: self.check }),
            Request::LeaseStatus => Ok(Reply::Lease(self.lease.clone())),
            other => Err(Refusal::UnknownRequest { reason: format!("{other:?}") }),
        }
    }

    fn inventory(&self) -> Vec<InventoryEntry> {
        let alive = self.tasks.iter().filter(|(key, _)| self.is_alive(key).is_some());
        let entry = |(key, report): (&TaskKey, &TaskReport)| InventoryEntry {
            slot: key.0.clone(),
            generation: report.generation,
            exclusive: report.binding == Binding::Exclusive,
        };
        alive.map(entry).collect()
    }

    fn start(&mut self, start: StartTask) -> Result<Reply, Refusal> {
        if let Some(revoked) = self.revoked.get(&start.slot).filter(|revoked| start.generation <= **revoked) {
            return Err(Refusal::GenerationRevoked { revoked: *revoked });
        }
        if start.binding == Binding::Exclusive && self.lease.phase != LeasePhase::Valid {
            return Err(Refusal::NoValidLease);
        }
        if start.binding == Binding::Exclusive && self.lease.session != Some(start.session) {
            return Err(Refusal::WrongSession { held: self.lease.session });
        }
        if let Some(running) = self.is_alive(&(start.slot.clone(), start.task.clone())) {
            return Err(Refusal::SlotBusy { running });
        }
        self.started.push(start.clone());
        if let Some(refusal) = self.broken.get(&start.task) {
            return Err(refusal.clone());
        }
        let pid = self.run(&start.slot, &start.task, start.generation, start.binding);
        let StartTask { slot, task, generation, .. } = start;
        self.tell(Event::TaskStarted { slot, generation, task, pid });
        Ok(Reply::Started { pid, notes: Vec::new() })
    }
}

async fn serve(mut stream: UnixStream, inner: Arc<Mutex<Inner>>) {
    let (out, mut frames) = mpsc::channel(FRAMES_MAX);
    let mut decoder = FrameDecoder::new();
    let mut bytes = [0; 4096];
    loop {
        tokio::select! {
            read = stream.read(&mut bytes) => match read {
                Ok(0) | Err(_) => return,
                Ok(count) => {
                    decoder.push(&bytes[..count]);
                    while let Some(RequestFrame { id, request }) = decoder.next().unwrap() {
                        let mut inner = inner.lock().unwrap();
                        let is_hello = matches!(request, Request::Hello(_));
                        let outcome = match inner.answer(request) {
                            Ok(reply) => Outcome::Done(reply),
                            Err(refusal) => Outcome::Refused(refusal),
                        };
                        out.try_send(GuardFrame::Reply { id, outcome }).unwrap();
                        if is_hello {
                            inner.out = Some(out.clone());
                        }
                    }
                }
            },
            Some(frame) = frames.recv() => {
                if stream.write_all(&encode_frame(&frame).unwrap()).await.is_err() {
                    return;
                }
            }
        }
    }
}
