//! What proves Muster: the harness of real processes, the models of the lease protocol, the simulation of the core,
//! campaigns of faults, histories of clients, hostile input, and benchmarks.

pub mod bench;
pub mod campaign;
pub mod harness;
pub mod history;
pub mod hostile;
pub mod model;
pub mod proof;
pub mod sim;
pub mod soak;
