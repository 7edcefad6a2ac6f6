//! Clients of real servers: one on the switch that counts what fails, and one inside each host that watches which
//! copies of a server answer.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::wait::{self, Moment};
use super::{HarnessError, network};

/// Between two requests.
const PERIOD: Duration = Duration::from_millis(5);
/// How long connecting may take: the network is this machine.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(100);
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(300);
/// No answer of these servers is longer.
const ANSWER_BYTES: usize = 16 << 10;

/// What is spoken.
#[derive(Clone, Copy, Debug)]
pub enum Protocol {
    /// Redis: `SET`, and `INFO server` to tell copies apart.
    Redis,
    /// HTTP: `GET /`.
    Http,
}

impl Protocol {
    fn request(self) -> &'static [u8] {
        match self {
            Self::Redis => b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n",
            Self::Http => b"GET / HTTP/1.1\r\nHost: test\r\n\r\n",
        }
    }

    fn is_success(self, answer: &[u8]) -> bool {
        match self {
            Self::Redis => answer.starts_with(b"+OK"),
            Self::Http => answer.starts_with(b"HTTP/1.1 200"),
        }
    }
}

/// A connection with this harness's limits.
///
/// # Errors
/// When the server can't be reached in time.
pub fn connect(server: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&server, CONNECT_TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    Ok(stream)
}

/// Asks and reads one answer; these servers send theirs in one piece.
fn ask(stream: &mut TcpStream, request: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(request)?;
    let mut answer = vec![0; ANSWER_BYTES];
    let read = stream.read(&mut answer)?;
    if read == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    answer.truncate(read);
    Ok(answer)
}

fn is_late(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock)
}

