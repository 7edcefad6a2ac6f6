//! What agents ask, and what the guard answers: the rules of the real one (LEASES.md R10, R11).

use muster::clock;
use muster_core::id::{SessionId, SlotId, TaskName};
use muster_core::time::HostInstant;
use muster_guard::key::SessionKey;
use muster_guard::protocol::{
    Binding, ClientRole, Enforcement, Event, ExitHow, Hello, InventoryEntry, LeasePhase, LeaseStatus,
    PROTOCOL_HIGHEST, Prepared, Refusal, Reply, Request, SessionGrant, StartTask, TaskReport, TaskState,
    Welcome,
};

use super::clients::Asked;
use super::{Guard, Session, world_ns};
use crate::mutant::Mutant;
use crate::tasks::Running;

const MS: u64 = 1_000_000;
/// How long a service takes to stop in order.
const STOPS_WITHIN_MS: u64 = 30;
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// A reply now, or `None` when it comes later.
type Answer = Result<Option<Reply>, Refusal>;

impl Guard {
    pub(super) fn obey(&mut self, request: Request, asked: Asked) -> Answer {
        let done = |()| Some(Reply::Ok);
        match request {
            Request::Hello(hello) => Ok(Some(self.welcome(&hello, asked))),
            Request::PrepareSession => self.prepare().map(Some),
            Request::OpenSession(grant) => self.open_session(grant).map(done),
            Request::CloseSession { session } => self.close_session(session).map(done),
            Request::StartTask(order) => self.start_task(*order).map(Some),
            Request::StopTask { slot, task, grace_ms } => self.stop_task(&slot, &task, grace_ms).map(done),
            Request::Signal { slot, task, .. } => self.alive(&slot, Some(&task)).map(|_| done(())),
            Request::Revoke { slot, generation } => {
                let revoked = self.revoked.entry(slot.clone()).or_default();
                *revoked = generation.max(*revoked);
                self.kill_slot(&slot);
                self.revoking.push((slot, asked));
                self.answer_revokes();
                Ok(None)
            }
            Request::ForgetSlot { slot } => {
                if let Ok(number) = self.alive(&slot, None) {
                    return Err(Refusal::SlotBusy { running: self.reports[&number].generation });
                }
                self.reports.retain(|_, report| report.slot != slot);
                Ok(Some(Reply::Ok))
            }
            Request::ListTasks => Ok(Some(Reply::Tasks(self.reports.values().cloned().collect()))),
            Request::RunCheck { slot, task, .. } => {
                self.alive(&slot, Some(&task))?;
                Ok(Some(Reply::Checked { how: Some(ExitHow::Code(0)) }))
            }
            Request::LeaseStatus => Ok(Some(Reply::Lease(self.lease_status(clock::host_now())))),
            Request::StopGuard { grace_ms } => {
                self.stopping = Some(asked);
                let numbers: Vec<u64> = self.setting.tasks.running().into_keys().collect();
                for number in numbers {
                    self.end_task(number, grace_ms);
                }
                Ok(None)
            }
            // Nothing in a run asks for these.
            Request::SetPrimary { .. } | Request::SetQuorumLossPolicy { .. } | Request::Reload { .. } => {
                Err(Refusal::UnknownRequest { reason: "not simulated".to_owned() })
            }
        }
    }

    fn welcome(&mut self, hello: &Hello, asked: Asked) -> Reply {
        for (number, client) in &mut self.clients {
            if *number == asked.client {
                (client.role, client.wants_events) = (Some(hello.role), hello.events);
            } else if hello.role == ClientRole::Agent && client.is_agent() {
                client.role = Some(ClientRole::Observer);
            }
        }
        Reply::Welcome(Welcome {
            version: PROTOCOL_HIGHEST,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            guard_boot: self.boot,
            enforcement: Enforcement::Kernel,
            lease: self.lease_status(clock::host_now()),
            tasks: self.reports.values().cloned().collect(),
        })
    }

