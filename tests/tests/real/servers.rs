//! Unmodified Redis and nginx as services, with clients that count every failed request.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use libtest_mimic::Trial;
use muster_tests::harness::client::{Client, Protocol, RedisWatch, Tally};
use muster_tests::harness::wait::millis;
use muster_tests::harness::{Cluster, HarnessError, wait};

use crate::stage::{Played, Stage};

const REDIS: &str = "/usr/bin/redis-server";
const NGINX: &str = "/usr/sbin/nginx";
const REDIS_PORT: u16 = 6379;
const NGINX_PORT: u16 = 8080;
/// How long a server may take to answer again.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How long an agent or a host stays away: several leases.
const AWAY: Duration = Duration::from_millis(2500);

pub fn trials(stage: &Stage) -> Vec<Trial> {
    vec![stage.shared("servers::redis_and_nginx_through_every_fault", every_fault)]
}

/// Two services and those who watch them.
struct Servers<'a> {
    cluster: &'a mut Cluster,
    redis: Client,
    nginx: Client,
    watch: RedisWatch,
    rows: Vec<(String, Tally, Tally)>,
}

fn every_fault(cluster: &mut Cluster) -> Played {
    for server in [REDIS, NGINX] {
        if !Path::new(server).is_file() {
            return Err(HarnessError::broken(format!("{server} is missing: install redis-server and nginx")));
        }
    }
    let mut servers = Servers::open(cluster)?;
    servers.quiet("leader's agent killed", |cluster, _| {
        let leader = cluster.api().leader()?;
        kill_agent_and_restart(cluster, &leader)
    })?;
    servers.quiet("agent of the host killed", kill_agent_and_restart)?;
    servers.fault("host drained", |cluster, host| {
        cluster.api().drain(host)?;
        wait::pass(AWAY);
        cluster.api().undrain(host)
    })?;
    servers.fault("guard killed", |cluster, host| {
        cluster.host(host)?.kill_guard()?;
        wait::pass(AWAY);
        Ok(())
    })?;
    servers.fault("host crashed", |cluster, host| {
        cluster.host(host)?.crash()?;
        wait::pass(AWAY);
        cluster.host(host)?.start()
    })?;
    servers.fault("host cut off, healed", |cluster, host| {
        cluster.network().cut(host)?;
        wait::pass(AWAY);
        cluster.network().heal(host)
    })?;
    servers.fault("host frozen, thawed", |cluster, host| {
        cluster.host(host)?.freeze()?;
        wait::pass(AWAY);
        cluster.host(host)?.thaw()
    })?;
    servers.close()
}

fn kill_agent_and_restart(cluster: &mut Cluster, host: &str) -> Played {
    cluster.host(host)?.kill_agent()?;
    wait::pass(AWAY);
    cluster.host(host)?.start()
}

impl<'a> Servers<'a> {
    fn open(cluster: &'a mut Cluster) -> Result<Self, HarnessError> {
        let file = format!("{}{}", redis_service(&cluster.dir()), nginx_service(cluster)?);
        cluster.api().apply(&file)?;
        let to = |port: u16| -> Result<Vec<SocketAddr>, HarnessError> {
            let hosts = cluster.hosts().iter();
            let parsed = hosts.map(|h| format!("{}:{port}", h.address()).parse());
            parsed.collect::<Result<_, _>>().map_err(|e| HarnessError::broken(format!("an address: {e}")))
        };
        let switch = cluster.network().switch();
        let redis = Client::start(&switch, Protocol::Redis, to(REDIS_PORT)?);
        let nginx = Client::start(&switch, Protocol::Http, to(NGINX_PORT)?);
        let inside = cluster.hosts().iter().map(|h| (h.name().to_owned(), h.namespace().to_owned()));
        let watch = RedisWatch::start(inside.collect(), REDIS_PORT);
        redis.answered(ANSWER_LIMIT)?;
        nginx.answered(ANSWER_LIMIT)?;
        cluster.whole()?;
        Ok(Self { cluster, redis, nginx, watch, rows: Vec::new() })
    }

