//! What a cluster costs that does nothing but keep 20 services: memory, processor, size, and a look at its status.

use std::path::Path;
use std::time::Duration;

use nix::unistd::Pid;

use super::memory::{self, Memory};
use super::report::{Report, Timing};
use super::statistics::Samples;
use super::{Interrupt, say, scene};
use crate::harness::wait::{self, Moment, millis};
use crate::harness::{Cluster, HarnessError, Host, network, processes, tool};

const MIB: f64 = 1024.0 * 1024.0;
/// How long the cluster settles before.
const SETTLE: Duration = Duration::from_secs(5);
/// How long the processor time is counted.
const WATCH: Duration = Duration::from_secs(30);
/// Targets.
const AGENT_MIB: f64 = 30.0;
const GUARD_MIB: f64 = 12.0;
const CPU_PERCENT: f64 = 1.5;
const BINARY_MIB: f64 = 20.0;
const STATUS_MS: f64 = 30.0;

/// Muster's processes of one host.
struct Group {
    node: String,
    agent: Pid,
    /// The guard and its shims.
    guards: Vec<Pid>,
    /// Inits and the processes of logs, which come with the tasks.
    of_tasks: Vec<Pid>,
}

/// Measures it.
///
/// # Errors
/// When the cluster does not come up.
pub fn measure(runs: usize, stop: &Interrupt, report: &mut Report) -> Result<(), HarnessError> {
    let mut cluster = Cluster::start(scene::HOSTS)?;
    cluster.api().apply(&services())?;
    cluster.whole()?;
    say("  20 services run; settling");
    wait::pass(SETTLE);
    let leader = cluster.api().leader()?;
    let muster = cluster.binaries().muster.clone();
    let groups: Vec<Group> =
        cluster.hosts().iter().map(|host| group(host, &muster)).collect::<Result<_, _>>()?;
    for group in &groups {
        report_memory(group, role(&group.node, &leader), report);
    }
    watch_cpu(&groups, &leader, stop, report)?;
    let size = std::fs::metadata(&muster).map_err(HarnessError::io("the size of muster"))?.len();
    report.amount("binary muster", bytes_mib(size), "MiB", Some(BINARY_MIB));
    status_time(&cluster, runs, stop, report)
}

/// Ten exclusive services, six of two instances, four everywhere: 34 instances on three hosts.
fn services() -> String {
    let modes = (0..20).map(|number| match number {
        0..10 => "mode = \"exclusive\"",
        10..16 => "mode = \"replicated\"\ncount = 2",
        _ => "mode = \"everywhere\"",
    });
    let services = modes.enumerate().map(|(number, mode)| {
        format!(
            "[[service]]\nname = \"idle-{number}\"\n{mode}\n[[service.task]]\nname = \"sleep\"\n\
             [service.task.exec]\ncommand = [\"/bin/sleep\", \"infinity\"]\n"
        )
    });
    services.collect()
}

fn group(host: &Host, muster: &Path) -> Result<Group, HarnessError> {
    let agent = host.agent_pid().ok_or_else(|| HarnessError::broken("an agent is missing"))?;
    let is_muster = |pid: &Pid| std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == muster);
    let others = processes::inside(host.namespace())?;
    let others = others.into_iter().filter(|pid| *pid != agent && is_muster(pid));
    let of_task = |pid: &Pid| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        ["muster-init", "muster-log"].contains(&name.trim_end())
    };
    let (of_tasks, guards) = others.partition(of_task);
    Ok(Group { node: host.name().to_owned(), agent, guards, of_tasks })
}

fn role(node: &str, leader: &str) -> &'static str {
    if node == leader { "leader" } else { "follower" }
}

fn report_memory(group: &Group, role: &str, report: &mut Report) {
    let Group { node, agent, guards, of_tasks } = group;
    let inits = format!("inits and log processes of {node} ({})", of_tasks.len());
    let parts = [
        (format!("agent of {node} ({role})"), std::slice::from_ref(agent), Some(AGENT_MIB)),
        (format!("guard and shims of {node}"), guards.as_slice(), Some(GUARD_MIB)),
        (inits, of_tasks.as_slice(), None),
    ];
    for (what, pids, target_mib) in parts {
        let all: Memory = pids.iter().copied().map(Memory::of).sum();
        report.amount(format!("{what}, RSS"), bytes_mib(all.rss_bytes), "MiB", target_mib);
        report.amount(format!("{what}, PSS"), bytes_mib(all.pss_bytes), "MiB", None);
    }
}

fn watch_cpu(
    groups: &[Group],
    leader: &str,
    stop: &Interrupt,
    report: &mut Report,
) -> Result<(), HarnessError> {
    let used = |group: &Group| -> [f64; 2] {
        let others = group.guards.iter().chain(&group.of_tasks);
        [memory::cpu_s(group.agent), others.copied().map(memory::cpu_s).sum()]
    };
    say(&format!("  counting processor time for {} s", WATCH.as_secs()));
    let (begin, before) = (Moment::now(), groups.iter().map(used).collect::<Vec<_>>());
    wait::pass(WATCH);
    stop.check()?;
    let took_s = begin.elapsed().as_secs_f64();
    for (group, before) in groups.iter().zip(before) {
        let after = used(group);
        let [agent, guard] = [after[0] - before[0], after[1] - before[1]].map(|s| 100.0 * s / took_s);
        let what = format!("processor of {} ({})", group.node, role(&group.node, leader));
        report.amount(format!("{what}, agent"), agent, "% of a core", None);
        report.amount(format!("{what}, guard and shims"), guard, "% of a core", None);
        report.amount(format!("{what}, together"), agent + guard, "% of a core", Some(CPU_PERCENT));
    }
    Ok(())
}

/// `musterctl status` as an operator runs it, from the start of its process to its end.
fn status_time(
    cluster: &Cluster,
    runs: usize,
    stop: &Interrupt,
    report: &mut Report,
) -> Result<(), HarnessError> {
    let (namespace, program) =
        (cluster.network().switch(), cluster.binaries().musterctl.display().to_string());
    let endpoints: Vec<String> = cluster.hosts().iter().map(Host::endpoint).collect();
    let (stop, context) = (stop.clone(), cluster.context().display().to_string());
    // A thread of its own, since it stays in the namespace that it enters.
    let measured = std::thread::spawn(move || {
        network::enter(&namespace)?;
        let mut line: Vec<&str> = endpoints.iter().flat_map(|e| ["--endpoint", e]).collect();
        line.extend(["--context", &context, "status"]);
        let mut samples = Samples::default();
        for _ in 0..runs {
            stop.check()?;
            let begin = Moment::now();
            tool::run(&program, &line)?.success()?;
            samples.add(millis(begin.elapsed()));
        }
        Ok::<_, HarnessError>(samples)
    });
    let samples =
        measured.join().map_err(|_| HarnessError::broken("the thread of the status panicked"))??;
    let row = Timing { target_median_ms: Some(STATUS_MS), ..Timing::untargeted("idle", "musterctl status") };
    report.timings.push(row.with(&samples));
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "for people; sizes are far below 2^52 bytes")]
fn bytes_mib(bytes: u64) -> f64 {
    bytes as f64 / MIB
}
