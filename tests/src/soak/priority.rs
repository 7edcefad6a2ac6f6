//! Standing back: work that only uses what others leave over.

use crate::harness::tool;

/// From now on the calling thread, and the threads that it starts, run only when nobody else wants to.
pub fn yield_to_others() {
    let thread = nix::unistd::gettid().to_string();
    let done = tool::run("chrt", &["--idle", "--pid", "0", &thread]).and_then(tool::Finished::success);
    if let Err(error) = done {
        eprintln!("the background runs at ordinary priority: {error}");
    }
}
