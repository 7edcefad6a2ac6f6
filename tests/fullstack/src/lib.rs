//! The whole of Muster, many hosts in one process: the agent as it is, with openraft, tonic, controller, API and the
//! voter's half of the leases, on simulated network, disks and clocks. One seed is one run, to the last message.
//!
//! ```text
//!   World ── step ──▶ Network   what is due arrives
//!         ├─ step ──▶ Machine   clocks, tasks, the kernel's timer
//!         ├─ step ──▶ Process   agent · guard · operators, each a runtime of its own
//!         └─ Faults, then peace ──▶ Checker: one file for each promise
//! ```

pub mod agent;
pub mod disk;
pub mod faults;
pub mod guard;
pub mod invariants;
pub mod kernel;
pub mod machine;
pub mod mutant;
pub mod network;
pub mod operators;
pub mod process;
pub mod run;
pub mod runner;
pub mod tasks;
pub mod trace;
pub mod world;
