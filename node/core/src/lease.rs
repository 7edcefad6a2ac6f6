//! The lease protocol of LEASES.md as two state machines: a host may run exclusive instances only while a majority
//! of voters keeps acknowledging it, and the same majority must give it up, for good, before anything is
//! reassigned. Time is always an argument; nothing here reads a clock, sends or waits.
//!
//! ```text
//!   guard                                   voter                                    leader
//!   HostLease ── Heartbeat ───────────────▶ VoterLease ── AgeReport ───────────────▶ Detector
//!      ▲   └──── Fenced ──────────────────▶    │  ▲                                    │
//!      └──────── Answer: Ack | Closed ─────────┘  └── CloseRequest / Promise ──────────┤
//!                                                                                      ▼
//!                      every replica, at apply:  judge_close · judge_reopen · judge_voter_up
//! ```
//!
//! | rule | where |
//! |---|---|
//! | R1 heartbeat, send time before the send | [`host::HostLease::heartbeat`] |
//! | R2 conditions of an ack | [`voter::VoterLease::on_heartbeat`] |
//! | R3 majority, adoption, deadline | [`host::HostLease::on_answer`] |
//! | R4 kill before the end; the lapse is final; `Fenced` | [`host::HostLease::phase`], `timer_boottime_ns`, `fenced` |
//! | R5 promise | [`voter::VoterLease::promise`]; whom to ask: [`crate::detector`] |
//! | R6 'just acked' | [`voter::VoterLease`]: `new`, `membership_applied`, `snapshot_installed`, `session_opened`, `tick` |
//! | R7 close | [`close::judge_close`], at apply |
//! | R8 `VoterUp` | [`close::judge_voter_up`], at apply |
//! | R9 `Reopen` | [`close::judge_reopen`], at apply; [`voter::VoterLease::session_reopened`] |
//! | R10, R11 assignments and sessions | the replicated state; the lease test at a start: [`host::HostLease::may_start`] |
//!
//! The rules are a parameter ([`rules::Rules`]); production uses [`rules::Sound`].

pub mod close;
pub mod host;
pub mod membership;
pub mod message;
pub mod rules;
pub mod voter;

pub use host::{Grant, HostEffect, HostLease, HostLeaseState, Phase, Target};
pub use membership::Membership;
pub use message::{Ack, Answer, Closed, Fenced, Heartbeat, ListVersion, Tenure, VoterAddresses, VoterList};
pub use rules::{Rules, Sound};
pub use voter::VoterLease;
