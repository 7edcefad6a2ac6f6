//! A campaign of faults on real processes: again and again something breaks, is healed, and everything must run again.
//!
//! ```text
//!   seed ─▶ schedule ─▶ round: inject, wait, heal, everything runs ─▶ invariants ─▶ tally
//!                         │ services stamp, clients count and record      ▲
//!                         └───────────────────────────────────────────────┘
//! ```
//! Judged is only what the services and the clients saw. A violation is *wrong* (a promise was broken) or *late* (a
//! bound in time was missed, after what the machine itself was late is taken off). A seed decides which faults come in
//! which order, upon whom and for how long; when exactly the processes meet them it can't decide.

pub mod counter;
pub mod fault;
pub mod invariants;
pub mod ledger;
pub mod options;
pub mod play;
pub mod round;
pub mod scene;
pub mod schedule;
pub mod services;
pub mod story;
pub mod tally;

pub use options::Options;
pub use play::play;
pub use scene::Scene;
pub use tally::Tally;
