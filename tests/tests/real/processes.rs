//! Agents and guards die, are restarted and upgraded; the service's own process dies.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use libtest_mimic::Trial;
use muster_tests::harness::{Cluster, HarnessError, Host, processes, stamps, wait};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::scene::{FAILOVER_LIMIT, START_TIMEOUT, Scene};
use crate::stage::{Played, Stage};

/// How long an agent stays away: several leases.
const AWAY: Duration = Duration::from_millis(2500);

pub fn trials(stage: &Stage) -> Vec<Trial> {
    vec![
        stage.shared("agent::killed_on_the_host_of_the_service", |c| kill_agent(c, "agent-follower", false)),
        stage.shared("agent::killed_on_the_host_that_leads", |c| kill_agent(c, "agent-leader", true)),
        stage.shared("agent::all_restarted_in_turn", restart_in_turn),
        stage.shared("agent::all_killed_at_once_while_writing", kill_all_agents),
        stage.shared("agent::a_host_without_one_is_given_nothing", give_nothing),
        stage.shared("guard::killed", kill_guard),
        stage.shared("guard::executes_itself_anew", reload_guard),
        stage.shared("task::dies", kill_task),
        stage.shared("task::forks_without_end", fork_without_end),
    ]
}

fn kill_agent(cluster: &mut Cluster, service: &'static str, leads: bool) -> Played {
    let scene = Scene::open(cluster, service)?;
    let run = scene.run()?;
    scene.lead(&run.node, leads)?;
    scene.cluster.host(&run.node)?.kill_agent()?;
    wait::pass(AWAY);
    scene.cluster.stamps().untouched(service, &run)?;
    scene.cluster.host(&run.node)?.start()?;
    scene.cluster.whole()?;
    scene.cluster.stamps().untouched(service, &run)?;
    scene.close()
}

/// What an upgrade of all agents does.
fn restart_in_turn(cluster: &mut Cluster) -> Played {
    let scene = Scene::open(cluster, "upgraded")?;
    let run = scene.run()?;
    for host in scene.cluster.others(&[]) {
        let status = scene.cluster.host(&host)?.stop_agent()?;
        if status != 0 {
            return Err(HarnessError::broken(format!(
                "the agent of {host} ended with {status} when asked to end"
            )));
        }
        scene.cluster.host(&host)?.start()?;
        scene.cluster.whole()?;
        scene.cluster.stamps().untouched("upgraded", &run)?;
    }
    scene.close()
}

/// Nothing that runs is stopped for a host on which nobody would start it.
fn give_nothing(cluster: &mut Cluster) -> Played {
    const SERVICE: &str = "needs-an-agent";
    let placement = "[service.placement]\nrequire = [\"zone in (n1, n2)\"]";
    let file = stamps::service(&cluster.binaries().muster, cluster.stamps().directory(), SERVICE, placement);
    cluster.api().apply(&file)?;
    let run = cluster.stamps().running(SERVICE, START_TIMEOUT)?;
    let other = if run.node == "n1" { "n2" } else { "n1" };

    let before = cluster.api().status()?.revision.to_string();
    let events = ["events", "--since", &before];
    cluster.host(other)?.stop_agent()?;
    tells(cluster, &events, &format!("the agent of {other} is gone"))?;
    cluster.api().drain(&run.node)?;
    tells(cluster, &["service", "explain", SERVICE], "has had no agent for")?;
    cluster.stamps().untouched(SERVICE, &run)?;

    cluster.host(other)?.start()?;
    tells(cluster, &events, &format!("the agent of {other} is back"))?;
    let (new, gap) = cluster.stamps().next_run(SERVICE, &run, START_TIMEOUT)?;
    println!(
        "    {} drained once {} had an agent again, gap {:.1} ms",
        run.node,
        new.node,
        wait::millis(gap)
    );
    cluster.api().undrain(&run.node)?;
    cluster.api().remove_service(SERVICE)?;
    cluster.whole()
}

