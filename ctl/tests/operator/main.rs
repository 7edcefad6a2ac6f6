//! The real binary against an agent of canned answers: exit statuses, what goes to stdout and what to stderr,
//! retries, waiting, Ctrl-C.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its scene should end")]

mod acts;
mod belonging;
mod errors;
mod fake;
mod reads;
mod run;
mod secrets;
mod trust;
mod waiting;
