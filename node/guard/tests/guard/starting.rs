//! Starting tasks: what they get, what is refused, and what their logs and checks do.

use libtest_mimic::Trial;
use muster_core::id::Generation;
use muster_guard::protocol::{
    Binding, ClientRole, Event, ExitHow, Limits, LogSpec, Refusal, Reply, Request, TaskSpec, TaskState,
};

use crate::harness::{Host, TestResult, eventually, shell, slot, task_name, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a_task_runs_and_its_exit_is_told", false, a_task_runs_and_its_exit_is_told),
        trial("what_can_not_start_says_why", false, what_can_not_start_says_why),
    ]
}

fn a_task_runs_and_its_exit_is_told() -> TestResult {
    let mut host = Host::start()?;
    let order = host.order("web", 3, Binding::Free, shell("exit 7"));
    host.start_task(order)?;
    let event = host.wait_for_event(|event| matches!(event, Event::TaskExited { .. }))?;
    assert!(matches!(event, Event::TaskExited { how: ExitHow::Code(7), .. }), "{event:?}");
    let Reply::Tasks(tasks) = host.call(Request::ListTasks)? else { return Err("no tasks".into()) };
    assert!(matches!(tasks[0].state, TaskState::Exited { how: ExitHow::Code(7), .. }));
    host.call(Request::ForgetSlot { slot: slot("web") })?;
    assert_eq!(host.call(Request::ListTasks)?, Reply::Tasks(Vec::new()));
    Ok(())
}

fn what_can_not_start_says_why() -> TestResult {
    let mut host = Host::start()?;
    let mut refused = |spec: TaskSpec| {
        let order = host.order("web", 3, Binding::Free, spec);
        host.refusal(order)
    };
    let command = |name: &str| TaskSpec { argv: vec![name.to_owned()], ..TaskSpec::default() };
    let path = "/nowhere/at/all".to_owned();
    assert_eq!(refused(command(&path))?, Refusal::CommandNotFound { path: path.clone() });
    assert_eq!(
        refused(command("no-such-command"))?,
        Refusal::CommandNotFound { path: "no-such-command".into() }
    );
    assert_eq!(
        refused(command("/etc/passwd"))?,
        Refusal::CommandNotExecutable { path: "/etc/passwd".into() }
    );
    let user = Some("nobody-at-all".to_owned());
    assert_eq!(
        refused(TaskSpec { user, ..shell("true") })?,
        Refusal::NoSuchUser { user: "nobody-at-all".into() }
    );
    let directory = Some(path.clone());
    assert_eq!(refused(TaskSpec { directory, ..shell("true") })?, Refusal::NoSuchDirectory { path });
    assert!(matches!(refused(TaskSpec::default())?, Refusal::BadSpec { .. }));
    assert_eq!(host.call(Request::ListTasks)?, Reply::Tasks(Vec::new()), "what never ran is not reported");
    Ok(())
}
