//! A relay on a host's cable that makes packets late: this kernel has no `netem`.
//!
//! ```text
//!   host ── veth ── tap ◀── relay ──▶ tap ── veth ── bridge
//! ```
//! Each tap is a macvtap device: whole frames are read from and written to a file.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::wait::{self, Moment};
use super::{HarnessError, Network, tool};
use crate::sim::rng::Rng;

/// The largest frame, with the header that the kernel puts before it.
const FRAME_BYTES: usize = 70_000;
/// Frames that may be on their way; more are lost, as in a queue that is full.
const QUEUE_MAX: usize = 4_000;
/// How long a thread waits before it looks whether it shall end.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long the kernel may take to let go of a host's device.
const LETS_GO_WITHIN: Duration = Duration::from_secs(10);

/// What befalls packets.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// All are late by that.
    pub delay_ms: u64,
    /// Each by up to that more.
    pub jitter_ms: u64,
    /// None overtakes another.
    pub in_order: bool,
    /// So many of a hundred arrive twice.
    pub doubled_percent: u64,
    /// Decides which.
    pub seed: u64,
}

/// A relay in place.
#[derive(Debug)]
pub struct Relay {
    switch: String,
    host: String,
    nodes: Vec<PathBuf>,
    carried: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    /// Why there can be none.
    #[must_use]
    pub fn obstacle() -> Option<String> {
        static FOUND: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
        FOUND.get_or_init(|| probe().err().map(|error| format!("no macvtap device: {error}"))).clone()
    }

    /// Puts a relay between a host and the bridge.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn insert(network: &Network, host: &str, weather: Weather) -> Result<Self, HarnessError> {
        let switch = network.switch();
        let (outer, inner) = (format!("{host}-o"), format!("{host}-i"));
        let mut relay = Self {
            switch: switch.clone(),
            host: host.to_owned(),
            nodes: Vec::new(),
            carried: Arc::default(),
            stop: Arc::default(),
            threads: Vec::new(),
        };
        tool::ip(&format!("-n {switch} link add {outer} type veth peer name {inner}"))?;
        tool::ip(&format!("-n {switch} link set {outer} master sw0 up"))?;
        tool::ip(&format!("-n {switch} link set {inner} up"))?;
        tool::ip(&format!("-n {switch} link set {host} nomaster"))?;
        let host_side = relay.tap(host, &format!("{host}-h"))?;
        let bridge_side = relay.tap(&inner, &format!("{host}-b"))?;
        let pairs = [(host_side.0, bridge_side.1, 0), (bridge_side.0, host_side.1, 1)];
        for (from, to, number) in pairs {
            let (stop, rng) = (Arc::clone(&relay.stop), Rng::new(weather.seed.wrapping_add(number)));
            let carried = Arc::clone(&relay.carried);
            relay.threads.push(std::thread::spawn(move || {
                let frames = carry(from, to, weather, rng, &stop);
                carried.fetch_add(frames, Ordering::Relaxed);
            }));
        }
        Ok(relay)
    }

    /// Makes a tap on a device; its file, once for reading and once for writing.
    fn tap(&mut self, device: &str, name: &str) -> Result<(File, File), HarnessError> {
        let switch = self.switch.clone();
        tool::ip(&format!("-n {switch} link add link {device} name {name} type macvtap mode passthru"))?;
        tool::ip(&format!("-n {switch} link set {name} up"))?;
        let path = make_node(&switch, name)?;
        let open = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).custom_flags(nix::libc::O_NONBLOCK);
            options.open(&path).map_err(HarnessError::io(format!("{}", path.display())))
        };
        let opened = open();
        self.nodes.push(path.clone());
        let file = opened?;
        let again = file.try_clone().map_err(HarnessError::io("duplicating a descriptor"))?;
        Ok((file, again))
    }

    /// Takes it away: the cable is as it was.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn remove(mut self) -> Result<(), HarnessError> {
        self.end_threads();
        let Self { switch, host, .. } = &self;
        // Until the host is back on the bridge it is cut off, and deleting a device may take the kernel a second: it
        // lets go of the host's device long before that.
        let delete = format!("-n {switch} link del {host}-h");
        let deletion = std::thread::spawn(move || tool::ip(&delete));
        let back = format!("-n {switch} link set {host} master sw0 up");
        wait::until(LETS_GO_WITHIN, "the kernel lets go of a device", || {
            tool::ip(&back).map_err(|error| error.to_string())
        })?;
        deletion.join().map_err(|_| HarnessError::broken("deleting a device panicked"))??;
        tool::ip(&format!("-n {switch} link del {host}-o"))?;
        if self.carried.load(Ordering::Relaxed) > 0 {
            return Ok(());
        }
        Err(HarnessError::broken(format!("the relay of {host} carried nothing")))
    }

    fn end_threads(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                eprintln!("a relay panicked");
            }
        }
        for node in self.nodes.drain(..) {
            if let Err(error) = std::fs::remove_file(&node) {
                eprintln!("cleaning up {}: {error}", node.display());
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.end_threads();
    }
}

