//! What proves Muster: the harness of real processes, the simulation of the core, invariants and benchmarks.

pub mod bench;
pub mod harness;
pub mod model;
pub mod proof;
pub mod sim;