    fn prepare(&mut self) -> Result<Reply, Refusal> {
        if self.stopping.is_some() {
            return Err(Refusal::Stopping);
        }
        let key = match &self.prepared {
            Some(key) => key.to_hex(),
            None => {
                let key = SessionKey::random().expect("the simulated kernel has randomness");
                let digits = key.to_hex();
                self.prepared = Some(key);
                digits
            }
        };
        let mut inventory: Vec<InventoryEntry> = Vec::new();
        for task in self.setting.tasks.running().into_values() {
            if !inventory.iter().any(|entry| entry.slot == task.slot) {
                let exclusive = task.binding == Binding::Exclusive;
                inventory.push(InventoryEntry { slot: task.slot, generation: task.generation, exclusive });
            }
        }
        Ok(Reply::Prepared(Prepared {
            guard_boot: self.boot,
            key,
            enforcement: Enforcement::Kernel,
            inventory,
        }))
    }

    fn open_session(&mut self, grant: SessionGrant) -> Result<(), Refusal> {
        let bad = |reason: &str| Err(Refusal::BadGrant { reason: reason.to_owned() });
        let wanted = grant.grant.tenure.session;
        if self.stopping.is_some() {
            return Err(Refusal::Stopping);
        }
        if grant.guard_boot != self.boot {
            return Err(Refusal::WrongBoot { boot: self.boot });
        }
        let now = clock::host_now();
        if let Some(held) = &mut self.session {
            let (id, phase) = (held.id(), held.phase(now));
            if id == wanted {
                return Ok(());
            }
            if wanted < id {
                return bad("it is older than the guard's session");
            }
            if phase < LeasePhase::Lapsed {
                held.lease.end(now);
                self.tend();
                return Err(Refusal::SessionEnding { session: id });
            }
        }
        let Some(key) = self.prepared.take() else { return bad("no key was prepared for it") };
        tracing::info!(session = %wanted, "opened");
        self.setting.tasks.disarm();
        self.session = Some(Session::new(now, grant, key));
        self.predecessor = None;
        self.tend();
        Ok(())
    }

    fn close_session(&mut self, session: SessionId) -> Result<(), Refusal> {
        let held = self.session.as_ref().map(Session::id);
        let Some(open) = self.session.as_mut().filter(|_| held == Some(session)) else {
            return Err(Refusal::WrongSession { held });
        };
        open.lease.end(clock::host_now());
        self.tend();
        Ok(())
    }

    fn start_task(&mut self, order: StartTask) -> Result<Reply, Refusal> {
        if self.stopping.is_some() {
            return Err(Refusal::Stopping);
        }
        let revoked = self.revoked.get(&order.slot).filter(|revoked| order.generation <= **revoked);
        if let Some(revoked) = revoked {
            return Err(Refusal::GenerationRevoked { revoked: *revoked });
        }
        let in_the_way = self.setting.tasks.running().into_values().find(|task| {
            task.slot == order.slot && (task.task == order.task || task.generation != order.generation)
        });
        if let Some(task) = in_the_way {
            return Err(Refusal::SlotBusy { running: task.generation });
        }
        if order.binding == Binding::Exclusive || order.stop_on_quorum_loss {
            self.check_lease(order.session)?;
        }
        let running = Running {
            slot: order.slot.clone(),
            task: order.task.clone(),
            generation: order.generation,
            session: order.session,
            binding: order.binding,
            ends_with_lease: order.binding == Binding::Exclusive || order.stop_on_quorum_loss,
            ending: None,
        };
        self.reports.retain(|_, report| report.slot != order.slot || report.task != order.task);
        let number = self.setting.tasks.start(world_ns(), running);
        let pid = i32::try_from(number).unwrap_or(i32::MAX);
        let report = TaskReport {
            slot: order.slot.clone(),
            task: order.task.clone(),
            generation: order.generation,
            binding: order.binding,
            primary: false,
            enforcement: Enforcement::Kernel,
            state: TaskState::Running { pid },
            log_dropped_bytes: 0,
        };
        self.reports.insert(number, report);
        let (slot, generation, task) = (order.slot, order.generation, order.task);
        self.push(&Event::TaskStarted { slot, generation, task, pid });
        Ok(Reply::Started { pid, notes: Vec::new() })
    }