    /// The host whose Redis answers.
    fn host(&self) -> Result<String, HarnessError> {
        let seen = self.watch.sightings();
        seen.last().map(|s| s.node.clone()).ok_or_else(|| HarnessError::broken("no Redis has answered"))
    }

    /// Does something to the host of Redis, and counts until all is well again.
    fn fault(
        &mut self,
        what: &str,
        inflict: impl FnOnce(&mut Cluster, &str) -> Played,
    ) -> Result<(Tally, Tally), HarnessError> {
        let host = self.host()?;
        self.redis.reset();
        self.nginx.reset();
        inflict(self.cluster, &host)?;
        self.redis.answered(ANSWER_LIMIT)?;
        self.nginx.answered(ANSWER_LIMIT)?;
        self.cluster.whole()?;
        self.watch.never_two()?;
        let counted = (self.redis.tally(), self.nginx.tally());
        self.rows.push((what.to_owned(), counted.0, counted.1));
        Ok(counted)
    }

    /// The same for what must not be noticed.
    fn quiet(&mut self, what: &str, inflict: impl FnOnce(&mut Cluster, &str) -> Played) -> Played {
        let before = self.watch.sightings().len();
        let (redis, nginx) = self.fault(what, inflict)?;
        let refused = redis.failed + nginx.failed - redis.late - nginx.late;
        if refused > 0 || self.watch.sightings().len() != before {
            return Err(HarnessError::broken(format!("{what} was noticed: {redis:?}, {nginx:?}")));
        }
        Ok(())
    }

    fn close(self) -> Played {
        println!("    {:<26} {:>30}  {:>30}", "fault", "redis (exclusive)", "nginx (two copies)");
        let head = format!("{:>9} {:>8} {:>11}", "answered", "failed", "longest ms");
        println!("    {:<26} {head}  {head}", "");
        for (what, redis, nginx) in &self.rows {
            let cells =
                |t: &Tally| format!("{:>9} {:>8} {:>11.1}", t.answered, t.failed, millis(t.longest_outage));
            println!("    {what:<26} {}  {}", cells(redis), cells(nginx));
        }
        for service in ["redis", "nginx"] {
            self.cluster.api().remove_service(service)?;
        }
        self.watch.never_two()
    }
}

fn redis_service(dir: &Path) -> String {
    format!(
        "[[service]]\nname = \"redis\"\nstop_timeout = \"5s\"\n[[service.task]]\nname = \"server\"\n\
         [service.task.exec]\ncommand = [{REDIS:?}, \"--port\", \"{REDIS_PORT}\", \"--bind\", \"0.0.0.0\", \
         \"--protected-mode\", \"no\", \"--save\", \"\", \"--dir\", {:?}]\n",
        dir.display().to_string()
    )
}

fn nginx_service(cluster: &Cluster) -> Result<String, HarnessError> {
    let dir = cluster.dir().join("nginx");
    std::fs::create_dir_all(&dir).map_err(HarnessError::io("nginx's directory"))?;
    let path = dir.join("nginx.conf");
    let text = format!(
        "daemon off;\nuser root;\nworker_processes 1;\nerror_log stderr warn;\npid nginx.pid;\nevents {{}}\n\
         http {{\n  access_log off;\n  client_body_temp_path body;\n  proxy_temp_path proxy;\n  \
         fastcgi_temp_path fastcgi;\n  uwsgi_temp_path uwsgi;\n  scgi_temp_path scgi;\n  \
         server {{ listen {NGINX_PORT}; keepalive_requests 1000000; location / {{ return 200 \"ok\\n\"; }} }}\n}}\n"
    );
    std::fs::write(&path, text).map_err(HarnessError::io("nginx.conf"))?;
    Ok(format!(
        "[[service]]\nname = \"nginx\"\nmode = \"replicated\"\ncount = 2\nstop_timeout = \"5s\"\n\
         [service.placement]\nspread = \"zone\"\n[[service.task]]\nname = \"server\"\n[service.task.exec]\n\
         command = [{NGINX:?}, \"-p\", {:?}, \"-c\", {:?}]\nstop_signal = \"QUIT\"\n",
        dir.display().to_string(),
        path.display().to_string()
    ))
}
