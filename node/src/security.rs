//! Who may come in, and what they may do.
//!
//! ```text
//!   TCP ─ listen ─▶ TLS 1.3 ─▶ Principal ┐
//!   Unix socket ─▶ uid ─────▶ Principal ─┴▶ Gate: access table × admission ─▶ handler
//!   dial ◀─ Live credentials ◀─ store (files) ◀─ renew ◀─ issue (a member of Raft signs)
//! ```
//! **Architecture invariant:** every call passes [`gate`] before any handler; a method that is not in the table of
//! [`access`] is refused.

pub mod access;
pub mod admission;
pub mod dial;
pub mod gate;
pub mod issue;
pub mod join_rate;
pub mod listen;
pub mod note;
pub mod principal;
pub mod recorder;
pub mod rejections;
pub mod renew;
pub mod store;
