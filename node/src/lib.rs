//! The Muster agent: everything that touches the world. What is decided lives in `muster-core`.

#![forbid(unsafe_code)]

pub mod agent;
pub mod clock;
pub mod driver;
pub mod raft;
pub mod storage;
pub mod submit;
