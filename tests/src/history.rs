//! Histories of the operator's API: concurrent clients read, write and compare-and-set through any agent while hosts
//! fail; what they asked and were told is judged for linearizability, register by register (a history is
//! linearizable exactly if that of each register is).
//!
//! ```text
//!   clients ──▶ any agent          each call: invoked, returned, outcome      per register: is there an order?
//!      └──────────────▶ recorder ─────────────────────────────────────────────▶ judge ──▶ verdict
//! ```
//! An outcome that nobody knows (no answer) may have taken effect at any time after the call, or never.

pub mod clients;
pub mod judge;
pub mod operation;
pub mod recorder;
pub mod registers;

pub use clients::Clients;
pub use judge::{Verdict, judge};
pub use operation::{Call, Operation, Value};
pub use recorder::Recorder;
