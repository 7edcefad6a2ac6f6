//! Starting tasks: what they get, what is refused, and what their logs and checks do.

use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use muster_core::id::{Generation, SessionId};
use muster_guard::client::ClientError;
use muster_guard::protocol::{
    Binding, ClientRole, Enforcement, Event, ExitHow, Limits, LogSpec, Refusal, Reply, Request, TaskSpec,
    TaskState,
};
use nix::sys::signal::Signal;

use crate::harness::{
    Host, NOBODY, TestResult, descendants, eventually, runs, shell, signal, slot, task_name, trial,
};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a_task_runs_and_its_exit_is_told", false, a_task_runs_and_its_exit_is_told),
        trial("what_can_not_start_says_why", false, what_can_not_start_says_why),
        trial("a_task_gets_what_its_spec_says", false, a_task_gets_what_its_spec_says),
        trial("a_task_runs_as_its_user", true, a_task_runs_as_its_user),
        trial("a_task_gets_ordinary_priority_back", true, a_task_gets_ordinary_priority_back),
        trial("an_init_has_the_priority_of_its_guard", false, an_init_has_the_priority_of_its_guard),
        trial(
            "exclusive_tasks_need_the_lease_of_their_session",
            false,
            exclusive_tasks_need_the_lease_of_their_session,
        ),
        trial(
            "revoked_generations_and_busy_slots_are_refused",
            false,
            revoked_generations_and_busy_slots_are_refused,
        ),
        trial(
            "a_signal_reaches_the_task_and_a_wrong_one_nobody",
            false,
            a_signal_reaches_the_task_and_a_wrong_one_nobody,
        ),
        trial("an_orderly_stop_ends_in_a_kill", false, an_orderly_stop_ends_in_a_kill),
        trial("a_stopped_process_for_checks_is_replaced", false, a_stopped_process_for_checks_is_replaced),
        trial("checks_run_inside_the_namespaces", false, checks_run_inside_the_namespaces),
        trial("logs_are_rotated", false, logs_are_rotated),
        trial("a_stalled_log_drops_and_never_blocks", false, a_stalled_log_drops_and_never_blocks),
        trial("a_killed_log_process_is_replaced", false, a_killed_log_process_is_replaced),
        trial("the_newest_agent_wins", false, the_newest_agent_wins),
        trial("an_unprivileged_guard_uses_user_namespaces", true, an_unprivileged_guard_uses_user_namespaces),
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

/// Runs a script to its end and returns what it wrote.
fn output_of(host: &mut Host, spec: TaskSpec) -> Result<String, libtest_mimic::Failed> {
    let path = host.path("data/logs/out.log");
    let log = LogSpec { path: path.display().to_string(), max_bytes: 1 << 20, keep: 1 };
    let order = host.order("out", 3, Binding::Free, TaskSpec { log: Some(log), ..spec });
    host.start_task(order)?;
    host.wait_for_event(|event| matches!(event, Event::TaskExited { .. }))?;
    Ok(std::fs::read_to_string(path)?)
}

fn a_task_gets_what_its_spec_says() -> TestResult {
    let mut host = Host::start()?;
    let script = "echo $A; pwd; ulimit -n; echo $$; grep SigBlk /proc/self/status; ls /proc/self/fd | wc -l";
    let spec = TaskSpec {
        env: [("A".to_owned(), "b c".into())].into(),
        directory: Some("/usr".to_owned()),
        limits: Limits { nofile: Some(123), ..Limits::default() },
        ..shell(script)
    };
    let output = output_of(&mut host, spec)?;
    let lines: Vec<&str> = output.lines().collect();
    // PID 1 is the init, PID 2 writes the log. No signal is blocked, and only the standard
    // descriptors (and the one that `ls` itself opens) are open.
    assert_eq!(lines, ["b c", "/usr", "123", "3", "SigBlk:\t0000000000000000", "4"], "{output}");
    Ok(())
}

fn a_task_runs_as_its_user() -> TestResult {
    let mut host = Host::start()?;
    let spec = TaskSpec { user: Some("nobody".to_owned()), ..shell("id -u; id -g; id -G; echo $USER") };
    let output = output_of(&mut host, spec)?;
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[0], NOBODY.to_string());
    assert_eq!(lines[1], lines[2], "no group of root's is left: {output}");
    assert_eq!(lines[3], "nobody");
    Ok(())
}

