//! The agent's loop: takes in what the state, the guard, the health checks and finished steps tell, asks each
//! instance that it concerns for its next step, and has the steps done beside the loop.
//!
//! ```text
//!   state ─┐                                    ┌─▶ driver / guard ─┐
//!   guard ─┤                                    │                   │
//!  health ─┼─▶ loop ─▶ Instance::next ─▶ Step ──┤                   │
//!   timer ─┤                                    └─▶ Reporter        │
//!    done ─┴────────────────────────────────────────────────────────┘
//! ```
//!
//! Nothing in the loop waits for the guard, the disk or the cluster, so a step begins as soon as its cause is known.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use muster_core::id::{Generation, NodeId, NodeName, Revision, SlotId};
use muster_core::state::State;
use muster_guard::protocol::{Event, Request, TaskReport, Welcome};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::guard_link::{GuardLink, LinkEvent};
use super::health::{HealthChecks, HealthReport};
use super::instance::{Instance, LocalInstance, Next, Step, StepResult, Wanted};
use super::report::Reporter;
use super::view::GuardView;
use crate::clock;
use crate::driver::{Driver, DriverError, TaskId};

/// Changes of health that the loop has not looked at; watchers wait when it is full.
pub(super) const HEALTH_REPORTS_MAX: usize = 256;
/// The guard answers a revocation only when nothing of the slot runs; a task stuck in the kernel delays that.
const REVOKE_TIME: Duration = Duration::from_secs(30);
const FORGET_TIME: Duration = Duration::from_secs(5);

/// What the loop works with.
pub(super) struct Reconciler {
    pub node: NodeId,
    pub node_name: NodeName,
    pub state: watch::Receiver<Arc<State>>,
    pub events: mpsc::Receiver<LinkEvent>,
    pub health_reports: mpsc::Receiver<HealthReport>,
    pub guard: GuardLink,
    pub driver: Arc<dyn Driver>,
    pub health: HealthChecks,
    pub reporter: Reporter,
    pub view: watch::Sender<GuardView>,
    pub local: watch::Sender<Arc<Vec<LocalInstance>>>,
    pub instances: BTreeMap<SlotId, Instance>,
    pub steps: JoinSet<(SlotId, Generation, StepResult)>,
    pub seen_topology: Option<Revision>,
}

impl Reconciler {
    /// Runs until the state or the link has no more writer.
    pub async fn run(mut self) {
        let mut concerned = self.take_state();
        loop {
            self.advance(&concerned);
            concerned.clear();
            let wake = self.instances.values().filter_map(Instance::wake).min();
            tokio::select! {
                biased;
                event = self.events.recv() => match event {
                    Some(event) => concerned = self.take_link_event(event),
                    None => return,
                },
                Some(done) = self.steps.join_next() => match done {
                    Ok((slot, generation, result)) => {
                        self.take_result(&slot, generation, result);
                        concerned.insert(slot);
                    }
                    Err(error) => tracing::error!("a step ended abnormally: {error}"),
                },
                changed = self.state.changed() => match changed {
                    Ok(()) => concerned = self.take_state(),
                    Err(_) => return,
                },
                Some(report) = self.health_reports.recv() => {
                    if let Some(instance) = self.instances.get_mut(&report.id.slot) {
                        instance.take_health(&report, clock::monotonic());
                        concerned.insert(report.id.slot);
                    }
                }
                () = sleep_until(wake) => {
                    let now = clock::monotonic();
                    let due = self.instances.iter().filter(|(_, i)| i.wake().is_some_and(|at| at <= now));
                    concerned = due.map(|(slot, _)| slot.clone()).collect();
                }
            }
        }
    }

    /// Compares the placements on this node with what each instance was told before.
    fn take_state(&mut self) -> BTreeSet<SlotId> {
        let state = Arc::clone(&self.state.borrow_and_update());
        if self.seen_topology == Some(state.topology) {
            return BTreeSet::new();
        }
        self.seen_topology = Some(state.topology);
        let placed: BTreeMap<_, _> = state.placements_on(self.node).collect();
        let boot = self.view.borrow().boot;
        for slot in placed.keys() {
            if !self.instances.contains_key(slot) {
                self.instances.insert((*slot).clone(), Instance::new((*slot).clone(), boot));
            }
        }
        let mut concerned = BTreeSet::new();
        for (slot, instance) in &mut self.instances {
            if instance.take_state(Wanted::new(&state, slot, placed.get(slot).copied())) {
                concerned.insert(slot.clone());
            }
        }
        concerned
    }

    fn take_link_event(&mut self, event: LinkEvent) -> BTreeSet<SlotId> {
        match event {
            LinkEvent::Up(welcome) => self.take_welcome(&welcome),
            LinkEvent::Down => {
                self.view.send_modify(|view| view.boot = None);
                self.instances.values_mut().for_each(Instance::take_guard_lost);
                BTreeSet::new()
            }
            LinkEvent::Event(event) => self.take_guard_event(&event),
        }
    }