/// Waits until `musterctl` says these words.
fn tells(cluster: &Cluster, args: &[&str], words: &str) -> Played {
    wait::until(START_TIMEOUT, &format!("musterctl {args:?} to say '{words}'"), || {
        let said = cluster.musterctl(args).map_err(|e| e.to_string())?.text();
        if said.contains(words) { Ok(()) } else { Err(said) }
    })
}

/// Without any voter the exclusive service may have to stop, but no acknowledged write is lost, nothing runs
/// twice, and what may go on without a quorum goes on.
fn kill_all_agents(cluster: &mut Cluster) -> Played {
    let file = stamps::service(
        &cluster.binaries().muster,
        cluster.stamps().directory(),
        "goes-on",
        "mode = \"replicated\"\ncount = 1",
    );
    cluster.api().apply(&file)?;
    let goes_on = cluster.stamps().running("goes-on", Duration::from_secs(15))?;
    let scene = Scene::open(cluster, "all-agents")?;
    let acknowledged = write_until_killed(scene.cluster)?;
    for host in scene.cluster.hosts_mut() {
        host.start()?;
    }
    scene.cluster.whole()?;
    scene.run()?;
    scene.cluster.stamps().untouched("goes-on", &goes_on)?;
    let kept = scene.cluster.api().annotations("all-agents")?;
    let lost: Vec<_> = acknowledged.iter().filter(|key| !kept.contains_key(*key)).collect();
    println!("    {} writes acknowledged, {} kept", acknowledged.len(), kept.len());
    if !lost.is_empty() || acknowledged.is_empty() {
        return Err(HarnessError::broken(format!("acknowledged writes were lost: {lost:?}")));
    }
    scene.cluster.api().remove_service("goes-on")?;
    scene.close()
}

/// Writes annotations, and kills all agents in the middle of it; the keys that were acknowledged.
fn write_until_killed(cluster: &mut Cluster) -> Result<Vec<String>, HarnessError> {
    /// Below the limit of annotations a service may have.
    const WRITES: usize = 60;
    let writer = cluster.second_api()?;
    /// So many are acknowledged when the agents are killed.
    const KILL_AFTER: usize = 10;
    let written = Mutex::new(Vec::new());
    let so_far = || written.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let killed = std::thread::scope(|scope| {
        scope.spawn(|| {
            for key in (0..WRITES).map(|n| format!("key-{n}")) {
                if writer.annotate("all-agents", &key, "kept").is_err() {
                    return;
                }
                written.lock().unwrap_or_else(PoisonError::into_inner).push(key);
            }
        });
        let enough = wait::until(Duration::from_secs(10), "writes to be acknowledged", || {
            let acknowledged = so_far().len();
            if acknowledged >= KILL_AFTER { Ok(()) } else { Err(format!("{acknowledged} are")) }
        });
        let killed = cluster.hosts_mut().iter_mut().try_for_each(muster_tests::harness::Host::kill_agent);
        enough.and(killed)
    });
    killed.map(|()| so_far())
}

/// Tasks die with their guard; its successor, or another host, starts the service anew.
fn kill_guard(cluster: &mut Cluster) -> Played {
    let scene = Scene::open(cluster, "guard-killed")?;
    let old = scene.run()?;
    scene.cluster.host(&old.node)?.kill_guard()?;
    let new = scene.moved(&old, "guard killed", FAILOVER_LIMIT)?;
    scene.cluster.whole()?;
    scene.cluster.stamps().untouched("guard-killed", &new)?;
    scene.close()
}

fn reload_guard(cluster: &mut Cluster) -> Played {
    let scene = Scene::open(cluster, "guard-anew")?;
    let run = scene.run()?;
    let host = scene.cluster.host(&run.node)?;
    let before = host.guard_pid();
    for _time in 0..3 {
        host.reload_guard()?;
        wait::pass(Duration::from_millis(500));
    }
    if host.guard_pid() != before || before.is_none() {
        return Err(HarnessError::broken("the guard is another process than before"));
    }
    wait::pass(AWAY);
    scene.cluster.stamps().untouched("guard-anew", &run)?;
    // What was handed over is of use: the new binary can still move the service away.
    let to = scene.cluster.others(&[&run.node]).swap_remove(0);
    scene.cluster.api().move_service("guard-anew", &to, false)?;
    scene.moved(&run, "moved after that", FAILOVER_LIMIT)?;
    scene.close()
}