fn a_task_gets_ordinary_priority_back() -> TestResult {
    let mut host = Host::start()?;
    let pid = {
        let order = host.order("web", 3, Binding::Free, shell("exec sleep 1000"));
        host.start_task(order)?
    };
    // Ordinary is what the guard itself was started with.
    assert_eq!(scheduling(pid)?, scheduling(i32::try_from(std::process::id())?)?);
    let oom = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj"));
    assert_eq!(oom(pid)?, std::fs::read_to_string("/proc/self/oom_score_adj")?);
    Ok(())
}

/// Nice value, real-time priority and policy.
fn scheduling(pid: i32) -> Result<[String; 3], Failed> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<_> =
        stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect()).unwrap_or_default();
    // proc(5) counts from one, and what follows the name is number three.
    Ok([19, 40, 41].map(|number| fields[number - 3].to_owned()))
}

/// A namespace dies by the hand of its first process: on a busy host too.
fn an_init_has_the_priority_of_its_guard() -> TestResult {
    let mut host = Host::start()?;
    let log = LogSpec { path: host.path("log").display().to_string(), max_bytes: 1 << 20, keep: 1 };
    let spec = TaskSpec { log: Some(log), ..shell("exec sleep 1000") };
    let order = host.order("web", 3, Binding::Free, spec);
    let task = host.start_task(order)?;
    let below = |name: &str| descendants(host.pid(), name)[0];
    let (init, log) = (
        below("muster-init"),
        eventually("the log has its process", || descendants(host.pid(), "muster-log").first().copied())?,
    );
    assert_eq!(scheduling(init)?, scheduling(host.pid())?);
    assert_eq!(scheduling(log)?, scheduling(task)?, "it does the task's work");
    Ok(())
}

fn exclusive_tasks_need_the_lease_of_their_session() -> TestResult {
    let mut host = Host::start()?;
    let order = host.order("db", 5, Binding::Exclusive, shell("exec sleep 1000"));
    assert_eq!(host.refusal(order)?, Refusal::NoValidLease);
    host.voter.acks.store(false, std::sync::atomic::Ordering::Relaxed);
    host.open_session_without_lease()?;
    let order = host.order("db", 5, Binding::Exclusive, shell("exec sleep 1000"));
    assert_eq!(host.refusal(order.clone())?, Refusal::NoValidLease, "open, but no majority acked yet");
    host.voter.acks.store(true, std::sync::atomic::Ordering::Relaxed);
    host.wait_for_phase(muster_guard::protocol::LeasePhase::Valid)?;
    let mut foreign = order.clone();
    foreign.session = SessionId(999);
    assert!(matches!(host.refusal(foreign)?, Refusal::WrongSession { .. }));
    let mut free = order.clone();
    free.binding = Binding::Free;
    free.slot = slot("free");
    free.session = SessionId(999);
    host.start_task(free)?;
    host.start_task(order)?;
    Ok(())
}

fn revoked_generations_and_busy_slots_are_refused() -> TestResult {
    let mut host = Host::start()?;
    host.open_session()?;
    let order = |host: &Host, generation| {
        host.order("db", generation, Binding::Exclusive, shell("trap '' TERM; sleep 1000 & wait"))
    };
    let first = order(&host, 5);
    let pid = host.start_task(first.clone())?;
    assert_eq!(host.refusal(first)?, Refusal::SlotBusy { running: Generation(5) });
    let next = order(&host, 6);
    assert_eq!(host.refusal(next.clone())?, Refusal::SlotBusy { running: Generation(5) });
    host.call(Request::Revoke { slot: slot("db"), generation: Generation(5) })?;
    assert!(!runs(pid), "the answer comes only when nothing runs");
    let again = order(&host, 5);
    assert_eq!(host.refusal(again)?, Refusal::GenerationRevoked { revoked: Generation(5) });
    host.start_task(next)?;
    Ok(())
}

