//! Where cases are played: a cluster that is handed from case to case while it stays whole.

use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Completion, Failed, Trial};
use muster_tests::harness::wait::{Moment, millis};
use muster_tests::harness::{Cluster, HarnessError};

/// Lines of each log that a failed case shows.
const LOG_LINES: usize = 40;
/// Hosts of the shared cluster.
const HOSTS: usize = 3;

/// What a case returns.
pub type Played = Result<(), HarnessError>;

/// The shared cluster, if one is there.
#[derive(Clone)]
pub struct Stage {
    shared: Arc<Mutex<Option<Cluster>>>,
    obstacle: Option<String>,
    required: bool,
}

impl Stage {
    pub fn new(obstacle: Option<String>, required: bool) -> Self {
        Self { shared: Arc::default(), obstacle, required }
    }

    /// A case on the shared cluster. It must leave it whole; one that fails takes it along.
    pub fn shared(&self, name: &str, case: fn(&mut Cluster) -> Played) -> Trial {
        let shared = Arc::clone(&self.shared);
        self.trial(name, move || {
            let kept = shared.lock().unwrap_or_else(PoisonError::into_inner).take();
            let mut cluster = match kept {
                Some(cluster) => cluster,
                None => Cluster::start(HOSTS)?,
            };
            play(&mut cluster, case)?;
            *shared.lock().unwrap_or_else(PoisonError::into_inner) = Some(cluster);
            Ok(())
        })
    }

    /// A case on hosts of its own that have neither joined nor started; it need not leave them whole.
    pub fn own(&self, name: &str, hosts: usize, case: fn(&mut Cluster) -> Played) -> Trial {
        self.trial(name, move || {
            let mut cluster = Cluster::prepare(hosts)?;
            case(&mut cluster).map_err(|error| explain(&error, &cluster))
        })
    }

    /// A case without a cluster of the harness.
    pub fn alone(&self, name: &str, case: fn() -> Played) -> Trial {
        self.trial(name, move || case().map_err(|error| error.to_string().into()))
    }

    fn trial(&self, name: &str, case: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Trial {
        let (obstacle, required, shown) = (self.obstacle.clone(), self.required, name.to_owned());
        Trial::ignorable_test(name, move || {
            if let Some(obstacle) = obstacle {
                if required {
                    return Err(format!("cannot run here, and MUSTER_REQUIRE_ALL=1: {obstacle}").into());
                }
                println!("SKIPPED {shown}: {obstacle}");
                return Ok(Completion::ignored_with(obstacle));
            }
            let start = Moment::now();
            case()?;
            println!("    took {:.1} s", millis(start.elapsed()) / 1000.0);
            Ok(Completion::Completed)
        })
    }

    /// Ends the shared cluster.
    pub fn close(&self) {
        drop(self.shared.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

fn play(cluster: &mut Cluster, case: fn(&mut Cluster) -> Played) -> Result<(), Failed> {
    let played = case(cluster).and_then(|()| cluster.whole());
    played.map_err(|error| explain(&error, cluster))
}

fn explain(error: &HarnessError, cluster: &Cluster) -> Failed {
    format!("{error}\n{}", cluster.logs(LOG_LINES)).into()
}
