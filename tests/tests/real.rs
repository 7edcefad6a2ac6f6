//! Real agents, guards and servers on hosts made of network namespaces; see `muster_tests::harness`.
//!
//! The cases run one after the other. `MUSTER_REQUIRE_ALL=1` makes it a failure when they can't run here.

#[path = "real/crash.rs"]
mod crash;
#[path = "real/dev.rs"]
mod dev;
#[path = "real/expect.rs"]
mod expect;
#[path = "real/logs.rs"]
mod logs;
#[path = "real/members.rs"]
mod members;
#[path = "real/mistakes.rs"]
mod mistakes;
#[path = "real/partition.rs"]
mod partition;
#[path = "real/planned.rs"]
mod planned;
#[path = "real/processes.rs"]
mod processes;
#[path = "real/replicated.rs"]
mod replicated;
#[path = "real/scene.rs"]
mod scene;
#[path = "real/secrets.rs"]
mod secrets;
#[path = "real/servers.rs"]
mod servers;
#[path = "real/stage.rs"]
mod stage;
#[path = "real/trust.rs"]
mod trust;

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
    let trials = [
        crash::trials,
        partition::trials,
        processes::trials,
        planned::trials,
        logs::trials,
        replicated::trials,
        servers::trials,
        members::trials,
        mistakes::trials,
        trust::trials,
        dev::trials,
        secrets::trials,
    ];
    let conclusion = libtest_mimic::run(&arguments, trials.iter().flat_map(|of| of(&stage)).collect());
    stage.close();
    conclusion.exit_code()
}