fn a_signal_reaches_the_task_and_a_wrong_one_nobody() -> TestResult {
    let mut host = Host::start()?;
    let script = "trap 'exit 7' USR1; while :; do sleep 0.01; done";
    let order = host.order("web", 3, Binding::Free, shell(script));
    let pid = host.start_task(order)?;
    let request = |signal| Request::Signal { slot: slot("web"), task: task_name(), signal };
    for wrong in [-1, 0, 32, 1000] {
        let refused = host.call(request(wrong));
        assert!(
            matches!(refused, Err(ClientError::Refused(Refusal::BadSpec { .. }))),
            "{wrong}: {refused:?}"
        );
    }
    assert!(runs(pid));
    host.call(request(Signal::SIGUSR1 as i32))?;
    let event = host.wait_for_event(|event| matches!(event, Event::TaskExited { .. }))?;
    let Event::TaskExited { how, .. } = event else { return Err("another event".into()) };
    // The shell may not have set its trap yet.
    assert!([ExitHow::Code(7), ExitHow::Signal(Signal::SIGUSR1 as i32)].contains(&how), "{how:?}");
    Ok(())
}

fn an_orderly_stop_ends_in_a_kill() -> TestResult {
    let mut host = Host::start()?;
    for (script, how) in
        [("sleep 1000", ExitHow::Signal(15)), ("trap '' TERM; while :; do sleep 1; done", ExitHow::Signal(9))]
    {
        let order = host.order("web", 3, Binding::Free, shell(&format!("echo up; {script}")));
        let pid = host.start_task(order)?;
        // The shell may not have got to its trap yet: its own child tells that it has.
        eventually("the script got on", || {
            let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
            (!children.is_empty() || script == "sleep 1000").then_some(())
        })?;
        host.call(Request::StopTask { slot: slot("web"), task: task_name(), grace_ms: 300 })?;
        let event = host.wait_for_event(|event| matches!(event, Event::TaskExited { .. }))?;
        assert!(matches!(event, Event::TaskExited { how: found, .. } if found == how), "{event:?}, {how:?}");
    }
    Ok(())
}

fn checks_run_inside_the_namespaces() -> TestResult {
    let mut host = Host::start()?;
    let order = host.order("web", 3, Binding::Free, shell("exec sleep 1000"));
    host.start_task(order)?;
    let mut check = |script: &str, timeout_ms| {
        let argv = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let request = Request::RunCheck { slot: slot("web"), task: task_name(), argv, timeout_ms };
        host.call(request)
    };
    assert_eq!(check("exit 3", 5000)?, Reply::Checked { how: Some(ExitHow::Code(3)) });
    // It sees the task as the second process of the namespace.
    assert_eq!(check("kill -0 2", 5000)?, Reply::Checked { how: Some(ExitHow::Code(0)) });
    let start = Instant::now();
    assert_eq!(check("sleep 1000", 100)?, Reply::Checked { how: None });
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(check("/nowhere/at/all", 5000)?, Reply::Checked { how: Some(ExitHow::Code(127)) });
    Ok(())
}

fn a_stopped_process_for_checks_is_replaced() -> TestResult {
    let mut host = Host::start()?;
    let spec = TaskSpec { checks: true, ..shell("exec sleep 1000") };
    let order = host.order("web", 3, Binding::Free, spec);
    host.start_task(order)?;
    let check = |host: &mut Host, script: &str| {
        let argv = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        host.call(Request::RunCheck { slot: slot("web"), task: task_name(), argv, timeout_ms: 200 })
    };
    let processes = descendants(host.pid(), "muster-check");
    assert_eq!(processes.len(), 1, "it runs before the first check");
    signal(processes[0], Signal::SIGSTOP);
    assert_eq!(check(&mut host, "exit 0")?, Reply::Checked { how: None }, "nobody runs it");
    eventually("it is killed", || (!runs(processes[0])).then_some(()))?;
    assert_eq!(check(&mut host, "exit 0")?, Reply::Checked { how: Some(ExitHow::Code(0)) });
    Ok(())
}

