//! The kernel under the simulated hosts: it gives all processes their randomness and their clocks.
//!
//! The hash tables of the standard library, the fairness of `select!`, the election timeouts of openraft and Muster's own
//! ids all begin with `getrandom`, and every clock with `clock_gettime`. This file defines both for the whole program,
//! in front of the C library: so one seed decides everything, and nothing in the product has to know of it. Until
//! [`begin`] is called they ask the real kernel.
//!
//! One run needs one operating-system process: some crates count in global variables.

#![allow(
    unsafe_code,
    reason = "two functions of the C library are defined here; there is no safe way to do that"
)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What the clocks of a host show, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// `CLOCK_MONOTONIC`.
    pub monotonic_ns: u64,
    /// `CLOCK_BOOTTIME`.
    pub boottime_ns: u64,
    /// `CLOCK_MONOTONIC_RAW`.
    pub raw_ns: u64,
    /// `CLOCK_REALTIME`.
    pub wall_ns: u64,
}

static SIMULATED: AtomicBool = AtomicBool::new(false);
static ENTROPY: AtomicU64 = AtomicU64::new(0);
static MONOTONIC: AtomicU64 = AtomicU64::new(0);
static BOOTTIME: AtomicU64 = AtomicU64::new(0);
static RAW: AtomicU64 = AtomicU64::new(0);
static WALL: AtomicU64 = AtomicU64::new(0);
static WORLD: AtomicU64 = AtomicU64::new(0);

/// The world's own time, which no process of a host can see.
pub fn set_world_ns(now_ns: u64) {
    WORLD.store(now_ns, Ordering::Relaxed);
}

/// The world's own time, for what stands for a part of a host's kernel.
#[must_use]
pub fn world_ns() -> u64 {
    WORLD.load(Ordering::Relaxed)
}

/// From now on this process lives in a simulation with that seed.
pub fn begin(seed: u64, clocks: Clocks) {
    ENTROPY.store(seed, Ordering::Relaxed);
    set_clocks(clocks);
    SIMULATED.store(true, Ordering::Relaxed);
}

/// Whose clocks are read from now on.
pub fn set_clocks(clocks: Clocks) {
    MONOTONIC.store(clocks.monotonic_ns, Ordering::Relaxed);
    BOOTTIME.store(clocks.boottime_ns, Ordering::Relaxed);
    RAW.store(clocks.raw_ns, Ordering::Relaxed);
    WALL.store(clocks.wall_ns, Ordering::Relaxed);
}

fn next_number() -> u64 {
    let mut z = ENTROPY.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// In front of the C library's.
///
/// # Safety
/// As the C library's: `buffer` has room for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, flags: u32) -> isize {
    if !SIMULATED.load(Ordering::Relaxed) {
        // SAFETY: the arguments are the caller's.
        let outcome = unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) };
        return isize::try_from(outcome).unwrap_or(-1);
    }
    // A question for no bytes asks whether there is such a call; it must not cost a number.
    if length > 0 {
        // SAFETY: the caller says that there is room.
        let bytes = unsafe { std::slice::from_raw_parts_mut(buffer, length) };
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&next_number().to_le_bytes()[..chunk.len()]);
        }
    }
    isize::try_from(length).unwrap_or(-1)
}

/// In front of the C library's.
///
/// # Safety
/// As the C library's: `time` points to a `timespec`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> libc::c_int {
    let source = match clock {
        _ if !SIMULATED.load(Ordering::Relaxed) => None,
        libc::CLOCK_MONOTONIC | libc::CLOCK_MONOTONIC_COARSE => Some(&MONOTONIC),
        libc::CLOCK_BOOTTIME => Some(&BOOTTIME),
        libc::CLOCK_MONOTONIC_RAW => Some(&RAW),
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => Some(&WALL),
        _ => None,
    };
    let Some(source) = source else {
        // SAFETY: the arguments are the caller's.
        let outcome = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
        return libc::c_int::try_from(outcome).unwrap_or(-1);
    };
    let ns = source.load(Ordering::Relaxed);
    let now = libc::timespec {
        tv_sec: libc::time_t::try_from(ns / 1_000_000_000).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::try_from(ns % 1_000_000_000).unwrap_or(0),
    };
    // SAFETY: the caller says that it points to a timespec.
    unsafe { time.write(now) };
    0
}
