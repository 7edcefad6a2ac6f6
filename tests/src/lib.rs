//! The harness of the tests: a simulated cluster and its invariants.

pub mod sim;
