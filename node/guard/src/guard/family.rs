//! Starting tasks, hearing their inits, and noticing their ends.

use std::os::fd::AsFd;

use muster_core::time::HostInstant;
use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use super::Guard;
use super::shims::ShimKind;
use super::tasks::{Asked, Task};
use crate::clock;
use crate::handle::Handle;
use crate::init::{child, identity};
use crate::kernel;
use crate::launch::{Isolation, Launch};
use crate::link::{self, FromInit, ToInit, ToShim};
use crate::protocol::{Binding, Event, ExitHow, LeasePhase, Refusal, Reply, StartTask, TaskState};
use crate::report::report;
use crate::stray;

/// How long an init may take to kill the rest of its task and to write out its log, in nanoseconds.
const INIT_GRACE_NS: u64 = 2_000_000_000;

impl Guard {
    /// Begins to start a task whose start was found to be allowed. Its end, or its exec, answers the request.
    pub(super) fn launch(&mut self, order: StartTask, asked: Asked) -> Result<(), Refusal> {
        let now = clock::now();
        let failed = |step: &'static str| {
            move |errno: Errno| Refusal::StartFailed { step: step.to_owned(), errno: errno as i32 }
        };
        let leased = order.binding == Binding::Exclusive;
        // Asked only for what is armed with it: the session remembers it.
        let session = self.session.as_mut().filter(|_| leased);
        let timer_ns = session.and_then(|session| session.timer_boottime_ns(now));
        let cgroup = self.cgroups.make();
        let launch = Launch {
            isolation: self.isolation,
            spec: order.spec.clone(),
            ordinary: self.ordinary,
            cgroup: cgroup.as_ref().map(|cgroup| cgroup.path.to_string_lossy().into_owned()),
        };
        let file = launch.to_file().map_err(|_| failed("write down the task")(Errno::ENOMEM))?;
        let (ours, theirs) = link::pair().map_err(failed("make a wire"))?;
        link::with_credentials(&ours).map_err(failed("make a wire"))?;
        let spawn = ToShim::Spawn { isolation: self.isolation, leased };
        let kind = ShimKind::of(order.binding, &order.slot);
        let shim = self.shims.get_or_fork(&kind).map_err(failed("fork the shim"))?;
        if leased {
            // Armed before the task starts: messages on the wire keep their order.
            let timer_ns = timer_ns.ok_or(Refusal::NoValidLease)?;
            if shim.arm(timer_ns, false).map_err(failed("arm the kernel timer"))? {
                self.tasks.wake_inits(shim.number);
            }
        }
        link::send_fds(shim.wire.as_fd(), &spawn.encode(), &[file.as_fd(), theirs.as_fd()])
            .map_err(failed("reach the shim"))?;
        let shim = shim.number;
        let ours: Handle = ours.into();
        // What an earlier task of this name left is its report, which this one replaces.
        self.tasks.all.retain(|task| !task.is(&order.slot, &order.task));
        self.tasks.made += 1;
        let mut order = order;
        // Its init has the environment now: what may be secret is not kept here, nor handed to a next binary.
        order.spec.env.clear();
        let mut task = Task::new(self.tasks.made, order, shim, ours, asked);
        task.cgroup = cgroup;
        self.tasks.all.push(task);
        self.note_for_successor();
        Ok(())
    }

    /// Reads what an init says.
    pub(super) fn hear_init(&mut self, number: u64) {
        loop {
            let Some(task) = self.tasks.numbered(number) else { return };
            let Some(wire) = &task.wire else { return };
            match link::receive(wire, false) {
                Ok(Some(received)) => {
                    if let Some(message) = received.parse() {
                        self.heed_init(number, message, received.pid);
                    }
                }
                Err(Errno::EAGAIN) => return,
                Err(Errno::EINTR) => {}
                Ok(None) | Err(_) => {
                    task.wire = None;
                    // Without a hello nothing of the user's ever ran; otherwise the pidfd tells the end.
                    if task.pidfd.is_none() {
                        self.task_ended(number);
                    }
                    return;
                }
            }
        }
    }

    fn heed_init(&mut self, number: u64, message: FromInit, pid: Option<nix::unistd::Pid>) {
        match message {
            FromInit::Hello { notes, takes_deadline } => {
                self.init_is_ready(number, notes, takes_deadline, pid);
            }
            FromInit::Lapsed => self.init_has_killed(number),
            FromInit::Started => self.task_has_started(number),
            FromInit::Checked { id, how } => self.check_is_answered(number, id, how),
            FromInit::Exec => {
                if let Some(task) = self.tasks.numbered(number) {
                    task.pid = pid.map_or(0, nix::unistd::Pid::as_raw);
                }
            }
            FromInit::Failed { step, errno } => {
                if let Some(task) = self.tasks.numbered(number) {
                    task.refusal = Some(refusal_of(&task.order, step, errno));
                }
            }
            FromInit::Exited { how, log_dropped_bytes } => {
                if let Some(task) = self.tasks.numbered(number) {
                    task.how = Some(how);
                    task.log_dropped_bytes = log_dropped_bytes;
                }
            }
        }
    }

    fn task_has_started(&mut self, number: u64) {
        let Some(task) = self.tasks.numbered(number) else { return };
        let pid = task.pid;
        if task.state == TaskState::Starting {
            task.state = if task.doomed { TaskState::Stopping { pid } } else { TaskState::Running { pid } };
        }
        let reply = Reply::Started { pid, notes: task.notes.clone() };
        let asked = task.started_for.take();
        let (slot, generation) = (task.order.slot.clone(), task.order.generation);
        let event = Event::TaskStarted { slot, generation, task: task.order.task.clone(), pid };
        self.answer(asked, Ok(reply));
        self.push(&event);
    }

    fn check_is_answered(&mut self, number: u64, id: u64, how: Option<ExitHow>) {
        let Some(task) = self.tasks.numbered(number) else { return };
        if let Some(index) = task.checks.iter().position(|(check, _)| *check == id) {
            let (_, asked) = task.checks.swap_remove(index);
            self.answer(Some(asked), Ok(Reply::Checked { how }));
        }
    }

    /// The init stands: note it for a successor, look at the rules once more, then let it start the command.
    fn init_is_ready(
        &mut self,
        number: u64,
        notes: Vec<String>,
        takes_deadline: bool,
        pid: Option<nix::unistd::Pid>,
    ) {
        let now = clock::now();
        let may_start = self.may_start_bound(now);
        let Some(task) = self.tasks.numbered(number) else { return };
        task.notes = notes;
        task.takes_deadline = takes_deadline;
        if pid.is_none_or(|pid| task.note_init(pid).is_err()) {
            // It is gone already; without `Go` it never starts anything.
            task.wire = None;
            return self.task_ended(number);
        }
        if task.ends_with_lease() && !may_start {
            task.refusal = Some(Refusal::NoValidLease);
            task.doomed = true;
        }
        if !task.doomed && takes_deadline && self.shims.show_deadline(task).is_err() {
            task.doomed = true;
        }
        if task.doomed {
            return task.kill(now.boottime_ns);
        }
        self.note_for_successor();
        if let Some(task) = self.tasks.all.iter().find(|task| task.number == number) {
            // A wire that hung up means that it is dying: its pidfd tells the end.
            let _dying = task.tell(&ToInit::Go);
        }
    }

    /// An init killed its task at the deadline, just before the kernel's timer: that is irrevocable (R4), whatever was
    /// heard from the voters meanwhile.
    fn init_has_killed(&mut self, number: u64) {
        let bound = self.tasks.all.iter().any(|task| task.number == number && task.is_bound());
        if bound && let Some(session) = &mut self.session {
            let now = clock::now();
            session.lease.end(now);
            self.keep_lease(now);
        }
    }

    /// Whether a task that ends with the lease may be started at `now` (R10).
    pub(super) fn may_start_bound(&mut self, now: HostInstant) -> bool {
        self.session.as_mut().is_some_and(|session| session.lease.may_start(now))
    }

    /// Its init has ended, and with it the PID namespace.
    pub(super) fn task_ended(&mut self, number: u64) {
        // Its last words first; this may find the wire closed, which changes nothing any more.
        if self.tasks.all.iter().any(|task| task.number == number && task.wire.is_some()) {
            self.hear_init(number);
        }
        if self.isolation == Isolation::Nothing && !self.kill_strays() {
            return;
        }
        let Some(index) = self.tasks.all.iter().position(|task| task.number == number) else { return };
        let task = &mut self.tasks.all[index];
        if !task.is_alive() {
            return;
        }
        let how = task.how.unwrap_or(ExitHow::Signal(nix::sys::signal::Signal::SIGKILL as i32));
        let at_boottime_ns = clock::now().boottime_ns;
        task.state = TaskState::Exited { how, at_boottime_ns };
        (task.wire, task.pidfd) = (None, None);
        if let Some(cgroup) = task.cgroup.take() {
            cgroup.kill();
            cgroup.remove();
        }
        let checks = std::mem::take(&mut task.checks);
        let asked = task.started_for.take();
        let refusal = task.refusal.take();
        let (slot, generation) = (task.order.slot.clone(), task.order.generation);
        let event =
            Event::TaskExited { slot, generation, task: task.order.task.clone(), how, at_boottime_ns };
        for (_, asked) in checks {
            self.answer(Some(asked), Err(Refusal::NoSuchTask));
        }
        if asked.is_some() {
            // It never ran, so there is nothing to report about it later.
            self.tasks.all.remove(index);
            self.answer(asked, Err(refusal.unwrap_or(Refusal::KilledAtStart)));
        } else {
            self.push(&event);
        }
        self.note_for_successor();
        self.answer_revokes();
    }

    /// Kills orders that are due, and answers those who wait.
    pub(super) fn tend_tasks(&mut self, now: HostInstant) {
        for task in self.tasks.all.iter_mut().filter(|task| task.is_alive()) {
            if task.kill_at_ns.is_some_and(|at| at <= now.boottime_ns) {
                task.kill_at_ns = None;
                task.kill_init_at_ns = Some(now.boottime_ns + INIT_GRACE_NS);
                // The init writes out the log before it ends; if it can't be told, it is killed below.
                let _told_later = task.tell(&ToInit::Kill);
            }
            if task.kill_init_at_ns.is_some_and(|at| at <= now.boottime_ns) {
                task.kill_init();
            }
        }
        for number in
            self.tasks.all.iter().filter(|task| task.is_lost()).map(|task| task.number).collect::<Vec<_>>()
        {
            self.task_ended(number);
        }
        let tasks = &self.tasks;
        self.shims.all.retain_mut(|shim| {
            let has_tasks = tasks.all.iter().any(|task| task.is_alive() && task.shim == shim.number);
            !shim.dead || has_tasks || !shim.is_gone()
        });
        self.tend_release(now);
        self.tend_reload(now);
    }

    pub(super) fn answer_revokes(&mut self) {
        let mut index = 0;
        while let Some((slot, asked)) = self.tasks.revoking.get(index).cloned() {
            if self.tasks.runs(&slot) {
                index += 1;
            } else {
                self.tasks.revoking.remove(index);
                self.answer(Some(asked), Ok(Reply::Ok));
            }
        }
    }

    pub(super) fn answer(&mut self, asked: Option<Asked>, outcome: Result<Reply, Refusal>) {
        let Some(asked) = asked else { return };
        // A client that went away gets its answer by asking anew.
        if let Some(client) = self.clients.iter_mut().find(|client| client.number == asked.client) {
            client.answer(asked.request, outcome);
        }
    }

    /// Reaps. Inits are the shims' children; they come here only when their shim died before them.
    pub(super) fn reap(&mut self) {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => self.reaped(pid, code == 0),
                Ok(WaitStatus::Signaled(pid, _, _)) => self.reaped(pid, false),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                Ok(_) | Err(_) => {}
            }
        }
    }

    fn reaped(&mut self, pid: nix::unistd::Pid, well: bool) {
        self.handover_tried(pid, well);
        let Some(bound) = self.shims.note_reaped(pid) else { return };
        let now = clock::now();
        let phase = self.session.as_mut().map(|session| session.phase(now));
        report!("shim {pid} ended, lease phase {:?}", phase.unwrap_or(LeasePhase::None));
        if let (true, Some(session)) = (bound, &mut self.session) {
            session.end_if_timer_fired(now);
        }
    }

    /// A shim confirms that its timer is armed, or is gone.
    pub(super) fn hear_shim(&mut self, number: u64) {
        let Some(shim) = self.shims.all.iter_mut().find(|shim| shim.number == number) else { return };
        match link::receive(&shim.wire, false) {
            Ok(Some(_)) => {
                let asked = shim.confirm_to.take().map(|(client, request)| Asked { client, request });
                self.answer(asked, Ok(Reply::Ok));
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Ok(None) | Err(_) => {
                let asked = shim.confirm_to.take().map(|(client, request)| Asked { client, request });
                // Its wire hung up, so it is as good as dead: make it so, and reap it.
                shim.kill();
                let pidfd = kernel::pidfd_open(shim.pid());
                if let Ok(pidfd) = pidfd {
                    let _dying = kernel::wait_readable(pidfd.as_fd(), 5);
                }
                self.reap();
                self.answer(asked, Err(Refusal::NoSuchTask));
            }
        }
    }

    /// Without namespaces: kills what lost its parent and so became the guard's child. True when none is left.
    pub(super) fn kill_strays(&mut self) -> bool {
        let mut known: Vec<nix::unistd::Pid> =
            self.shims.all.iter().filter(|shim| !shim.dead).map(super::shims::Shim::pid).collect();
        known.extend(self.reload.as_ref().map(super::Reload::pid));
        known.extend(self.options.log_writer.map(nix::unistd::Pid::from_raw));
        stray::kill_descendants(&known)
    }
}

fn refusal_of(order: &StartTask, step: String, errno: i32) -> Refusal {
    let spec = &order.spec;
    let name = |value: &Option<String>| value.clone().unwrap_or_default();
    match (step.as_str(), Errno::from_raw(errno)) {
        (child::EXECUTE, Errno::ENOENT | Errno::ENOTDIR) => {
            Refusal::CommandNotFound { path: spec.argv[0].clone() }
        }
        (child::EXECUTE, Errno::EACCES | Errno::ENOEXEC) => {
            Refusal::CommandNotExecutable { path: spec.argv[0].clone() }
        }
        (child::ENTER_DIRECTORY, _) => Refusal::NoSuchDirectory { path: name(&spec.directory) },
        (identity::FIND_USER, Errno::ENOENT) => Refusal::NoSuchUser { user: name(&spec.user) },
        (identity::FIND_GROUP, Errno::ENOENT) => Refusal::NoSuchGroup { group: name(&spec.group) },
        (identity::BECOME_USER, Errno::EPERM | Errno::EINVAL) => {
            Refusal::MayNotBecome { user: name(&spec.user) }
        }
        _ => Refusal::StartFailed { step, errno },
    }
}
