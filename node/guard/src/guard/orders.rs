//! What clients ask, and what the guard answers.

use muster_core::id::{SessionId, SlotId, TaskName};

use super::client::Incoming;
use super::tasks::Asked;
use super::{Guard, PreparedKey, Session};
use crate::clock;
use crate::key::SessionKey;
use crate::link::ToInit;
use crate::protocol::{
    Binding, ClientRole, Hello, LeasePhase, PROTOCOL_HIGHEST, PROTOCOL_LOWEST, Prepared, Refusal, Reply,
    Request, SessionGrant, StartTask, TaskReport, TaskState, Welcome,
};
use crate::report::report;

/// A reply now, or `None` when it comes later.
type Answer = Result<Option<Reply>, Refusal>;

/// Health checks of one task that may be under way.
const CHECKS_MAX: usize = 8;

impl Guard {
    pub(super) fn hear_client(&mut self, number: u64) {
        let Some(client) = self.clients.iter_mut().find(|client| client.number == number) else { return };
        client.flush();
        for Incoming { id, request } in client.read() {
            let asked = Asked { client: number, request: id };
            let answer = request.and_then(|request| self.obey(request, asked));
            match answer {
                Ok(Some(reply)) => self.answer(Some(asked), Ok(reply)),
                Ok(None) => {}
                Err(refusal) => self.answer(Some(asked), Err(refusal)),
            }
        }
    }

    fn obey(&mut self, request: Request, asked: Asked) -> Answer {
        self.may_ask(&request, asked)?;
        let done = |()| Some(Reply::Ok);
        match request {
            Request::Hello(hello) => self.welcome(&hello, asked).map(Some),
            Request::PrepareSession => self.prepare().map(Some),
            Request::OpenSession(grant) => self.open_session(grant).map(done),
            Request::CloseSession { session } => self.close_session(session).map(done),
            Request::StartTask(order) => self.start_task(*order, asked).map(|()| None),
            Request::StopTask { slot, task, grace_ms } => {
                let now_ns = clock::now().boottime_ns;
                self.tasks.find(&slot, &task)?.stop(now_ns, grace_ms);
                Ok(Some(Reply::Ok))
            }
            Request::Signal { slot, task, signal } => {
                check_signal("signal", Some(signal))?;
                let task = self.tasks.find(&slot, &task)?;
                let has_begun = !matches!(task.state, TaskState::Starting);
                let told = has_begun && task.tell(&ToInit::Signal { signal }).is_ok();
                if told { Ok(Some(Reply::Ok)) } else { Err(Refusal::NoSuchTask) }
            }
            Request::Revoke { slot, generation } => {
                self.tasks.revoke(clock::now().boottime_ns, &slot, generation)?;
                self.tasks.revoking.push((slot, asked));
                self.answer_revokes();
                Ok(None)
            }
            Request::ForgetSlot { slot } => self.forget(&slot).map(done),
            Request::ListTasks => Ok(Some(Reply::Tasks(self.reports()))),
            Request::RunCheck { slot, task, argv, timeout_ms } => {
                self.run_check(&slot, &task, argv, timeout_ms, asked).map(|()| None)
            }
            Request::LeaseStatus => Ok(Some(Reply::Lease(self.lease_status(clock::now())))),
            Request::SetPrimary { slot, session, primary } => {
                self.set_primary(&slot, session, primary, asked).map(|()| None)
            }
            Request::SetQuorumLossPolicy { slot, stop } => {
                let tasks = self.tasks.all.iter_mut().filter(|task| task.order.slot == slot);
                tasks.for_each(|task| task.order.stop_on_quorum_loss = stop);
                Ok(Some(Reply::Ok))
            }
            Request::StopGuard { grace_ms } => {
                self.begin_to_stop(Some(grace_ms), Some(asked));
                Ok(None)
            }
            Request::Reload { exe } => self.begin_reload(exe.into(), Some(asked)).map(|()| None),
        }
    }

    fn may_ask(&self, request: &Request, asked: Asked) -> Result<(), Refusal> {
        let client = self.clients.iter().find(|client| client.number == asked.client);
        match (request, client.and_then(|client| client.role)) {
            (Request::Hello(_), _) => Ok(()),
            (_, None) => Err(Refusal::NoHello),
            (Request::LeaseStatus | Request::ListTasks, Some(_)) | (_, Some(ClientRole::Agent)) => Ok(()),
            (_, Some(ClientRole::Observer)) => Err(Refusal::NotAgent),
        }
    }

