//! The pure core of Muster: it decides, the shell acts.

#![forbid(unsafe_code)]
#![warn(clippy::iter_over_hash_type, clippy::float_arithmetic, clippy::wildcard_enum_match_arm)]

pub mod audit;
pub mod check;
pub mod command;
pub mod control_plane;
pub mod detector;
pub mod event;
pub mod id;
pub mod lease;
pub mod lifecycle;
pub mod refusal;
pub mod scheduler;
pub mod spec;
pub mod state;
pub mod time;
