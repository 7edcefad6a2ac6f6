//! An exclusive Redis on storage that all hosts share, and a client that counts in it: two copies at once would spoil
//! the file or the count, and what was acknowledged once must be there on the next host.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::harness::client::{RedisWatch, Repeated, connect};
use crate::harness::{Cluster, HarnessError, wait};

const REDIS: &str = "/usr/bin/redis-server";
const PORT: u16 = 6379;
/// No answer to `INCR` is longer.
const ANSWER_BYTES: usize = 64;

/// What the client saw.
#[derive(Clone, Debug, Default)]
pub struct Count {
    /// The highest count that was acknowledged.
    pub acknowledged: u64,
    /// Counts that were answered.
    pub answered: u64,
    /// Counts that were not.
    pub failed: u64,
    /// Counts that went back, or jumped further than what was ever asked.
    pub violations: Vec<String>,
}

/// The service and its client.
#[derive(Debug)]
pub struct Counter {
    count: Arc<Mutex<Count>>,
    watch: RedisWatch,
    _client: Repeated,
}

impl Counter {
    /// Declares the service and starts counting; `None` without Redis.
    ///
    /// # Errors
    /// When it is refused.
    pub fn open(cluster: &Cluster) -> Result<Option<Self>, HarnessError> {
        if !Path::new(REDIS).is_file() {
            return Ok(None);
        }
        let shared = cluster.dir().join("shared-storage");
        std::fs::create_dir_all(&shared).map_err(HarnessError::io("shared storage"))?;
        cluster.api().apply(&declaration(&shared))?;
        let hosts = cluster.hosts();
        let parsed = hosts.iter().map(|host| format!("{}:{PORT}", host.address()).parse());
        let servers: Vec<SocketAddr> =
            parsed.collect::<Result<_, _>>().map_err(|e| HarnessError::broken(format!("an address: {e}")))?;
        let count = Arc::new(Mutex::new(Count::default()));
        let inside = hosts.iter().map(|h| (h.name().to_owned(), h.namespace().to_owned())).collect();
        let watch = RedisWatch::start(inside, PORT);
        let client = client(&cluster.network().switch(), servers, Arc::clone(&count));
        Ok(Some(Self { count, watch, _client: client }))
    }

    /// What the client saw so far.
    #[must_use]
    pub fn count(&self) -> Count {
        self.count.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until it is answered again, and fails if two copies ever answered at once.
    ///
    /// # Errors
    /// Then.
    pub fn check(&self, limit: Duration) -> Result<(), HarnessError> {
        let before = self.count().answered;
        wait::until(limit, "the counter to go on", || {
            let count = self.count();
            if count.answered > before { Ok(()) } else { Err(format!("{count:?}")) }
        })?;
        self.watch.never_two()
    }
}

fn declaration(shared: &Path) -> String {
    // Every count is in the file before it is answered.
    format!(
        "[[service]]\nname = \"counter\"\nmode = \"exclusive\"\nstop_timeout = \"5s\"\n[[service.task]]\n\
         name = \"server\"\n[service.task.exec]\ncommand = [{REDIS:?}, \"--port\", \"{PORT}\", \"--bind\", \
         \"0.0.0.0\", \"--protected-mode\", \"no\", \"--save\", \"\", \"--appendonly\", \"yes\", \
         \"--appendfsync\", \"always\", \"--dir\", {:?}]\n",
        shared.display().to_string()
    )
}

fn client(switch: &str, servers: Vec<SocketAddr>, count: Arc<Mutex<Count>>) -> Repeated {
    let (mut at, mut stream) = (0, None);
    Repeated::start(switch, move || {
        let asked = match stream.take() {
            Some(open) => Ok(open),
            None => connect(servers[at % servers.len()]),
        };
        let answered = asked.and_then(|mut open| increment(&mut open).map(|value| (open, value)));
        let mut count = count.lock().unwrap_or_else(PoisonError::into_inner);
        match answered {
            Ok((open, value)) => {
                count.see(value);
                stream = Some(open);
            }
            Err(_) => {
                count.failed += 1;
                at += 1;
            }
        }
    })
}

fn increment(stream: &mut TcpStream) -> std::io::Result<u64> {
    stream.write_all(b"*2\r\n$4\r\nINCR\r\n$5\r\ncount\r\n")?;
    let mut answer = [0; ANSWER_BYTES];
    let read = stream.read(&mut answer)?;
    let text = String::from_utf8_lossy(&answer[..read]).into_owned();
    // Anything else, such as 'LOADING', is no count.
    let number = text.strip_prefix(':').and_then(|rest| rest.trim().parse().ok());
    number.ok_or_else(|| std::io::Error::other(text))
}

impl Count {
    /// A count that was answered. One client counts, so each is above the one before, by at most one for each
    /// question that was not answered.
    fn see(&mut self, value: u64) {
        let highest = self.answered + self.failed + 1;
        if value <= self.acknowledged || value > highest {
            let Self { acknowledged, .. } = self;
            self.violations
                .push(format!("the count went from {acknowledged} to {value}, of {highest} asked"));
        }
        self.acknowledged = self.acknowledged.max(value);
        self.answered += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_that_goes_back_or_jumps_is_seen() {
        let mut count = Count::default();
        count.see(1);
        count.see(2);
        count.failed += 1;
        count.see(4);
        assert!(count.violations.is_empty());
        let good = count.clone();
        count.see(4);
        assert_eq!(count.violations.len(), 1);
        let mut count = good;
        count.see(9);
        assert_eq!(count.violations.len(), 1);
    }
}
