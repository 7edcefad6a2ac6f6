//! Giving memory back: a shim or an init lives long and does little. And keeping what is in memory there.

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::launch::Isolation;

/// How large a core dump may be before [`keep_out_of_core_dumps`].
pub(crate) fn core_bytes() -> Option<u64> {
    getrlimit(Resource::RLIMIT_CORE).ok().map(|(soft, _)| soft)
}

/// No core dump of the guard, its shims and inits: keys and tasks' environments are in their memory. An exec ends it.
pub(crate) fn keep_out_of_core_dumps(isolation: Isolation) {
    let done = match isolation {
        Isolation::Namespaces => nix::sys::prctl::set_dumpable(false),
        // A process that can't be dumped does not own its files in /proc, and without privileges could not write the
        // map of its user namespace. The limit does not hold where the kernel hands dumps to a program.
        Isolation::UserNamespace | Isolation::Nothing => {
            getrlimit(Resource::RLIMIT_CORE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_CORE, 0, hard))
        }
    };
    if let Err(errno) = done {
        crate::report::report!("core dumps can't be ruled out: {errno}");
    }
}

/// Lets go of the program's own pages that can be read from its file again: what the start needed is rarely
/// needed later. Pages that the loader or the program changed are kept.
pub(crate) fn give_back_program() {
    let unchanged = unchanged_program();
    // In a loop of its own, so that little comes back at once.
    for (start, end) in unchanged {
        give_back(start, end);
    }
}

fn unchanged_program() -> Vec<(usize, usize)> {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let (mut candidate, mut unchanged) = (None, Vec::new());
    for line in maps.lines() {
        if let Some(range) = read_only_file(line) {
            candidate = range;
        } else if let Some(changed) = line.strip_prefix("Anonymous:") {
            candidate = candidate.filter(|_| changed.trim() == "0 kB");
        } else if let Some(changed) = line.strip_prefix("Swap:") {
            // The last of the figures that count: changed pages may have been written to swap.
            unchanged.extend(candidate.take().filter(|_| changed.trim() == "0 kB"));
        }
    }
    unchanged
}

/// The first line of a mapping: its range, if it maps a file that can't be written through it.
/// The outer `None` means that the line is not a first line.
fn read_only_file(line: &str) -> Option<Option<(usize, usize)>> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    let permissions = fields.next()?;
    let is_file = fields.nth(3).is_some_and(|path| path.starts_with('/'));
    Some((is_file && !permissions.contains('w')).then_some((start, end)))
}

fn give_back(start: usize, end: usize) {
    // SAFETY: the range maps a file, is not writable and holds no changed page: reading it again gives the same.
    let result = unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
    // Locked pages are refused; they simply stay.
    let _kept = Errno::result(result);
}
