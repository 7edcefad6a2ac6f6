//! Writes a second: each client sets a 256-byte value, waits for the acknowledgement, and goes on. Muster and etcd
//! get the same hosts, network, disk and generator, one after the other, and the disk alone is measured before. etcd is
//! measured with encrypted connections, as Muster's are, and without, as it comes.

mod disk;
mod encrypted;
mod etcd;
mod load;
mod target;

use std::path::Path;
use std::time::Duration;

use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use super::report::{Rate, Report, Writes};
use super::{Interrupt, say, scene};
use crate::harness::{Cluster, HarnessError};
use etcd::Wire;
use load::{Door, Load};
use target::{Annotate, Target};

/// How many clients there are at a time.
const CLIENTS: [usize; 4] = [1, 16, 64, 256];
/// Bytes of a value.
const VALUE_BYTES: usize = 256;
/// The service that is annotated; it never runs, as no node has that label.
const SERVICE: &str = "annotated";
/// How long the disk alone is measured.
const DISK_TIME: Duration = Duration::from_secs(3);

/// Measures it.
///
/// # Errors
/// When a cluster does not come up.
pub fn measure(stop: &Interrupt, report: &mut Report) -> Result<(), HarnessError> {
    let muster = measure_muster(stop, report)?;
    let (mut etcd, mut etcd_plain) = (None, None);
    if etcd::is_installed() {
        etcd = Some(measure_etcd(stop, Wire::Encrypted)?);
        etcd_plain = Some(measure_etcd(stop, Wire::Plain)?);
    } else {
        say("  etcd is not installed (Debian: etcd-server); no comparison");
    }
    let at =
        |rates: &Option<Vec<Rate>>, level: usize| rates.as_ref().and_then(|rates| rates.get(level).copied());
    report.writes.extend(CLIENTS.into_iter().zip(muster).enumerate().map(|(level, (clients, muster))| {
        Writes { clients, muster, etcd: at(&etcd, level), etcd_plain: at(&etcd_plain, level) }
    }));
    Ok(())
}

fn measure_muster(stop: &Interrupt, report: &mut Report) -> Result<Vec<Rate>, HarnessError> {
    let cluster = Cluster::start(scene::HOSTS)?;
    real_disk(&cluster.dir())?;
    let syncs_per_s = disk::syncs_per_s(&cluster.dir(), VALUE_BYTES, DISK_TIME)?;
    say(&format!("  disk: {syncs_per_s:.0} fdatasync of {VALUE_BYTES} bytes a second"));
    report.syncs_per_s = Some(syncs_per_s);
    cluster.api().apply(&format!(
        "[[service]]\nname = {SERVICE:?}\n[service.placement]\nrequire = [\"bench == never\"]\n\
         [[service.task]]\nname = \"sleep\"\n[service.task.exec]\ncommand = [\"/bin/sleep\", \"infinity\"]\n"
    ))?;
    let leader = cluster.api().leader()?;
    let leader = cluster.hosts().iter().find(|host| host.name() == leader);
    let leader = leader.ok_or_else(|| HarnessError::broken("an unknown host leads"))?.endpoint();
    let load = Load::new(&cluster.network().switch(), Door::Operator(cluster.operator().clone()))?;
    levels("Muster", &load, &leader, stop, Annotate::new)
}

fn measure_etcd(stop: &Interrupt, wire: Wire) -> Result<Vec<Rate>, HarnessError> {
    // Only the hosts and their network: no agent is started.
    let cluster = Cluster::prepare(scene::HOSTS)?;
    let (name, door) = match wire {
        Wire::Encrypted => ("etcd with TLS", Door::Encrypted),
        Wire::Plain => ("etcd", Door::Plain),
    };
    let load = Load::new(&cluster.network().switch(), door)?;
    let etcd = etcd::Etcd::start(&cluster, wire)?;
    let leader = etcd.leader(&load)?;
    levels(name, &load, &leader, stop, etcd::Put::new)
}

fn levels<T: Target>(
    name: &str,
    load: &Load,
    leader: &str,
    stop: &Interrupt,
    target: impl Fn(tonic::transport::Channel) -> T,
) -> Result<Vec<Rate>, HarnessError> {
    let mut rates = Vec::new();
    for clients in CLIENTS {
        stop.check()?;
        let rate = load.drive(leader, clients, &target)?;
        say(&format!(
            "  {name}, {clients} clients: {:.0} writes/s, p50 {:.1} ms, p99 {:.1} ms, {} failed",
            rate.per_s, rate.p50_ms, rate.p99_ms, rate.failed
        ));
        rates.push(rate);
    }
    Ok(rates)
}

/// A file system in memory would measure nothing.
fn real_disk(dir: &Path) -> Result<(), HarnessError> {
    let kind = statfs(dir).map_err(HarnessError::errno(format!("{}", dir.display())))?.filesystem_type();
    if kind == TMPFS_MAGIC {
        let dir = dir.display();
        return Err(HarnessError::broken(format!("{dir} is in memory; set TMPDIR to a directory on a disk")));
    }
    Ok(())
}
