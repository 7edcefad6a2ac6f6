//! The life of an instance under a fake host: whatever happens, it converges, keeps the order of its tasks, and
//! restarts and gives up as declared.

use std::time::Duration;

use muster_core::id::TaskName;
use muster_core::lifecycle::{Action, Desired, Exit, Happened, Instance, Report, TaskState};
use muster_core::spec::{Check, HealthSpec, Mode, ServiceSpec, TaskSpec};
use muster_core::state::slot::InstanceState;
use proptest::prelude::*;

use super::world::spec;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A service of so many tasks; those in `checked` have a health check.
fn service(tasks: usize, checked: usize) -> ServiceSpec {
    let mut spec = spec("app", Mode::Exclusive);
    let task = spec.tasks[0].clone();
    let health = || HealthSpec {
        check: Check::Tcp("127.0.0.1:1".to_owned()),
        interval: ms(100),
        timeout: ms(100),
        failures: 1,
    };
    let named = |i: usize| TaskSpec {
        name: TaskName::new(&format!("t{i}")).unwrap(),
        health: (checked >> i & 1 == 1).then(health),
        ..task.clone()
    };
    spec.tasks = (0..tasks).map(named).collect();
    spec.restart.attempts = 3;
    spec.restart.window = Duration::from_secs(60);
    spec.restart.backoff_min = ms(1000);
    spec.restart.backoff_max = ms(3000);
    spec.stop_timeout = ms(500);
    spec
}

/// A host that does what it is told; a stubborn task ends only when it is killed, a deaf one at the third kill.
struct Host {
    instance: Instance,
    spec: ServiceSpec,
    now: Duration,
    run: bool,
    patience: u8,
    kills: Vec<u8>,
    log: Vec<Action>,
    reports: Vec<Report>,
}

impl Host {
    fn new(spec: ServiceSpec) -> Self {
        let tasks = spec.tasks.len();
        Self {
            instance: Instance::new(tasks),
            spec,
            now: ms(0),
            run: true,
            patience: 0,
            kills: vec![0; tasks],
            log: Vec::new(),
            reports: Vec::new(),
        }
    }

    fn tell(&mut self, happened: Happened) {
        self.instance.on(happened, &self.spec, self.now);
    }

    /// Carries out one action; false when there is nothing to do before something happens.
    fn turn(&mut self) -> bool {
        let action = self.instance.step(Desired { spec: &self.spec, run: self.run }, self.now);
        self.log.push(action.clone());
        match action {
            Action::StartTask(task) => {
                let all_before = self.instance.tasks()[..task].iter().enumerate().all(|(i, t)| {
                    let checked = self.spec.tasks[i].health.is_some();
                    matches!(t, TaskState::Running { healthy } if !checked || *healthy == Some(true))
                });
                assert!(all_before, "task {task} was started before those that it needs");
                assert!(self.instance.tasks()[task..].iter().all(|t| *t == TaskState::Stopped));
                self.kills[task] = 0;
                self.tell(Happened::Starting(task));
                self.tell(Happened::Started(task));
                if self.spec.tasks[task].health.is_some() {
                    self.tell(Happened::Health(task, true));
                }
            }
            Action::StopTask { task, grace } => {
                let later = &self.instance.tasks()[task + 1..];
                assert!(later.iter().all(|t| *t == TaskState::Stopped), "tasks are stopped in reverse order");
                assert!(grace <= self.spec.stop_timeout);
                self.tell(Happened::StopAsked(task));
                if self.patience == 0 {
                    self.tell(Happened::Exited(task, Exit::Status(0)));
                }
            }
            Action::KillTask(task) => {
                self.kills[task] += 1;
                self.tell(Happened::KillSent(task));
                if self.kills[task] >= self.patience {
                    self.tell(Happened::Exited(task, Exit::Signal(9)));
                }
            }
            Action::Report(report) => {
                self.reports.push(report.clone());
                self.tell(Happened::Reported(report));
            }
            Action::WaitUntil(at) => {
                assert!(at > self.now, "it waits for the past");
                self.now = at;
            }
            Action::Idle | Action::Revoke | Action::GiveUp { .. } => return false,
        }
        true
    }

