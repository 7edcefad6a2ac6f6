//! The simulation of the whole stack: runs many seeds, each in a process of its own, and prints one table.
//!
//! ```text
//! cargo test -p muster-fullstack                                       the short form
//! MUSTER_FULLSTACK_SEEDS=20000 cargo test -p muster-fullstack          the long form
//! cargo test -p muster-fullstack --test fullstack -- --seed 17         one seed, with its story
//! cargo test -p muster-fullstack --test fullstack -- --mutants 40      in how many seeds each mutant is caught
//! ```

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    muster_fullstack::runner::main(&arguments)
}
