//! Priority for what must not wait for the CPU: the guard and its shims, and the voter's thread that acks.

use crate::kernel;

/// A middling real-time priority: above ordinary work, below the kernel's own threads.
const REALTIME: i32 = 40;
/// Nice value where real-time priority is not allowed.
const URGENT_NICE: i32 = -20;

/// Gives the calling thread real-time priority where that is allowed, a low nice value otherwise if that is.
/// Returns whether it got real-time priority.
pub fn raise_this_thread() -> bool {
    let realtime = kernel::set_realtime(REALTIME);
    if !realtime {
        // Refused without privileges: it then goes on as it is.
        let _refused = kernel::set_ordinary_priority(URGENT_NICE);
    }
    realtime
}