    fn welcome(&mut self, hello: &Hello, asked: Asked) -> Result<Reply, Refusal> {
        let version = hello.highest.min(PROTOCOL_HIGHEST);
        if version < hello.lowest.max(PROTOCOL_LOWEST) {
            return Err(Refusal::Version { lowest: PROTOCOL_LOWEST, highest: PROTOCOL_HIGHEST });
        }
        for client in &mut self.clients {
            if client.number == asked.client {
                client.role = Some(hello.role);
                client.wants_events = hello.events;
            } else if hello.role == ClientRole::Agent && client.is_agent() {
                // The newest agent wins: two of them would undo each other's work.
                client.role = Some(ClientRole::Observer);
            }
        }
        report!("{:?} connected: {}", hello.role, hello.name);
        Ok(Reply::Welcome(Welcome {
            version,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            guard_boot: self.boot,
            enforcement: self.enforcement(),
            lease: self.lease_status(clock::now()),
            tasks: self.reports(),
        }))
    }

    fn prepare(&mut self) -> Result<Reply, Refusal> {
        // The cluster would open a session that nobody can hold any more.
        if self.stopping.is_some() {
            return Err(Refusal::Stopping);
        }
        if self.prepared.is_none() {
            let key = SessionKey::random().map_err(|_| Refusal::StartFailed {
                step: "get randomness for a key".to_owned(),
                errno: nix::errno::Errno::EAGAIN as i32,
            })?;
            self.prepared = Some(PreparedKey(key));
        }
        let key = self.prepared.as_ref().map(|prepared| prepared.0.to_hex()).unwrap_or_default();
        Ok(Reply::Prepared(Prepared {
            guard_boot: self.boot,
            key,
            enforcement: self.enforcement(),
            inventory: self.tasks.inventory(),
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
        if !grant.grant.list.is_well_formed() {
            return bad("the voter list is not well-formed");
        }
        let (ttl_ms, kill_ms) = (grant.grant.ttl_ms, grant.grant.kill_budget_ms);
        if grant.grant.heartbeat_ms == 0 || ttl_ms <= kill_ms.saturating_add(grant.grant.heartbeat_ms) {
            return bad("the times do not fit together");
        }
        let now = clock::now();
        if let Some(held) = &mut self.session {
            let (id, phase) = (held.id(), held.phase(now));
            if id == wanted {
                return Ok(());
            }
            if wanted < id {
                return bad("it is older than the guard's session");
            }
            if phase < LeasePhase::Lapsed {
                self.end_session();
                return Err(Refusal::SessionEnding { session: id });
            }
        }
        let Some(PreparedKey(key)) = self.prepared.take() else { return bad("no key was prepared for it") };
        report!("session {wanted} opened, TTL {ttl_ms} ms");
        self.session = Some(Session::new(now, grant, key));
        self.succession.settle();
        self.keep_lease(now);
        Ok(())
    }

    fn close_session(&mut self, session: SessionId) -> Result<(), Refusal> {
        let held = self.session.as_ref().map(Session::id);
        if held != Some(session) {
            return Err(Refusal::WrongSession { held });
        }
        self.end_session();
        Ok(())
    }

    fn start_task(&mut self, order: StartTask, asked: Asked) -> Result<(), Refusal> {
        if self.stopping.is_some() {
            return Err(Refusal::Stopping);
        }
        check_spec(&order)?;
        self.tasks.may_start(&order)?;
        if order.binding == Binding::Exclusive || order.stop_on_quorum_loss {
            self.check_lease(order.session)?;
        }
        self.launch(order, asked)
    }

    /// R10: under the guard's own session, with a valid lease.
    fn check_lease(&mut self, session: SessionId) -> Result<(), Refusal> {
        let held = self.session.as_ref().map(Session::id);
        if !self.may_start_bound(clock::now()) {
            return Err(Refusal::NoValidLease);
        }
        if held == Some(session) { Ok(()) } else { Err(Refusal::WrongSession { held }) }
    }

    fn forget(&mut self, slot: &SlotId) -> Result<(), Refusal> {
        let alive = self.tasks.all.iter().find(|task| task.order.slot == *slot && task.is_alive());
        if let Some(task) = alive {
            return Err(Refusal::SlotBusy { running: task.order.generation });
        }
        self.tasks.all.retain(|task| task.order.slot != *slot);
        Ok(())
    }

    fn run_check(
        &mut self,
        slot: &SlotId,
        name: &TaskName,
        argv: Vec<String>,
        timeout_ms: u64,
        asked: Asked,
    ) -> Result<(), Refusal> {
        check_argv("check command", &argv)?;
        self.tasks.made += 1;
        let id = self.tasks.made;
        let task = self.tasks.find(slot, name)?;
        if !task.is_running() {
            return Err(Refusal::NoSuchTask);
        }
        if task.checks.len() >= CHECKS_MAX {
            return Err(Refusal::TooMany { what: "checks of one task".to_owned(), limit: CHECKS_MAX as u64 });
        }
        task.tell(&ToInit::Check { id, argv, timeout_ms }).map_err(|errno| match errno {
            nix::errno::Errno::EMSGSIZE => bad_spec("check command", "it is too long"),
            _ => Refusal::NoSuchTask,
        })?;
        task.checks.push((id, asked));
        Ok(())
    }

    /// R13: binds a promotable slot to the lease, or frees it. The shim's confirmation answers the request.
    fn set_primary(
        &mut self,
        slot: &SlotId,
        session: SessionId,
        primary: bool,
        asked: Asked,
    ) -> Result<(), Refusal> {
        if primary {
            self.check_lease(session)?;
        }
        let tasks = self.tasks.all.iter().filter(|task| task.order.slot == *slot && task.is_alive());
        if tasks.clone().any(|task| task.order.binding != Binding::Promotable) {
            return Err(Refusal::NotPromotable);
        }
        if tasks.count() == 0 {
            return Err(Refusal::NoSuchTask);
        }
        let now = clock::now();
        let killing = self.session.as_mut().is_some_and(|session| session.phase(now) == LeasePhase::Killing);
        if killing && self.shims.of_slot(slot).is_some_and(|shim| shim.is_bound()) {
            // What has begun is irrevocable (R4).
            return Err(Refusal::NoValidLease);
        }
        let timer_ns = self.session.as_mut().and_then(|session| session.timer_boottime_ns(now));
        let timer_ns = if primary { timer_ns.ok_or(Refusal::NoValidLease)? } else { 0 };
        let shim = self.shims.of_slot(slot).ok_or(Refusal::NoSuchTask)?;
        if shim.confirm_to.is_some() {
            return Err(Refusal::TooMany {
                what: "changes of one slot's role at a time".to_owned(),
                limit: 1,
            });
        }
        let nearer = shim.arm(timer_ns, true).map_err(|_| Refusal::NoSuchTask)?;
        shim.set_primary(primary);
        shim.confirm_to = Some((asked.client, asked.request));
        let number = shim.number;
        if nearer {
            self.tasks.wake_inits(number);
        }
        let tasks = self.tasks.all.iter_mut().filter(|task| task.order.slot == *slot && task.is_alive());
        tasks.for_each(|task| task.primary = primary);
        Ok(())
    }

    fn reports(&self) -> Vec<TaskReport> {
        let enforcement = self.enforcement();
        let report = |task: &super::tasks::Task| TaskReport {
            slot: task.order.slot.clone(),
            task: task.order.task.clone(),
            generation: task.order.generation,
            binding: task.order.binding,
            primary: task.primary,
            enforcement,
            state: task.state,
            log_dropped_bytes: task.log_dropped_bytes,
        };
        self.tasks.all.iter().map(report).collect()
    }
}

fn bad_spec(field: &str, reason: &str) -> Refusal {
    Refusal::BadSpec { field: field.to_owned(), reason: reason.to_owned() }
}

fn check_argv(field: &str, argv: &[String]) -> Result<(), Refusal> {
    match argv.first() {
        None => Err(bad_spec(field, "it is empty")),
        Some(name) if name.is_empty() => Err(bad_spec(field, "its name is empty")),
        Some(_) if argv.iter().any(|argument| argument.contains('\0')) => {
            Err(bad_spec(field, "it contains a NUL byte"))
        }
        Some(_) => Ok(()),
    }
}

fn check_signal(field: &str, signal: Option<i32>) -> Result<(), Refusal> {
    match signal.map(nix::sys::signal::Signal::try_from) {
        Some(Err(_)) => Err(bad_spec(field, "there is no signal of this number")),
        Some(Ok(_)) | None => Ok(()),
    }
}

fn check_spec(order: &StartTask) -> Result<(), Refusal> {
    let spec = &order.spec;
    check_argv("command", &spec.argv)?;
    for (name, value) in &spec.env {
        if name.is_empty() || name.contains(['=', '\0']) || value.as_str().contains('\0') {
            return Err(bad_spec(
                "environment",
                &format!("the variable '{}' is malformed", name.escape_debug()),
            ));
        }
    }
    check_signal("stop signal", spec.stop_signal)?;
    if spec
        .log
        .as_ref()
        .is_some_and(|log| !log.path.starts_with('/') || log.path.contains('\0') || log.keep > 1000)
    {
        return Err(bad_spec("log", "it needs an absolute path, and keeps at most 1000 files"));
    }
    Ok(())
}
