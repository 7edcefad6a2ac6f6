//! Property tests of the pure core: one binary, a file a subject.

#![allow(clippy::unwrap_used, reason = "tests; functions beside the tests are not exempted")]

#[path = "core/agents.rs"]
mod agents;
#[path = "core/apply.rs"]
mod apply;
#[path = "core/audit.rs"]
mod audit;
#[path = "core/control_plane.rs"]
mod control_plane;
#[path = "core/forged.rs"]
mod forged;
#[path = "core/lifecycle.rs"]
mod lifecycle;
#[path = "core/secrets.rs"]
mod secrets;
#[path = "core/trust.rs"]
mod trust;
#[path = "core/world.rs"]
mod world;
