//! Bad input: one clear message with the remedy, the right exit status, and nothing lost.

use std::time::Duration;

use libtest_mimic::Trial;
use muster_tests::harness::{Cluster, HarnessError, network, wait};

use crate::expect::{said, says};
use crate::stage::{Played, Stage};

/// How long an agent that can't run may take to say so.
const END_LIMIT: Duration = Duration::from_secs(10);

pub fn trials(stage: &Stage) -> Vec<Trial> {
    vec![
        stage.own("mistakes::before_a_cluster_exists", 1, before_a_cluster),
        stage.own("mistakes::data_directories", 1, data_directories),
        stage.own("mistakes::without_a_quorum", 3, without_a_quorum),
        stage.shared("mistakes::joining", joining),
        stage.shared("mistakes::of_operators", operators),
        stage.shared("mistakes::services_that_cannot_run", services),
    ]
}

fn before_a_cluster(cluster: &mut Cluster) -> Played {
    let host = cluster.host("n1")?;
    let wrong = host.write("wrong.toml", "[node]\nname = \"n1\"\nlistne = [\"10.77.0.1:7420\"]\n")?;
    let wrong = wrong.display().to_string();
    let muster = |args: &[&str]| host.muster_plain(args);
    says(&muster(&["agent", "--config", &wrong])?, 78, &["wrong.toml:3", "listne", "listen"])?;
    says(&muster(&["agent", "--config", "/nowhere/agent.toml"])?, 78, &["/nowhere/agent.toml"])?;
    says(&muster(&["agnet"])?, 64, &["agnet"])?;
    says(&host.muster("agent", &[])?, 78, &["muster init", "muster join"])?;
    let hasty = host.write("hasty.toml", "[node]\nname = \"n1\"\n[timing]\nlease_ttl_ms = 300\n")?;
    let hasty = hasty.display().to_string();
    says(&muster(&["agent", "--config", &hasty])?, 78, &["hasty.toml:3: timing"])?;
    says(&cluster.musterctl(&["status", "--timeout", "1s"])?, 69, &["10.77.0.1:7420", "refused"])
}

fn data_directories(cluster: &mut Cluster) -> Played {
    let host = cluster.host("n1")?;
    host.init()?;
    says(&host.muster("init", &[])?, 108, &["already belongs to node 'n1'", "move it away"])?;
    let identity = host.data_dir().join("identity.json");
    let good = std::fs::read_to_string(&identity).map_err(HarnessError::io("identity.json"))?;
    let edit = |path: &std::path::Path, text: &str| {
        std::fs::write(path, text).map_err(HarnessError::io(format!("{}", path.display())))
    };
    let agent = |host: &mut muster_tests::harness::Host| -> Result<(i32, String), HarnessError> {
        host.start()?;
        host.agent_ends(END_LIMIT)
    };

    edit(&identity, &with_machine_id(&good, "0123456789abcdef0123456789abcdef"))?;
    let (status, text) = agent(host)?;
    said("muster agent on a clone", status, &text, 107, &["0123456789abcdef", "copy of a disk image"])?;
    edit(&identity, "{ damaged")?;
    let (status, text) = agent(host)?;
    said(
        "muster agent with a damaged identity",
        status,
        &text,
        78,
        &["identity.json is damaged", "restore"],
    )?;
    edit(&identity, &good)?;

    let format = host.data_dir().join("FORMAT");
    let old = std::fs::read_to_string(&format).map_err(HarnessError::io("FORMAT"))?;
    edit(&format, "999\n")?;
    let (status, text) = agent(host)?;
    said("muster agent on a newer format", status, &text, 78, &["format 999", "start the version that"])?;
    edit(&format, &old)?;

    port_in_use(host)?;
    // Nothing was lost by all that.
    host.start()?;
    cluster.make_operator()?;
    cluster.whole()?;
    let host = cluster.host("n1")?;
    says(&host.muster("agent", &[])?, 107, &["another agent is using"])?;
    says(&cluster.musterctl(&["node", "remove", "n1", "--yes"])?, 107, &["n1", "hint"])
}

