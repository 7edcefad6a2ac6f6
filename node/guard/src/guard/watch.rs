//! What the guard's loop waits for.
//!
//! The loop names all its files anew in every turn, so that nothing can be forgotten. As long as they are the same, the
//! kernel keeps the list (`epoll`): waiting then costs the same with one task as with a hundred. It is never changed there,
//! but made anew from nothing: a closed file that a child still holds would stay in it for ever. Files that are heard with
//! nearly every turn stay out of it.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::kernel;

/// Events that are taken from the kernel's list in one turn; the others are there in the next one.
const EVENTS_A_TURN: usize = 64;

/// Files, each with what it means to the loop. `S` must tell apart whatever may ever have the same number; who replaces a
/// file under the same `S` begins with another `Watch`.
#[derive(Debug)]
pub(super) struct Watch<S> {
    /// What this turn waits for beside the list.
    busy: Vec<Entry<S>>,
    /// The list of this turn, in the order in which it is heard.
    listed: Vec<Entry<S>>,
    /// The list of the turn before.
    former: Vec<Entry<S>>,
    kept: Kept,
    /// The argument of `poll`, kept so that it is not allocated anew each time.
    polled: Vec<libc::pollfd>,
    ready: Vec<S>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry<S> {
    fd: RawFd,
    events: libc::c_short,
    source: S,
}

/// Who keeps the list.
#[derive(Debug)]
enum Kept {
    /// Nobody: it has just changed.
    No,
    /// The kernel.
    ByKernel(Epoll),
    /// Nobody: the kernel did not take it, for lack of descriptors or memory, or because of a kind of file.
    Refused,
}

impl<S> Default for Watch<S> {
    fn default() -> Self {
        let (busy, listed, former) = (Vec::new(), Vec::new(), Vec::new());
        Self { busy, listed, former, kept: Kept::No, polled: Vec::new(), ready: Vec::new() }
    }
}

impl<S: Copy + PartialEq> Watch<S> {
    /// Begins another turn.
    pub(super) fn begin(&mut self) {
        std::mem::swap(&mut self.listed, &mut self.former);
        self.listed.clear();
        self.busy.clear();
    }

    /// Waits, in this turn, until that file can be read.
    pub(super) fn add_busy(&mut self, fd: RawFd, source: S) {
        self.busy.push(Entry { fd, events: libc::POLLIN, source });
    }

    /// Waits until that file can be read, or written as well. A negative number is no file.
    pub(super) fn add(&mut self, fd: RawFd, write: bool, source: S) {
        if fd >= 0 {
            let events = libc::POLLIN | if write { libc::POLLOUT } else { 0 };
            self.listed.push(Entry { fd, events, source });
        }
    }

    /// Ends the list of this turn. With many files that takes time, so what is waited for is reckoned afterwards.
    pub(super) fn end(&mut self) {
        self.kept = match std::mem::replace(&mut self.kept, Kept::No) {
            _ if self.listed != self.former => Kept::No,
            Kept::No => self.hand_over().map_or(Kept::Refused, Kept::ByKernel),
            kept => kept,
        };
    }

    /// Waits until something is ready or the time is over; `None`: for ever.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let pollfd = |fd, events| libc::pollfd { fd, events, revents: 0 };
        self.polled.clear();
        self.polled.extend(self.busy.iter().map(|entry| pollfd(entry.fd, entry.events)));
        // Of the list as one file, since ppoll knows nanoseconds and epoll_wait does not; or of each.
        match &self.kept {
            Kept::ByKernel(epoll) => self.polled.push(pollfd(epoll.0.as_raw_fd(), libc::POLLIN)),
            Kept::No | Kept::Refused => {
                self.polled.extend(self.listed.iter().map(|entry| pollfd(entry.fd, entry.events)));
            }
        }
        kernel::poll_for(&mut self.polled, timeout)?;
        self.find_ready()
    }

    /// What was found ready, in the order of hearing.
    pub(super) fn ready(&self, nth: usize) -> Option<S> {
        self.ready.get(nth).copied()
    }

    fn find_ready(&mut self) -> io::Result<()> {
        let Self { busy, listed, kept, polled, ready, .. } = self;
        ready.clear();
        let (of_busy, of_list) = polled.split_at(busy.len());
        let is_ready =
            |(polled, entry): (&libc::pollfd, &Entry<S>)| (polled.revents != 0).then_some(entry.source);
        ready.extend(of_busy.iter().zip(busy.iter()).filter_map(is_ready));
        match kept {
            Kept::ByKernel(epoll) if of_list.iter().any(|polled| polled.revents != 0) => {
                let mut events = [EpollEvent::empty(); EVENTS_A_TURN];
                let count = epoll.wait(&mut events, EpollTimeout::ZERO)?;
                events[..count].sort_unstable_by_key(EpollEvent::data);
                let place = |event: &EpollEvent| usize::try_from(event.data()).ok();
                ready.extend(
                    events[..count]
                        .iter()
                        .filter_map(place)
                        .filter_map(|at| listed.get(at))
                        .map(|e| e.source),
                );
            }
            Kept::ByKernel(_) => {}
            Kept::No | Kept::Refused => ready.extend(of_list.iter().zip(listed.iter()).filter_map(is_ready)),
        }
        Ok(())
    }