    /// R10: under the guard's own session, with a valid lease; the timer is armed before the task starts (R4).
    fn check_lease(&mut self, session: SessionId) -> Result<(), Refusal> {
        let now = clock::host_now();
        let held = self.session.as_ref().map(Session::id);
        if self.setting.mutant.is_some_and(Mutant::starts_without_lease) {
            return Ok(());
        }
        let fired = self.setting.tasks.timer_fired();
        let Some(open) = self.session.as_mut().filter(|_| !fired) else { return Err(Refusal::NoValidLease) };
        if !open.lease.may_start(now) {
            return Err(Refusal::NoValidLease);
        }
        if held != Some(session) {
            return Err(Refusal::WrongSession { held });
        }
        if let Some(timer_ns) = open.lease.timer_boottime_ns(now)
            && !self.setting.mutant.is_some_and(Mutant::spares_tasks)
        {
            self.setting.tasks.arm(timer_ns, open.lease.deadline());
        }
        Ok(())
    }

    /// The number of a task that may still run.
    fn alive(&self, slot: &SlotId, task: Option<&TaskName>) -> Result<u64, Refusal> {
        let running = self.setting.tasks.running();
        let found =
            running.iter().find(|(_, known)| known.slot == *slot && task.is_none_or(|t| known.task == *t));
        found.map(|(number, _)| *number).ok_or(Refusal::NoSuchTask)
    }

    fn stop_task(&mut self, slot: &SlotId, task: &TaskName, grace_ms: u64) -> Result<(), Refusal> {
        let number = self.alive(slot, Some(task))?;
        self.end_task(number, grace_ms);
        Ok(())
    }

    fn end_task(&mut self, number: u64, grace_ms: u64) {
        let how = if grace_ms == 0 { ExitHow::Signal(SIGKILL) } else { ExitHow::Signal(SIGTERM) };
        let takes_ms = grace_ms.clamp(1, 1 + number % STOPS_WITHIN_MS);
        self.setting.tasks.end(number, world_ns() + takes_ms * MS, how);
        if let Some(report) = self.reports.get_mut(&number)
            && let TaskState::Running { pid } = report.state
        {
            report.state = TaskState::Stopping { pid };
        }
    }

    fn kill_slot(&mut self, slot: &SlotId) {
        let running = self.setting.tasks.running();
        for (number, _) in running.iter().filter(|(_, task)| task.slot == *slot) {
            self.end_task(*number, 0);
        }
    }

    /// R10: a revoke is answered only when nothing of the slot runs any more.
    pub(super) fn answer_revokes(&mut self) {
        if self.revoking.is_empty() {
            return;
        }
        let running = self.setting.tasks.running();
        let waiting = std::mem::take(&mut self.revoking);
        for (slot, asked) in waiting {
            if running.values().any(|task| task.slot == slot) {
                self.revoking.push((slot, asked));
            } else {
                self.answer(asked, Ok(Reply::Ok));
            }
        }
    }

    fn lease_status(&mut self, now: HostInstant) -> LeaseStatus {
        let Some(session) = &mut self.session else { return LeaseStatus::default() };
        LeaseStatus {
            session: Some(session.id()),
            phase: session.phase(now),
            remaining_ms: u64::try_from(session.lease.remaining(now).as_millis()).unwrap_or(u64::MAX),
            membership: session.lease.list().membership.id,
            sent: session.sent,
            acked: session.acked,
            rejected: session.rejected,
            realtime: true,
            ..LeaseStatus::default()
        }
    }
}
