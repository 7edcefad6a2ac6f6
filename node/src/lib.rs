//! The Muster agent: everything that touches the world. What is decided lives in `muster-core`.

#![forbid(unsafe_code)]

pub mod acks;
pub mod agent;
pub mod api;
mod blocking;
pub mod clock;
pub mod cluster_clock;
pub mod command;
pub mod config;
pub mod controller;
pub mod dev;
pub mod driver;
pub mod follow;
pub mod handles;
pub mod http;
pub mod node;
pub mod notify;
mod numbers;
pub mod office;
pub mod peers;
pub mod proposer;
pub mod raft;
pub mod replica;
pub mod seal;
pub mod secrets;
pub mod security;
pub mod seed;
pub mod stamp;
pub mod storage;
pub mod submit;
pub mod telemetry;
pub mod token;