    fn take_welcome(&mut self, welcome: &Welcome) -> BTreeSet<SlotId> {
        self.view.send_replace(GuardView::of(welcome));
        let mut by_slot: BTreeMap<SlotId, Vec<TaskReport>> = BTreeMap::new();
        for report in &welcome.tasks {
            by_slot.entry(report.slot.clone()).or_default().push(report.clone());
        }
        for slot in self.instances.keys() {
            by_slot.entry(slot.clone()).or_default();
        }
        let state = Arc::clone(&self.state.borrow());
        let now = clock::monotonic();
        for (slot, reports) in &by_slot {
            let instance = self.instances.entry(slot.clone()).or_insert_with(|| {
                let mut unknown = Instance::new(slot.clone(), None);
                unknown.take_state(Wanted::new(&state, slot, None));
                unknown
            });
            instance.take_tasks(welcome.guard_boot, reports, now);
        }
        by_slot.into_keys().collect()
    }

    fn take_guard_event(&mut self, event: &Event) -> BTreeSet<SlotId> {
        match event {
            Event::TaskStarted { slot, .. } | Event::TaskExited { slot, .. } => {
                let Some(instance) = self.instances.get_mut(slot) else { return BTreeSet::new() };
                instance.take_event(event, &self.view.borrow(), clock::monotonic());
                BTreeSet::from([slot.clone()])
            }
            Event::LeasePhase { .. } => {
                let changed = self.view.send_if_modified(|view| view.take(event));
                // Instances wait for a lease; whoever waits for something else is not disturbed by a look.
                if changed { self.instances.keys().cloned().collect() } else { BTreeSet::new() }
            }
            Event::ReleaseRequested { session } => {
                tracing::warn!(%session, "the cluster wants this host to end its session");
                BTreeSet::new()
            }
        }
    }

    fn take_result(&mut self, slot: &SlotId, generation: Generation, result: StepResult) {
        if let Some(instance) = self.instances.get_mut(slot) {
            instance.take_result(generation, result, clock::monotonic());
        }
    }

    /// Lets each of these instances take its next step, and tells what changed by that.
    fn advance(&mut self, concerned: &BTreeSet<SlotId>) {
        if concerned.is_empty() {
            return;
        }
        let view = self.view.borrow().clone();
        for slot in concerned {
            let Some(instance) = self.instances.get_mut(slot) else { continue };
            let next = instance.next(clock::monotonic(), &view, &self.node_name);
            instance.watch_health(&mut self.health);
            if let Some(report) = instance.report(self.node) {
                self.reporter.report(report);
            }
            match next {
                Next::Wait => {}
                Next::Do(generation, step) => self.begin(slot.clone(), generation, step),
                Next::Gone => {
                    self.instances.remove(slot);
                }
            }
        }
        let local = Arc::new(self.instances.values().filter_map(Instance::local).collect::<Vec<_>>());
        self.local.send_if_modified(|old| {
            let changed = **old != *local;
            *old = local;
            changed
        });
    }

    fn begin(&mut self, slot: SlotId, generation: Generation, step: Step) {
        let (driver, guard) = (Arc::clone(&self.driver), self.guard.clone());
        self.steps.spawn(async move {
            let result = perform(&slot, generation, step, driver.as_ref(), &guard).await;
            (slot, generation, result)
        });
    }
}

async fn perform(
    slot: &SlotId,
    generation: Generation,
    step: Step,
    driver: &dyn Driver,
    guard: &GuardLink,
) -> StepResult {
    match step {
        Step::Start(order) => {
            let task = order.id.task.clone();
            let result = driver.start(*order).await;
            if matches!(result, Err(DriverError::Busy(_))) {
                // Something runs that this agent knows nothing of: have the guard tell everything anew.
                guard.reconnect().await;
            }
            StepResult::Start(task, result)
        }
        Step::Stop { task, grace } => {
            let id = TaskId { slot: slot.clone(), task: task.clone() };
            StepResult::Stop(task, driver.stop(id, grace).await)
        }
        Step::Kill { task } => {
            let id = TaskId { slot: slot.clone(), task: task.clone() };
            StepResult::Stop(task, driver.kill(id).await)
        }
        Step::Revoke => {
            let result = guard.order(Request::Revoke { slot: slot.clone(), generation }, REVOKE_TIME).await;
            if result.is_ok() {
                let (guard, slot) = (guard.clone(), slot.clone());
                // Only tidies up: the guard drops the reports of tasks that ended.
                tokio::spawn(
                    async move { guard.order(Request::ForgetSlot { slot }, FORGET_TIME).await.ok() },
                );
            }
            StepResult::Revoke(result)
        }
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