/// One HTTP request of the calling thread; the whole answer.
///
/// # Errors
/// When nobody answers in time.
pub fn get(server: &str, path: &str) -> std::io::Result<String> {
    let mut stream = connect(server.parse().map_err(std::io::Error::other)?)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    let answer = ask(&mut stream, request.as_bytes())?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A thread inside a namespace that repeats one step until it is dropped.
#[derive(Debug)]
pub struct Repeated {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Repeated {
    /// Starts repeating.
    #[must_use]
    pub fn start(namespace: &str, mut step: impl FnMut() + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, namespace) = (Arc::clone(&stop), namespace.to_owned());
        let thread = std::thread::spawn(move || {
            if let Err(error) = network::enter(&namespace) {
                eprintln!("{error}");
                return;
            }
            while !stopped.load(Ordering::Relaxed) {
                step();
                wait::pass(PERIOD);
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Repeated {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            eprintln!("a client of a case panicked");
        }
    }
}

/// What a client counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Requests that were answered.
    pub answered: u64,
    /// Requests that were not, `late` ones included.
    pub failed: u64,
    /// Requests that were given up because no answer came in time, which a busy machine can cause too.
    pub late: u64,
    /// The longest time between two answered requests.
    pub longest_outage: Duration,
    last: Option<Moment>,
}

/// A client that knows all servers, stays with one while it answers, and goes on to the next when it does not.
#[derive(Debug)]
pub struct Client {
    tally: Arc<Mutex<Tally>>,
    _thread: Repeated,
}

impl Client {
    /// Starts asking.
    #[must_use]
    pub fn start(namespace: &str, protocol: Protocol, servers: Vec<SocketAddr>) -> Self {
        let tally = Arc::new(Mutex::new(Tally::default()));
        let counted = Arc::clone(&tally);
        let (mut at, mut stream) = (0, None);
        let thread = Repeated::start(namespace, move || {
            let answer = match stream.take() {
                Some(open) => Ok(open),
                None => connect(servers[at % servers.len()]),
            }
            .and_then(|mut open| ask(&mut open, protocol.request()).map(|answer| (open, answer)));
            let mut tally = counted.lock().unwrap_or_else(PoisonError::into_inner);
            match answer {
                Ok((open, answer)) if protocol.is_success(&answer) => {
                    let now = Moment::now();
                    let outage = tally.last.map_or(Duration::ZERO, |last| now.since(last));
                    tally.longest_outage = tally.longest_outage.max(outage);
                    tally.answered += 1;
                    tally.last = Some(now);
                    stream = Some(open);
                }
                other => {
                    tally.failed += 1;
                    tally.late += u64::from(other.is_err_and(|error| is_late(&error)));
                    at += 1;
                }
            }
        });
        Self { tally, _thread: thread }
    }

    /// Waits until it is answered.
    ///
    /// # Errors
    /// When nobody answers in time.
    pub fn answered(&self, limit: Duration) -> Result<(), HarnessError> {
        let asked = Moment::now();
        wait::until(limit, "the server to answer", || {
            let tally = self.tally();
            if tally.last.is_some_and(|last| last > asked) { Ok(()) } else { Err(format!("{tally:?}")) }
        })
    }

    /// What was counted since the last [`Client::reset`].
    #[must_use]
    pub fn tally(&self) -> Tally {
        *self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to count anew.
    pub fn reset(&self) {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        *tally = Tally { last: tally.last, ..Tally::default() };
    }
}

/// One copy of a server as it was seen to answer: it surely lived all the time in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The host.
    pub node: String,
    /// When its first answer had arrived.
    pub first: Moment,
    /// When the last question that it answered was sent.
    pub last: Moment,
}

/// Watches from inside every host which copies of Redis answer; a cable that is pulled does not blind it.
#[derive(Debug)]
pub struct RedisWatch {
    seen: Arc<Mutex<BTreeMap<String, Sighting>>>,
    _threads: Vec<Repeated>,
}

impl RedisWatch {
    /// Starts watching hosts, given as name and namespace.
    #[must_use]
    pub fn start(hosts: Vec<(String, String)>, port: u16) -> Self {
        let seen = Arc::new(Mutex::new(BTreeMap::new()));
        let threads = hosts.into_iter().map(|(node, namespace)| {
            let seen = Arc::clone(&seen);
            let mut stream = None;
            Repeated::start(&namespace, move || {
                let asked = Moment::now();
                let answer = match stream.take() {
                    Some(open) => Ok(open),
                    None => connect(SocketAddr::from(([127, 0, 0, 1], port))),
                }
                .and_then(|mut open| {
                    ask(&mut open, b"*2\r\n$4\r\nINFO\r\n$6\r\nserver\r\n").map(|answer| (open, answer))
                });
                let Ok((open, answer)) = answer else { return };
                stream = Some(open);
                if let Some(run) = run_id(&answer) {
                    see(&seen, run, &node, asked);
                }
            })
        });
        Self { _threads: threads.collect(), seen }
    }

    /// The copies that were seen, by their first answer.
    #[must_use]
    pub fn sightings(&self) -> Vec<Sighting> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<Sighting> = seen.values().cloned().collect();
        all.sort_by_key(|sighting| sighting.first);
        all
    }

    /// Fails if two copies were ever seen to answer at once.
    ///
    /// # Errors
    /// With the two, when they were.
    pub fn never_two(&self) -> Result<(), HarnessError> {
        let all = self.sightings();
        for (at, a) in all.iter().enumerate() {
            for b in &all[at + 1..] {
                let both = a.last.min(b.last).since(a.first.max(b.first));
                if !both.is_zero() {
                    let ms = wait::millis(both);
                    return Err(HarnessError::broken(format!(
                        "two Redis at once for {ms:.1} ms: {a:?} and {b:?}"
                    )));
                }
            }
        }
        Ok(())
    }
}

/// Redis makes a random number for itself at each start.
fn run_id(answer: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(answer);
    text.lines().find_map(|line| line.strip_prefix("run_id:")).map(|id| id.trim().to_owned())
}

fn see(seen: &Mutex<BTreeMap<String, Sighting>>, run: String, node: &str, asked: Moment) {
    let now = Moment::now();
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let sighting = seen.entry(run).or_insert(Sighting { node: node.to_owned(), first: now, last: asked });
    sighting.last = sighting.last.max(asked);
}
