//! What proves Muster: the harness of real processes, the simulation of the core, invariants and benchmarks.

pub mod bench;
pub mod campaign;
pub mod harness;
pub mod history;
pub mod sim;
