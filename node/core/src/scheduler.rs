//! Where instances should run: pure functions from a state to a plan.

pub mod plan;
