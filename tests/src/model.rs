//! The lease protocol as models small enough to be explored completely: every order of events, not a sample of them.
//!
//! | model | what moves | rules |
//! |---|---|---|
//! | [`lease`] | one session, its voters, restarts, re-openings, clocks, the kernel's timer | R1–R9, R12 |
//! | [`membership`] | the same under a change of voters, with restarts and a lying voter | R2, R3, R5–R8 |
//! | [`sessions`] | sessions and placements of two hosts; the lease is taken for granted | R4, R10, R11 |
//!
//! Each model takes a [`Weakened`] rule; the checker must then find two holders. Time is discrete and unbounded: only
//! ages are kept, and each stops growing where nothing depends on it any more. A leader is whoever: a promise that was
//! given once may be used at any later time. The log is Raft's: one order for all, which each voter follows at its pace.

pub mod catalogue;
pub mod lease;
pub mod membership;
pub mod sessions;
pub mod verdict;
pub mod weakened;

pub use catalogue::{Case, cases};
pub use verdict::Verdict;
pub use weakened::Weakened;
