//! Namespaces, one for each host and one for the switch between them, and faults of the links.

use std::fs::File;
use std::path::Path;

use nix::sched::{CloneFlags, setns};

use super::{HarnessError, sweep, tool};

/// Hosts are 10.77.0.1, .2, …; the switch, where operators and clients stand, is .254. The namespaces of
/// another run don't see these.
const SUBNET: &str = "10.77.0";
const SWITCH_ADDRESS: u8 = 254;

/// The namespaces of one cluster.
#[derive(Debug)]
pub struct Network {
    prefix: String,
    hosts: Vec<String>,
}

impl Network {
    /// Makes the switch.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn new() -> Result<Self, HarnessError> {
        // Several clusters may exist in one process, one after the other or at once.
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        sweep::sweep();
        let prefix = format!("{}{}-{count}", sweep::NAMESPACE_PREFIX, std::process::id());
        let network = Self { prefix, hosts: Vec::new() };
        let switch = network.switch();
        tool::ip(&format!("netns add {switch}"))?;
        tool::ip(&format!("-n {switch} link set lo up"))?;
        tool::ip(&format!("-n {switch} link add sw0 type bridge forward_delay 0"))?;
        tool::ip(&format!("-n {switch} addr add {SUBNET}.{SWITCH_ADDRESS}/24 dev sw0"))?;
        tool::ip(&format!("-n {switch} link set sw0 up"))?;
        Ok(network)
    }

    /// The namespace of the switch.
    #[must_use]
    pub fn switch(&self) -> String {
        format!("{}-sw", self.prefix)
    }

    /// The namespace of a host.
    #[must_use]
    pub fn namespace(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }

    /// Adds a host and connects it; its address.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn add_host(&mut self, host: &str) -> Result<String, HarnessError> {
        let (switch, own) = (self.switch(), self.namespace(host));
        self.hosts.push(host.to_owned());
        let address = format!("{SUBNET}.{}", self.hosts.len());
        tool::ip(&format!("netns add {own}"))?;
        tool::ip(&format!("-n {switch} link add {host} type veth peer name eth0 netns {own}"))?;
        tool::ip(&format!("-n {switch} link set {host} master sw0 up"))?;
        tool::ip(&format!("-n {own} link set lo up"))?;
        tool::ip(&format!("-n {own} addr add {address}/24 dev eth0"))?;
        tool::ip(&format!("-n {own} link set eth0 up"))?;
        Ok(address)
    }

    /// Pulls the host's cable.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn cut(&self, host: &str) -> Result<(), HarnessError> {
        tool::ip(&format!("-n {} link set {host} down", self.switch()))
    }

    /// Plugs the cable in and drops all filters of the host.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn heal(&self, host: &str) -> Result<(), HarnessError> {
        self.filter(host, &["-F"])?;
        tool::ip(&format!("-n {} link set {host} up", self.switch()))
    }

    /// The host no longer hears anybody, but all hear it.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn deafen(&self, host: &str) -> Result<(), HarnessError> {
        self.filter(host, &["-A", "INPUT", "!", "-i", "lo", "-j", "DROP"])
    }

    /// Nobody hears the host any more, but it hears all.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn mute(&self, host: &str) -> Result<(), HarnessError> {
        self.filter(host, &["-A", "OUTPUT", "!", "-o", "lo", "-j", "DROP"])
    }

    /// Nothing passes between two hosts any more, in either direction.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn separate(&self, a: &str, b: &str) -> Result<(), HarnessError> {
        self.filter(a, &["-A", "INPUT", "-s", &self.address(b)?, "-j", "DROP"])?;
        self.filter(b, &["-A", "INPUT", "-s", &self.address(a)?, "-j", "DROP"])
    }

    /// The host loses this share of what is sent to it.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn lose(&self, host: &str, percent: u8) -> Result<(), HarnessError> {
        let share = format!("{:.2}", f64::from(percent) / 100.0);
        let rule =
            ["-A", "INPUT", "!", "-i", "lo", "-m", "statistic", "--mode", "random", "--probability", &share];
        self.filter(host, &[&rule[..], &["-j", "DROP"]].concat())
    }

    fn filter(&self, host: &str, rule: &[&str]) -> Result<(), HarnessError> {
        let args = [&["-w"], rule].concat();
        tool::run_inside(&self.namespace(host), Path::new("iptables"), &args)?.success().map(|_| ())
    }

    /// The host's address.
    ///
    /// # Errors
    /// When there is no such host.
    pub fn address(&self, host: &str) -> Result<String, HarnessError> {
        let at = self.hosts.iter().position(|h| h == host);
        at.map(|at| format!("{SUBNET}.{}", at + 1)).ok_or_else(|| HarnessError::NoHost(host.to_owned()))
    }

    /// All namespaces.
    #[must_use]
    pub fn namespaces(&self) -> Vec<String> {
        let hosts = self.hosts.iter().map(|h| self.namespace(h));
        hosts.chain([self.switch()]).collect()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for namespace in self.namespaces() {
            if let Err(error) = tool::ip(&format!("netns del {namespace}")) {
                eprintln!("cleaning up: {error}");
            }
        }
    }
}

/// Moves the calling thread into a namespace for the rest of its life.
///
/// # Errors
/// When the namespace is gone or may not be entered.
pub fn enter(namespace: &str) -> Result<(), HarnessError> {
    let path = format!("/run/netns/{namespace}");
    let file = File::open(&path).map_err(HarnessError::io(path.clone()))?;
    setns(file, CloneFlags::CLONE_NEWNET).map_err(HarnessError::errno(format!("entering {path}")))
}
