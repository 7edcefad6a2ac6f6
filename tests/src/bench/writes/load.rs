//! The generator: so many clients, each with one call outstanding.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};

use super::encrypted;
use super::target::Target;
use crate::bench::report::Rate;
use crate::bench::statistics::Samples;
use crate::harness::wait::{Moment, millis};
use crate::harness::{HarnessError, Operator, network};

/// Before anything is counted: connections are made and caches filled.
const WARM_UP: Duration = Duration::from_secs(2);
/// How long is counted.
const MEASURE: Duration = Duration::from_secs(6);
/// Clients share connections beyond this.
const MAX_CONNECTIONS: usize = 16;
/// Threads of the generator. The machine's processors are shared with the servers.
const THREADS: usize = 2;
/// A call that takes longer failed.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Clients that stand in a namespace.
pub(super) struct Load {
    runtime: Runtime,
    door: Door,
}

/// What the servers want of a connection.
pub(super) enum Door {
    /// Agents: an operator's certificate.
    Operator(Operator),
    /// Encryption.
    Encrypted,
    /// Nothing.
    Plain,
}

/// When calls are counted.
#[derive(Clone, Copy)]
struct Window {
    begin: Moment,
    end: Moment,
}

impl Load {
    pub(super) fn new(namespace: &str, door: Door) -> Result<Self, HarnessError> {
        let namespace: Arc<str> = namespace.into();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .enable_all()
            .on_thread_start(move || {
                if let Err(error) = network::enter(&namespace) {
                    eprintln!("{error}");
                }
            })
            .build()
            .map_err(HarnessError::io("starting a runtime"))?;
        Ok(Self { runtime, door })
    }

    /// A connection that is made at its first use.
    pub(super) fn connect(&self, endpoint: &str) -> Result<Channel, HarnessError> {
        let _inside = self.runtime.enter();
        let made = Endpoint::from_shared(format!("http://{endpoint}"));
        let made = made.map_err(|e| HarnessError::broken(format!("{endpoint}: {e}")))?;
        let settings = made.timeout(CALL_TIMEOUT).tcp_nodelay(true);
        match &self.door {
            Door::Operator(operator) => Ok(operator.channel(&settings, endpoint)),
            Door::Encrypted => encrypted::channel(&settings, endpoint),
            Door::Plain => Ok(settings.connect_lazy()),
        }
    }

    /// Runs something on a thread of the namespace.
    pub(super) fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, HarnessError> {
        let done = self.runtime.block_on(self.runtime.spawn(work));
        done.map_err(|e| HarnessError::broken(format!("the generator failed: {e}")))
    }

    /// Lets so many clients write to one agent.
    pub(super) fn drive<T: Target>(
        &self,
        endpoint: &str,
        clients: usize,
        target: impl Fn(Channel) -> T,
    ) -> Result<Rate, HarnessError> {
        let connections = clients.min(MAX_CONNECTIONS);
        let channels: Vec<Channel> =
            (0..connections).map(|_| self.connect(endpoint)).collect::<Result<_, _>>()?;
        let targets: Vec<T> = (0..clients).map(|c| target(channels[c % connections].clone())).collect();
        let begin = after(Moment::now(), WARM_UP);
        let window = Window { begin, end: after(begin, MEASURE) };
        let failed = Arc::new(AtomicU64::new(0));
        let each = targets.into_iter().enumerate().map(|(client, target)| {
            self.runtime.spawn(write_until_the_end(target, client, window, Arc::clone(&failed)))
        });
        let each: Vec<_> = each.collect();
        let latencies = self.run(futures::future::try_join_all(each))?;
        let latencies = latencies.map_err(|e| HarnessError::broken(format!("a client failed: {e}")))?;
        Ok(rate(&latencies.concat(), failed.load(Ordering::Relaxed)))
    }
}

fn after(moment: Moment, time: Duration) -> Moment {
    Moment(moment.0 + u64::try_from(time.as_nanos()).unwrap_or_default())
}

/// Returns how long each call took that ended in the window.
async fn write_until_the_end<T: Target>(
    mut target: T,
    client: usize,
    window: Window,
    failed: Arc<AtomicU64>,
) -> Vec<Duration> {
    let mut latencies = Vec::new();
    loop {
        let sent = Moment::now();
        // The moment makes each value a new one: a write that changes nothing might cost less.
        let written = target.write(client, sent.0).await;
        let answered = Moment::now();
        if answered > window.end {
            return latencies;
        }
        match written {
            Ok(()) if answered >= window.begin => latencies.push(answered.since(sent)),
            Ok(()) => {}
            Err(_) => {
                failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "far fewer than 2^52 calls")]
fn rate(latencies: &[Duration], failed: u64) -> Rate {
    let samples: Samples = latencies.iter().copied().map(millis).collect();
    Rate {
        per_s: samples.count() as f64 / MEASURE.as_secs_f64(),
        p50_ms: samples.median(),
        p99_ms: samples.quantile(0.99),
        failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_counts_calls_of_the_window() {
        let calls = vec![Duration::from_millis(2); 600];
        let rate = rate(&calls, 3);
        assert!((rate.per_s - 100.0).abs() < 1e-9 && (rate.p99_ms - 2.0).abs() < 1e-9);
        assert_eq!(rate.failed, 3);
    }
}
