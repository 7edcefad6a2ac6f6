//! Work that may block: files, and long thought.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::JoinError;

/// Runs `work` away from the threads that serve the network, and waits for its outcome.
///
/// A runtime of a single thread has no such threads to spare: whoever chose it wants one thing done after the other, as
/// a simulation does, whose runs must be alike. There the work is done in place.
///
/// # Errors
/// When the work panicked, or the runtime is ending.
pub(crate) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await
}
