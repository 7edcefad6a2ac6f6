//! What crosses the wire comes back equal, and stays what it is from version to version.

mod command_strategy;
mod golden;
mod proposals;
mod replies;
mod snapshots;
mod spec_strategy;
mod state_strategy;
