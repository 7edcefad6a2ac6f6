//! Waiting for the cluster to become what was asked for, by looking at its status again and again.

use std::time::Duration;

use muster_proto::v1 as pb;
use tokio::time::{Instant, sleep};

use crate::command::Run;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::progress::Progress;

pub mod node;
pub mod service;

/// So many looks come fast, for acts that take a moment; then slower ones.
const FAST_LOOKS: u32 = 20;
const FAST: Duration = Duration::from_millis(100);
const SLOW: Duration = Duration::from_millis(250);

/// What one look at the status says.
pub enum Verdict {
    /// It is so.
    Done,
    /// Not yet; what is missing.
    Waiting(Vec<String>),
    /// It cannot become so any more.
    Over(Failure),
}

/// Looks until the judge is satisfied.
///
/// # Errors
/// What the judge says, or [`Failure::TimedOut`] with what was missing last.
pub async fn until(
    run: &mut Run,
    mut judge: impl FnMut(&pb::ClusterStatus, Instant) -> Verdict,
) -> Result<pb::ClusterStatus, Failure> {
    let progress = Progress::new(run.out.draws_progress());
    let mut missing = Vec::new();
    for look in 0.. {
        match run.client.get_status(pb::GetStatusRequest { stale: false }).await {
            Ok(status) => match judge(&status, Instant::now()) {
                Verdict::Done => return Ok(status),
                Verdict::Over(failure) => return Err(failure),
                Verdict::Waiting(what) => missing = what,
            },
            // A lost quorum or leader may come back while there is time.
            Err(failure) if failure.is_unanswered() && run.client.is_worth_waiting() => {
                missing.truncate(1);
                let why = match failure.exit() {
                    Exit::TimedOut => "the cluster to answer".to_owned(),
                    _ => format!("the cluster to answer ({failure})"),
                };
                missing.push(why);
            }
            Err(failure) => return Err(failure),
        }
        progress.show(&missing);
        let pause = if look < FAST_LOOKS { FAST } else { SLOW };
        if Instant::now() + pause >= run.client.deadline() {
            break;
        }
        sleep(pause).await;
    }
    let (limit, goes_on) = (run.client.limit(), run.client.has_acted());
    Err(Failure::TimedOut { limit, waiting_for: missing, goes_on })
}