fn kill_task(cluster: &mut Cluster) -> Played {
    let scene = Scene::open(cluster, "dies")?;
    let old = scene.run()?;
    let namespace = scene.cluster.host(&old.node)?.namespace().to_owned();
    let task = processes::inside(&namespace)?
        .into_iter()
        .find(|pid| processes::environment(*pid, "MUSTER_SERVICE").as_deref() == Some("dies"))
        .ok_or_else(|| HarnessError::broken("the task's process is not there"))?;
    processes::signal(task, Signal::SIGKILL);
    let new = scene.moved(&old, "process died", Duration::from_secs(1))?;
    if new.node != old.node {
        return Err(HarnessError::broken(format!(
            "it was restarted on {} and not on {}",
            new.node, old.node
        )));
    }
    scene.close()
}

/// A task that forks as fast as its limit lets it costs its neighbour nothing, and none of its processes outlives its
/// guard or its service.
fn fork_without_end(cluster: &mut Cluster) -> Played {
    const BOMB: &str = "[[service]]\nname = \"bomb\"\nmode = \"exclusive\"\nstop_timeout = \"1s\"\n[[service.task]]\n\
                        name = \"bomb\"\n[service.task.exec]\nuser = \"nobody\"\nlimits = { processes = 40 }\n\
                        command = [\"/bin/bash\", \"-c\", \"bomb() { bomb | bomb & }; bomb; exec sleep infinity\"]\n";
    /// Of the 40: some are always between a fork and their end.
    const MANY: usize = 20;
    let scene = Scene::open(cluster, "beside-a-bomb")?;
    let run = scene.run()?;
    scene.cluster.api().apply(BOMB)?;
    let bombs = |cluster: &Cluster, host: &str| -> Result<usize, HarnessError> {
        let namespaces = cluster.hosts().iter().filter(|known| known.name() == host).map(Host::namespace);
        let inside: Result<Vec<_>, _> = namespaces.map(processes::inside).collect();
        let is_bomb = |pid: &Pid| processes::environment(*pid, "MUSTER_SERVICE").as_deref() == Some("bomb");
        Ok(inside?.iter().flatten().filter(|pid| is_bomb(pid)).count())
    };
    let goes_off = |cluster: &Cluster, hosts: &[String]| {
        wait::until(START_TIMEOUT, "the bomb to go off", || {
            let counts: Result<Vec<usize>, HarnessError> =
                hosts.iter().map(|host| bombs(cluster, host)).collect();
            let counts = counts.map_err(|error| error.to_string())?;
            if counts.iter().any(|count| *count >= MANY) {
                Ok(())
            } else {
                Err(format!("processes: {counts:?}"))
            }
        })
    };
    let everywhere = scene.cluster.others(&[]);
    goes_off(scene.cluster, &everywhere)?;
    if bombs(scene.cluster, &run.node)? == 0 {
        scene.cluster.api().move_service("bomb", &run.node, false)?;
        goes_off(scene.cluster, std::slice::from_ref(&run.node))?;
    }
    wait::pass(AWAY);
    scene.cluster.stamps().untouched("beside-a-bomb", &run)?;
    scene.cluster.host(&run.node)?.kill_guard()?;
    scene.moved(&run, "guard of a bomb killed", FAILOVER_LIMIT)?;
    scene.cluster.whole()?;
    goes_off(scene.cluster, &everywhere)?;
    scene.cluster.api().remove_service("bomb")?;
    for host in &everywhere {
        let left = bombs(scene.cluster, host)?;
        if left != 0 {
            return Err(HarnessError::broken(format!(
                "{left} processes of a service that is gone live on {host}"
            )));
        }
    }
    scene.close()
}