    fn hand_over(&self) -> nix::Result<Epoll> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        for (place, entry) in self.listed.iter().enumerate() {
            let mut flags = EpollFlags::EPOLLIN;
            flags.set(EpollFlags::EPOLLOUT, entry.events & libc::POLLOUT != 0);
            epoll.add(kernel::borrowed(&entry.fd), EpollEvent::new(flags, place as u64))?;
        }
        Ok(epoll)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    const SOON: Option<Duration> = Some(Duration::ZERO);

    fn turn(watch: &mut Watch<u8>, files: &[(RawFd, u8)]) -> Vec<u8> {
        watch.begin();
        watch.add(-1, false, 99);
        for (file, source) in files {
            watch.add(*file, false, *source);
        }
        watch.end();
        watch.wait(SOON).unwrap();
        (0..).map_while(|nth| watch.ready(nth)).collect()
    }

    #[test]
    fn what_is_ready_is_heard_in_every_turn_whoever_keeps_the_list() {
        let (mut a, mut a_far) = UnixStream::pair().unwrap();
        let (b, mut b_far) = UnixStream::pair().unwrap();
        let both = [(a.as_raw_fd(), 1), (b.as_raw_fd(), 2)];
        let mut watch = Watch::default();
        b_far.write_all(b"x").unwrap();
        assert_eq!(turn(&mut watch, &both), [2]);
        assert!(matches!(watch.kept, Kept::No));
        for _ in 0..3 {
            assert_eq!(turn(&mut watch, &both), [2]);
            assert!(matches!(watch.kept, Kept::ByKernel(_)));
        }
        a_far.write_all(b"x").unwrap();
        assert_eq!(turn(&mut watch, &both), [1, 2]);
        a.read_exact(&mut [0]).unwrap();
        assert_eq!(turn(&mut watch, &both), [2]);
        // A far end that is gone is told as well.
        drop(a_far);
        assert_eq!(turn(&mut watch, &both), [1, 2]);
        assert_eq!(turn(&mut watch, &both[..1]), [1]);
    }

    #[test]
    fn files_beside_the_list_come_and_go_without_a_new_one() {
        let (a, mut a_far) = UnixStream::pair().unwrap();
        let (b, mut b_far) = UnixStream::pair().unwrap();
        let mut watch = Watch::default();
        a_far.write_all(b"x").unwrap();
        b_far.write_all(b"x").unwrap();
        for beside in [true, false, true] {
            watch.begin();
            watch.add(a.as_raw_fd(), false, 1);
            if beside {
                watch.add_busy(b.as_raw_fd(), 2);
            }
            watch.end();
            watch.wait(SOON).unwrap();
            let ready: Vec<i32> = (0..).map_while(|nth| watch.ready(nth)).collect();
            assert_eq!(ready, if beside { vec![2, 1] } else { vec![1] });
        }
        assert!(matches!(watch.kept, Kept::ByKernel(_)));
    }

    #[test]
    fn a_file_that_takes_the_number_of_a_closed_one_is_another() {
        let (a, a_far) = UnixStream::pair().unwrap();
        let (b, mut b_far) = UnixStream::pair().unwrap();
        let number = a.as_raw_fd();
        let mut watch = Watch::default();
        turn(&mut watch, &[(number, 1)]);
        turn(&mut watch, &[(number, 1)]);
        // As if a child had it: the kernel's list does not let go of it.
        let held = a.try_clone().unwrap();
        kernel::place_fd(b.as_fd(), number).unwrap();
        drop(a_far);
        for _ in 0..3 {
            assert_eq!(turn(&mut watch, &[(number, 2)]), [0; 0]);
        }
        b_far.write_all(b"x").unwrap();
        assert_eq!(turn(&mut watch, &[(number, 2)]), [2]);
        drop(held);
    }

    #[test]
    fn a_list_that_the_kernel_does_not_take_is_polled() {
        let (a, mut a_far) = UnixStream::pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        let mut watch = Watch::default();
        a_far.write_all(b"x").unwrap();
        for _ in 0..3 {
            watch.begin();
            watch.add(a.as_raw_fd(), false, 1);
            // A regular file is always ready, and nothing for epoll.
            watch.add(file.as_raw_fd(), false, 2);
            watch.end();
            watch.wait(SOON).unwrap();
            assert_eq!([watch.ready(0), watch.ready(1), watch.ready(2)], [Some(1), Some(2), None]);
        }
        assert!(matches!(watch.kept, Kept::Refused));
    }
}