    /// Until nothing is left to do; answers the last action.
    fn settle(&mut self) -> Action {
        for _ in 0..500 {
            if !self.turn() {
                return self.log.last().unwrap().clone();
            }
        }
        panic!("it never comes to rest: {:?}", &self.log[self.log.len() - 20..]);
    }

    /// Whether a task has not answered yet, or was not checked yet.
    fn waits(&self) -> bool {
        let waits = |(task, spec): (&TaskState, &TaskSpec)| match task {
            TaskState::Starting => true,
            TaskState::Running { healthy } => spec.health.is_some() && healthy.is_none(),
            TaskState::Stopped | TaskState::Stopping { .. } => false,
        };
        self.instance.tasks().iter().zip(&self.spec.tasks).any(waits)
    }

    fn is_running(&self) -> bool {
        self.instance.tasks().iter().all(|t| matches!(t, TaskState::Running { .. }))
    }
}

#[derive(Clone, Debug)]
enum Event {
    Exit(usize, bool),
    Unhealthy(usize),
    Healthy(usize),
    Wait(u64),
    Run(bool),
    Patience(u8),
    Turns(u8),
    Stray(usize, u8),
}

fn events() -> impl Strategy<Value = Event> {
    let task = 0..5_usize;
    prop_oneof![
        (task.clone(), any::<bool>()).prop_map(|(t, s)| Event::Exit(t, s)),
        task.clone().prop_map(Event::Unhealthy),
        task.clone().prop_map(Event::Healthy),
        (0..90_000_u64).prop_map(Event::Wait),
        any::<bool>().prop_map(Event::Run),
        (0..4_u8).prop_map(Event::Patience),
        (0..12_u8).prop_map(Event::Turns),
        (task, 0..4_u8).prop_map(|(t, k)| Event::Stray(t, k)),
    ]
}