fn logs_are_rotated() -> TestResult {
    let mut host = Host::start()?;
    let path = host.path("data/logs/web/0/main.log");
    let log = LogSpec { path: path.display().to_string(), max_bytes: 10_000, keep: 2 };
    // Slowly enough that nothing is dropped: a pipe holds less than this writes in all.
    let script = "i=0; while [ $i -lt 60 ]; do i=$((i+1)); printf '%0999d\\n' $i; sleep 0.005; done";
    let order = host.order("web", 3, Binding::Free, TaskSpec { log: Some(log), ..shell(script) });
    host.start_task(order)?;
    host.wait_for_event(|event| matches!(event, Event::TaskExited { .. }))?;
    let read = |suffix: &str| std::fs::read_to_string(format!("{}{suffix}", path.display()));
    let all = [read(".2")?, read(".1")?, read("")?];
    assert!(all.iter().all(|text| text.len() <= 10_000));
    assert!(read(".3").is_err());
    let numbers: Vec<u32> = all.concat().lines().filter_map(|line| line.parse().ok()).collect();
    assert_eq!(numbers.last(), Some(&60));
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    Ok(())
}

fn a_stalled_log_drops_and_never_blocks() -> TestResult {
    let mut host = Host::start()?;
    // Opening a FIFO that nobody reads blocks, as a disk that stalls does.
    let path = host.path("stalled.log");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o666))?;
    let log = LogSpec { path: path.display().to_string(), max_bytes: 1 << 20, keep: 1 };
    let spec = TaskSpec { log: Some(log), ..shell("head -c 3000000 /dev/zero; exit 4") };
    let order = host.order("web", 3, Binding::Free, spec);
    host.start_task(order)?;
    let event = host.wait_for_event(|event| matches!(event, Event::TaskExited { .. }))?;
    assert!(matches!(event, Event::TaskExited { how: ExitHow::Code(4), .. }), "{event:?}");
    let Reply::Tasks(tasks) = host.call(Request::ListTasks)? else { return Err("no tasks".into()) };
    assert!(tasks[0].log_dropped_bytes > 2_000_000, "{}", tasks[0].log_dropped_bytes);
    Ok(())
}

fn a_killed_log_process_is_replaced() -> TestResult {
    let mut host = Host::start()?;
    let path = host.path("out.log");
    let log = LogSpec { path: path.display().to_string(), max_bytes: 1 << 20, keep: 1 };
    let script = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.005; done";
    let order = host.order("web", 3, Binding::Free, TaskSpec { log: Some(log), ..shell(script) });
    let task = host.start_task(order)?;
    let size = || std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
    eventually("the log is written", || (size() > 0).then_some(()))?;
    let first = descendants(host.pid(), "muster-log")[0];
    signal(first, Signal::SIGKILL);
    let another =
        || descendants(host.pid(), "muster-log").into_iter().find(|pid| *pid != first && runs(*pid));
    eventually("another process has taken its place", another)?;
    let before = size();
    eventually("the log goes on", || (size() > before).then_some(()))?;
    assert!(runs(task), "it never saw a pipe without a reader");
    Ok(())
}

fn the_newest_agent_wins() -> TestResult {
    let mut host = Host::start()?;
    let mut newer = host.client(ClientRole::Agent)?;
    let mut observer = host.client(ClientRole::Observer)?;
    let not_agent =
        |result: Result<Reply, ClientError>| matches!(result, Err(ClientError::Refused(Refusal::NotAgent)));
    assert!(not_agent(host.call(Request::PrepareSession)));
    assert!(not_agent(observer.call(Request::PrepareSession)));
    observer.call(Request::LeaseStatus)?;
    newer.call(Request::PrepareSession)?;
    Ok(())
}

fn an_unprivileged_guard_uses_user_namespaces() -> TestResult {
    let mut host = Host::start_as(Some(NOBODY))?;
    let enforcement = host.prepare()?.enforcement;
    if enforcement != Enforcement::Kernel {
        println!("SKIPPED the rest: no user namespaces here");
        return Ok(());
    }
    host.open_session()?;
    let order =
        host.order("db", 5, Binding::Exclusive, TaskSpec { user: Some("root".into()), ..shell("true") });
    assert_eq!(host.refusal(order)?, Refusal::MayNotBecome { user: "root".into() });
    let output = output_of(&mut host, shell("id -u; echo $$"))?;
    assert_eq!(output, format!("{NOBODY}\n3\n"));
    Ok(())
}