/// The device file of a tap. The one in /dev is named by a number that other namespaces use as well.
fn make_node(namespace: &str, name: &str) -> Result<PathBuf, HarnessError> {
    let find = format!("cat /sys/class/net/{name}/macvtap/tap*/dev");
    let found = tool::run_inside(namespace, Path::new("sh"), &["-c", &find])?.success()?.stdout;
    let Some((major, minor)) = found.trim().split_once(':') else {
        return Err(HarnessError::broken(format!("{name} has no device: {found}")));
    };
    let path = std::env::temp_dir().join(format!("{namespace}-{name}"));
    tool::run("mknod", &[&path.display().to_string(), "c", major, minor])?.success()?;
    Ok(path)
}

fn probe() -> Result<(), HarnessError> {
    let name = format!("{}{}-tap", super::sweep::NAMESPACE_PREFIX, std::process::id());
    tool::ip(&format!("netns add {name}"))?;
    let made = tool::ip(&format!("-n {name} link add v0 type veth peer name v1"))
        .and_then(|()| tool::ip(&format!("-n {name} link add link v0 name t0 type macvtap mode passthru")))
        .and_then(|()| make_node(&name, "t0"));
    let opened = made.and_then(|path| {
        let opened = File::open(&path).map_err(HarnessError::io(format!("{}", path.display())));
        std::fs::remove_file(&path).map_err(HarnessError::io("removing a device file"))?;
        opened
    });
    tool::ip(&format!("netns del {name}"))?;
    opened.map(drop)
}

/// Carries frames one way; how many arrived.
fn carry(mut from: File, mut to: File, weather: Weather, mut rng: Rng, stop: &AtomicBool) -> u64 {
    // By the moment when they are due, and a number, because two may be due at once.
    let mut queue: BTreeMap<(Moment, u64), Vec<u8>> = BTreeMap::new();
    let mut buffer = vec![0; FRAME_BYTES];
    let (mut number, mut arrived, mut last_due) = (0, 0, Moment(0));
    while !stop.load(Ordering::Relaxed) {
        let now = Moment::now();
        while let Some(entry) = queue.first_entry().filter(|entry| entry.key().0 <= now) {
            // A frame that can't be sent is one that was lost.
            arrived += u64::from(to.write(&entry.remove()).is_ok());
        }
        let next = queue.first_key_value().map_or(LOOK_EVERY, |((due, _), _)| due.since(now).min(LOOK_EVERY));
        let wait_ms = u16::try_from(next.as_millis().max(1)).unwrap_or(1);
        let mut polled = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
        if poll(&mut polled, PollTimeout::from(wait_ms)).unwrap_or(0) == 0 {
            continue;
        }
        while let Ok(read) = from.read(&mut buffer) {
            let copies = 1 + u64::from(rng.percent(weather.doubled_percent));
            for _copy in 0..copies {
                let late_ms = weather.delay_ms + rng.below(weather.jitter_ms + 1);
                let mut due = Moment::now() + Duration::from_millis(late_ms);
                if weather.in_order {
                    due = due.max(last_due);
                    last_due = due;
                }
                number += 1;
                if queue.len() < QUEUE_MAX {
                    queue.insert((due, number), buffer[..read].to_vec());
                }
            }
        }
    }
    arrived
}
