use std::collections::BTreeMap;
use std::time::Duration;

use muster_core::id::{NodeName, Revision, SessionId};
use muster_core::spec::{Check, Driver, ExecSpec, HealthSpec, Mode, ServiceSpec, TaskSpec};
use muster_core::state::slot::Observed;
use muster_core::time::Stamp;
use muster_guard::protocol::{self as guard, Binding, Enforcement, ExitHow, LeasePhase};

use super::*;

const BOOT: BootId = BootId(3);
const PLACED_AT: Generation = Generation(40);
const SESSION: SessionId = SessionId(30);

fn declared(command: &str) -> ServiceSpec {
    let health = HealthSpec {
        check: Check::Exec(vec!["/bin/ping-me".to_owned()]),
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        failures: 3,
    };
    let exec = ExecSpec { command: vec![command.to_owned()], env: BTreeMap::new(), ..ExecSpec::default() };
    let task =
        TaskSpec { name: TaskName::new("server").unwrap(), driver: Driver::Exec(exec), health: Some(health) };
    ServiceSpec::with_defaults(slot().service, Mode::Exclusive, vec![task])
}

fn slot() -> SlotId {
    SlotId { service: muster_core::id::ServiceName::new("db").unwrap(), index: 0 }
}

/// What the guard has: the task, which an agent before this one started.
fn running() -> TaskReport {
    TaskReport {
        slot: slot(),
        task: TaskName::new("server").unwrap(),
        generation: PLACED_AT,
        binding: Binding::Exclusive,
        primary: false,
        enforcement: Enforcement::Kernel,
        state: guard::TaskState::Running { pid: 99 },
        log_dropped_bytes: 0,
    }
}

fn placed(spec: ServiceSpec) -> Wanted {
    let spec = std::sync::Arc::new(spec);
    let recorded = Observed { state: InstanceState::Running, since: Stamp(1), restarts: 2, message: None };
    let placed = Placed {
        generation: PLACED_AT,
        session: Some(SESSION),
        is_revoked: false,
        spec: spec.clone(),
        recorded: Some(recorded),
    };
    Wanted { judged_at: Revision(50), placed: Some(placed), declared: Some(spec) }
}

/// With a lease under the session of the placement.
fn leased() -> GuardView {
    GuardView { boot: Some(BOOT), session: Some(SESSION), phase: LeasePhase::Valid, ..GuardView::default() }
}

/// An agent that starts hears its guard at once, but the cluster later, on a worker for example; and the declaration may have
/// changed since the old copy of the state that it has.
fn guard_heard_before(the_state: Wanted) -> Instance {
    let now = Instant::now();
    let mut instance = Instance::new(slot(), None);
    instance.take_state(the_state);
    instance.take_tasks(BOOT, &[running()], now);
    let node = NodeName::new("n1").unwrap();
    assert!(matches!(instance.next(now, &leased(), &node), Next::Wait), "a state may come that wants it");
    assert!(instance.take_state(placed(declared("/bin/server"))));
    instance
}

#[test]
fn what_the_guard_runs_goes_by_its_declaration_once_that_is_known() {
    let old = declared("/bin/old-server");
    let knows_an_older_one =
        Wanted { judged_at: Revision(20), placed: None, declared: Some(std::sync::Arc::new(old)) };
    for known in [Wanted::default(), knows_an_older_one] {
        let mut instance = guard_heard_before(known);
        let (now, node) = (Instant::now(), NodeName::new("n1").unwrap());
        assert!(matches!(instance.next(now, &leased(), &node), Next::Wait), "it runs");
        let life = instance.life.as_ref().unwrap();
        assert_eq!(*life.spec, declared("/bin/server"), "with its health check");
        assert_eq!(life.cycle.tasks(), [TaskState::Running { healthy: Some(true) }]);
        assert_eq!((life.cycle.restart_count(), life.tasks[0].pid), (2, Some(99)));

        let (slot, task) = (slot(), TaskName::new("server").unwrap());
        let how = ExitHow::Code(1);
        let exited = Event::TaskExited { slot, generation: PLACED_AT, task, how, at_boottime_ns: 7 };
        instance.take_event(&exited, &leased(), now);
        let later = now + Duration::from_secs(60);
        let Next::Do(PLACED_AT, Step::Start(order)) = instance.next(later, &leased(), &node) else {
            panic!("it is started again")
        };
        assert_eq!(order.spec, declared("/bin/server").tasks[0]);
    }
}
