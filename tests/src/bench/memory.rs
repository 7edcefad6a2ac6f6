//! What the kernel says about a process.

use nix::unistd::{Pid, SysconfVar, sysconf};

/// The memory of processes; bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Resident; pages that several processes share count for each.
    pub rss_bytes: u64,
    /// Resident; shared pages count in proportion.
    pub pss_bytes: u64,
}

impl Memory {
    /// Of a process; nothing when it has ended.
    #[must_use]
    pub fn of(pid: Pid) -> Self {
        parse(&std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default())
    }
}

impl std::iter::Sum for Memory {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            rss_bytes: sum.rss_bytes + one.rss_bytes,
            pss_bytes: sum.pss_bytes + one.pss_bytes,
        })
    }
}

fn parse(rollup: &str) -> Memory {
    let bytes = |field: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or_default() * 1024
    };
    Memory { rss_bytes: bytes("Rss:"), pss_bytes: bytes("Pss:") }
}

/// The processor time that a process has used so far, in seconds.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "ticks of a benchmark are far below 2^52")]
pub fn cpu_s(pid: Pid) -> f64 {
    let ticks_per_s = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    cpu_ticks(&stat) as f64 / ticks_per_s as f64
}

fn cpu_ticks(stat: &str) -> u64 {
    // Behind the name in brackets stands field 3; user and system time are fields 14 and 15.
    let behind = stat.rsplit(')').next().unwrap_or_default();
    behind.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<u64>().ok()).sum()
}

/// The command line of a process.
#[must_use]
pub fn arguments(pid: Pid) -> Vec<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = bytes.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
    words.filter(|word| !word.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_a_name_with_blanks_and_brackets() {
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194560 100 0 0 0 37 5 0 0 20 0 1 0 100";
        assert_eq!(cpu_ticks(stat), 42);
        assert_eq!(cpu_ticks(""), 0);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let memory =
            parse("5581-7ffd ---p [rollup]\nRss:      2048 kB\nPss:      1024 kB\nPss_Dirty: 9 kB\n");
        assert_eq!((memory.rss_bytes, memory.pss_bytes), (2 << 20, 1 << 20));
    }
}