fn happen(host: &mut Host, event: &Event) {
    match *event {
        Event::Exit(task, by_signal) => {
            let exit = if by_signal { Exit::Signal(11) } else { Exit::Status(1) };
            host.tell(Happened::Exited(task, exit));
        }
        Event::Unhealthy(task) => host.tell(Happened::Health(task, false)),
        Event::Healthy(task) => host.tell(Happened::Health(task, true)),
        Event::Wait(time) => host.now += ms(time),
        Event::Run(run) => host.run = run,
        Event::Patience(patience) => host.patience = patience,
        Event::Turns(turns) => {
            for _ in 0..turns {
                if !host.turn() {
                    break;
                }
            }
        }
        // What cannot be is ignored.
        Event::Stray(task, 0) => host.tell(Happened::KillSent(task)),
        Event::Stray(task, 1) => host.tell(Happened::StopAsked(task)),
        Event::Stray(task, 2) => host.tell(Happened::Started(task)),
        Event::Stray(task, _) => host.tell(Happened::Health(task, true)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_always_comes_to_rest(
        tasks in 1..5_usize, checked in 0..16_usize, script in proptest::collection::vec(events(), 0..40)
    ) {
        let mut host = Host::new(service(tasks, checked));
        for event in &script {
            happen(&mut host, event);
        }
        host.run = true;
        match host.settle() {
            Action::Idle => {
                prop_assert!(host.is_running() || host.waits(), "{:?}", host.instance);
            }
            Action::GiveUp { .. } => prop_assert!(host.instance.is_stopped()),
            other => prop_assert!(false, "it ended with {other:?}"),
        }
        host.run = false;
        prop_assert_eq!(host.settle(), Action::Revoke);
        prop_assert!(host.instance.is_stopped());
    }
}

#[test]
fn tasks_start_in_order_and_stop_in_reverse() {
    let mut host = Host::new(service(3, 0b010));
    assert_eq!(host.settle(), Action::Idle);
    assert_eq!(host.log[..3], [0, 1, 2].map(Action::StartTask));
    assert_eq!(host.reports.last().unwrap().state, InstanceState::Running);
    host.run = false;
    host.log.clear();
    assert_eq!(host.settle(), Action::Revoke);
    let stopped = host.log.iter().filter_map(|a| match a {
        Action::StopTask { task, .. } => Some(*task),
        _ => None,
    });
    assert_eq!(stopped.collect::<Vec<_>>(), [2, 1, 0]);
}

#[test]
fn the_first_restart_is_immediate_then_pauses_grow_then_it_gives_up() {
    let mut host = Host::new(service(1, 0));
    host.settle();
    let mut waits = Vec::new();
    for _ in 0..3 {
        let failed_at = host.now;
        host.tell(Happened::Exited(0, Exit::Status(1)));
        assert_eq!(host.settle(), Action::Idle);
        waits.push(host.now - failed_at);
    }
    assert_eq!(waits, [ms(0), ms(1000), ms(2000)]);
    assert_eq!(host.reports.last().unwrap().restarts, 3);
    host.tell(Happened::Exited(0, Exit::Signal(11)));
    let message = "task t0 was ended by signal 11, after 3 restarts here".to_owned();
    assert_eq!(host.settle(), Action::GiveUp { message });
}

#[test]
fn after_the_window_restarts_begin_anew() {
    let mut host = Host::new(service(1, 0));
    host.settle();
    for _ in 0..10 {
        host.now += Duration::from_secs(61);
        let failed_at = host.now;
        host.tell(Happened::Exited(0, Exit::Status(1)));
        assert_eq!(host.settle(), Action::Idle);
        assert_eq!(host.now, failed_at, "each is the first one of its window");
    }
}

#[test]
fn a_restart_acts_before_it_reports() {
    let mut host = Host::new(service(1, 0));
    host.settle();
    host.log.clear();
    host.tell(Happened::Exited(0, Exit::Status(1)));
    host.settle();
    assert_eq!(host.log[0], Action::StartTask(0));
}

#[test]
fn an_unhealthy_task_is_restarted_with_those_after_it() {
    let mut host = Host::new(service(3, 0b010));
    host.settle();
    host.log.clear();
    host.tell(Happened::Health(1, false));
    assert_eq!(host.settle(), Action::Idle);
    let touched: Vec<_> =
        host.log.iter().filter(|a| !matches!(a, Action::Report(_) | Action::Idle)).collect();
    let grace = host.spec.stop_timeout;
    assert_eq!(
        touched,
        [
            &Action::StopTask { task: 2, grace },
            &Action::StopTask { task: 1, grace },
            &Action::StartTask(1),
            &Action::StartTask(2)
        ]
    );
}

#[test]
fn what_does_not_stop_is_killed_and_killed_again() {
    let mut host = Host::new(service(1, 0));
    host.settle();
    (host.run, host.patience) = (false, 3);
    let asked_at = host.now;
    assert_eq!(host.settle(), Action::Revoke);
    assert_eq!(host.kills, [3]);
    assert_eq!(host.now - asked_at, ms(2500), "stop_timeout, then twice a second");
}

#[test]
fn a_program_that_cannot_be_started_is_a_failure_with_its_reason() {
    let spec = service(1, 0);
    let mut instance = Instance::new(1);
    instance.on(Happened::Starting(0), &spec, ms(0));
    instance.on(Happened::Exited(0, Exit::NotStarted("no such program".to_owned())), &spec, ms(1));
    let no_attempts =
        ServiceSpec { restart: muster_core::spec::RestartPolicy { attempts: 0, ..spec.restart }, ..spec };
    let message = "task t0 could not be started: no such program".to_owned();
    let action = instance.step(Desired { spec: &no_attempts, run: true }, ms(2));
    assert_eq!(action, Action::GiveUp { message });
}

#[test]
fn an_adopted_instance_goes_on_without_a_restart() {
    let spec = service(2, 0);
    let mut host = Host::new(spec);
    host.instance = Instance::adopted(vec![TaskState::Running { healthy: None }; 2], 1);
    assert_eq!(host.settle(), Action::Idle);
    assert!(host.log.iter().all(|a| matches!(a, Action::Report(_) | Action::Idle)));
    assert_eq!(host.reports.last().unwrap().restarts, 1);
}
