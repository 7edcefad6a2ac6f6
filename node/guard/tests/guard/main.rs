//! The guard as real processes: this test binary starts itself as the guard.

#![expect(clippy::disallowed_methods, reason = "these tests start real processes and wait in real time")]

mod crowd;
mod disk;
mod ending;
mod harness;
mod starting;
mod upgrading;
mod voter;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "guard") {
        // Before any thread is started, as in the real binary.
        return muster_guard::run(&arguments[1..]);
    }
    if let Some(code) = harness::task_role(&arguments) {
        return code;
    }
    let mut arguments = Arguments::from_args();
    // The figures of one test are spoiled by the load of another.
    arguments.test_threads.get_or_insert(1);
    let all = [starting::trials(), ending::trials(), disk::trials(), crowd::trials(), upgrading::trials()];
    let trials: Vec<Trial> = all.into_iter().flatten().collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
