//! Real agents, guards and servers on hosts made of network namespaces; see `muster_tests::harness`.
//!
//! The cases run one after the other. `MUSTER_REQUIRE_ALL=1` makes it a failure when they can't run here.

#[path = "real/stage.rs"]
mod stage;
#[path = "real/crash.rs"]
mod crash;
#[path = "real/scene.rs"]
mod scene;

use std::process::ExitCode;

use libtest_mimic::Arguments;
use muster_tests::harness::binaries;
use stage::Stage;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Two clusters at once would be judged by how the machine's cores are shared.
    arguments.test_threads = Some(1);
    let obstacle = if arguments.list { None } else { binaries::obstacle() };
    let stage = Stage::new(obstacle, binaries::all_required());
    let trials = [crash::trials(&stage)];
    let conclusion = libtest_mimic::run(&arguments, trials.into_iter().flatten().collect());
    stage.close();
    conclusion.exit_code()
}