fn with_machine_id(identity: &str, id: &str) -> String {
    let lines = identity.lines().map(|line| match line.split_once("\"machine_id\":") {
        Some((before, _)) => format!("{before}\"machine_id\": {id:?}"),
        None => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn port_in_use(host: &mut muster_tests::harness::Host) -> Played {
    let (namespace, endpoint) = (host.namespace().to_owned(), host.endpoint());
    let bound = std::thread::spawn(move || -> Result<std::net::TcpListener, HarnessError> {
        network::enter(&namespace)?;
        std::net::TcpListener::bind(endpoint).map_err(HarnessError::io("taking the port"))
    });
    let listener = bound.join().map_err(|_| HarnessError::broken("the thread panicked"))??;
    host.start()?;
    let (status, text) = host.agent_ends(END_LIMIT)?;
    drop(listener);
    said("muster agent without its port", status, &text, 1, &["10.77.0.1:7420", "another program"])
}

/// With two of three voters gone nothing is changed, everything says why, and all is well when they are back.
fn without_a_quorum(cluster: &mut Cluster) -> Played {
    cluster.form()?;
    let leader = cluster.api().leader()?;
    for host in cluster.others(&[&leader]) {
        cluster.host(&host)?.crash()?;
    }
    let name = cluster.outsider()?;
    let (left, token) = (cluster.host(&leader)?.endpoint(), cluster.token().to_owned());
    let joined = cluster.outside(&name)?.muster("join", &["--token", &token, &left])?;
    if ![75, 106].contains(&joined.status) {
        return Err(HarnessError::broken(format!("joining without a quorum ended with {joined:?}")));
    }
    says(&joined, joined.status, &["hint"])?;
    says(&cluster.musterctl(&["cordon", "n1", "--timeout", "2s"])?, 64, &["cordon"])?;
    says(&cluster.musterctl(&["node", "cordon", "n1", "--timeout", "2s"])?, 106, &["quorum", "hint"])?;
    says(&cluster.musterctl(&["status", "--timeout", "2s"])?, 106, &["quorum", "--stale"])?;
    says(
        &cluster.musterctl(&["status", "--stale", "--timeout", "2s"])?,
        106,
        &["n1", "n2", "n3", "own copy"],
    )?;
    for host in cluster.others(&[&leader]) {
        cluster.host(&host)?.start()?;
    }
    cluster.whole()?;
    says(&cluster.outside(&name)?.muster("join", &["--token", &token, &left])?, 0, &["joined"])
}

fn joining(cluster: &mut Cluster) -> Played {
    let name = cluster.outsider()?;
    let once = cluster.api().create_token(Duration::from_secs(60), 1)?;
    let expiring = cluster.api().create_token(Duration::from_millis(1), 1)?;
    wait::pass(Duration::from_millis(50));
    let first = cluster.hosts()[0].endpoint();
    let unknown = unknown_token(cluster.token());
    let host = cluster.outside(&name)?;
    let join = |token: &str, to: &str| host.muster("join", &["--token", token, to]);
    says(&join("nonsense", &first)?, 78, &["muster1.ID.SECRET", "token create"])?;
    says(&join(&once, "10.77.0.250:7420")?, 69, &["10.77.0.250:7420", "no agent answered"])?;
    says(&join(&once, &first.replace("7420", "7421"))?, 69, &["10.77.0.1:7421", "port 7420"])?;
    says(&join(&unknown, &first)?, 77, &["not known here", "token create"])?;
    let foreign = foreign_token(cluster.token());
    says(&join(&foreign, &first)?, 69, &["another cluster"])?;
    says(&join(&expiring, &first)?, 77, &["expired", "token create"])?;
    says(&join(&once, &first)?, 0, &["joined"])?;
    // The host belongs to a cluster now, whatever the token.
    says(&join(&once, &first)?, 108, &["already belongs to node", "move it away"])?;
    host.forget()?;
    says(&join(&once, &first)?, 77, &["used up", "token create"])?;
    let fresh = cluster.api().create_token(Duration::from_secs(60), 1)?;
    let host = cluster.outside(&name)?;
    says(&host.muster("join", &["--token", &fresh, &first])?, 108, &["in the cluster already"])?;
    // It never started: it can be removed as what it is, a node that is not there.
    says(&cluster.musterctl(&["node", "remove", &name, "--yes"])?, 0, &[])
}

/// A token of the same cluster with another secret.
pub fn unknown_token(real: &str) -> String {
    let turn = |part: &str| part.chars().map(|c| if c == 'a' { 'b' } else { 'a' }).collect::<String>();
    let parts = real.split('.').enumerate();
    parts.map(|(at, part)| if at == 2 { turn(part) } else { part.to_owned() }).collect::<Vec<_>>().join(".")
}

/// A token as another cluster would make it: this cluster's CA has another pin.
fn foreign_token(real: &str) -> String {
    let own = real.rsplit_once('.').map_or("", |(_, pin)| pin);
    real.replace(own, &"0123456789abcdef".repeat(2))
}

fn operators(cluster: &mut Cluster) -> Played {
    let ctl = |args: &[&str]| cluster.musterctl(args);
    says(&ctl(&["frobnicate"])?, 64, &["frobnicate"])?;
    says(&ctl(&["drain"])?, 64, &["NODE"])?;
    says(&ctl(&["drain", "n9"])?, 105, &["n9", "node list"])?;
    says(&ctl(&["service", "show", "nothing"])?, 105, &["nothing", "service list"])?;
    says(&ctl(&["move", "nothing", "--to", "n1"])?, 105, &["nothing"])?;
    says(&ctl(&["token", "revoke", "nothing"])?, 105, &["nothing", "token list"])?;
    says(&ctl(&["node", "remove", "n1", "--yes"])?, 107, &["n1", "alive", "muster leave"])?;
    says(&ctl(&["wait", "cluster", "--for", "quorum"])?, 0, &[])?;
    says(&ctl(&["wait", "node/n1", "--for", "drained", "--timeout", "300ms"])?, 124, &["n1"])?;
    let json = ctl(&["drain", "n9", "-o", "json"])?;
    says(&json, 105, &["\"error\"", "\"code\"", "MU1003", "\"hint\""])?;
    let dir = cluster.dir();
    let file = |name: &str, text: &str| -> Result<String, HarnessError> {
        let path = dir.join(name);
        std::fs::write(&path, text).map_err(HarnessError::io(name))?;
        Ok(path.display().to_string())
    };
    let body = "[[service.task]]\nname = \"t\"\n[service.task.exec]\ncommand = [\"/bin/sleep\", \"9\"]\n";
    let unknown_key = file("key.toml", &format!("[[service]]\nname = \"a\"\nmdoe = \"exclusive\"\n{body}"))?;
    says(&ctl(&["service", "apply", "-f", &unknown_key])?, 78, &["key.toml:3", "mdoe", "mode"])?;
    let wrong_type = file("type.toml", &format!("[[service]]\nname = \"a\"\npriority = \"high\"\n{body}"))?;
    says(&ctl(&["service", "apply", "-f", &wrong_type])?, 78, &["type.toml:3", "priority"])?;
    let twice = format!("[[service]]\nname = \"a\"\n{body}");
    let twice = file("twice.toml", &format!("{twice}{twice}"))?;
    says(&ctl(&["service", "apply", "-f", &twice])?, 78, &["a", "twice"])?;
    says(&ctl(&["service", "apply", "-f", "/nowhere.toml"])?, 78, &["/nowhere.toml"])?;
    says(&ctl(&["service", "list", "-o", "name"])?, 0, &[])
}

/// Declared without an error, these can't run: Muster says so, and why.
fn services(cluster: &mut Cluster) -> Played {
    let declare = |name: &str, placement: &str, exec: &str| {
        cluster.api().apply(&format!(
            "[[service]]\nname = {name:?}\n{placement}\n[service.restart]\nattempts = 1\nbackoff = \"100ms..100ms\"\n\
             [[service.task]]\nname = \"t\"\n[service.task.exec]\n{exec}\n"
        ))
    };
    let sleep = "command = [\"/bin/sleep\", \"600\"]";
    declare("label", "[service.placement]\nrequire = [\"disk == ssd\"]", sleep)?;
    declare("command", "", "command = [\"/nowhere/program\"]")?;
    declare("user", "", &format!("{sleep}\nuser = \"nobody-of-that-name\""))?;
    let shows = |name: &str, words: &[&str]| {
        let said = wait::until(END_LIMIT, &format!("{name} to be explained"), || {
            let said = cluster.musterctl(&["service", "show", name]).map_err(|e| e.to_string())?;
            let text = said.text().to_lowercase();
            if words.iter().all(|word| text.contains(&word.to_lowercase())) { Ok(said) } else { Err(text) }
        })?;
        says(&said, 0, words)
    };
    let judged = shows("command", &["/nowhere/program: no such file"])
        .and_then(|()| shows("user", &["user nobody-of-that-name does not exist"]))
        .and_then(|()| {
            says(&cluster.musterctl(&["service", "explain", "label"])?, 0, &["disk", "n1", "n2", "n3"])
        })
        .and_then(|()| says(&cluster.musterctl(&["status", "--check"])?, 2, &["label"]));
    for name in ["label", "command", "user"] {
        cluster.api().remove_service(name)?;
    }
    judged
}
