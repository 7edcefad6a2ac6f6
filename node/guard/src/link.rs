//! The wires inside the guard's family: between the guard and its shims, and between the guard and each init.
//!
//! They are sequenced-packet sockets, so a message is never split. What a shim hears is ten bytes, for which
//! nothing is allocated: re-arming its timer is what matters in time. All others are JSON, because an init that an older
//! guard started must be understood after an upgrade: fields and variants are only added.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recv, recvmsg, send,
    sendmsg, setsockopt, socketpair, sockopt,
};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::launch::Isolation;
use crate::protocol::ExitHow;

/// The largest message, in bytes.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 * 1024;
const ARM: u8 = 1;
const SPAWN: u8 = 2;
const TO_SHIM_BYTES: usize = 10;

/// From the guard to a shim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ToShim {
    /// Arm the timer at this absolute `CLOCK_BOOTTIME` in nanoseconds (0: disarm); confirm by one byte if asked.
    Arm { boottime_ns: u64, confirm: bool },
    /// Start an init, if `leased` only with an armed timer. Two descriptors come along: a file with the
    /// [`crate::launch::Launch`], and the init's end of its wire to the guard.
    Spawn { isolation: Isolation, leased: bool },
}

impl ToShim {
    pub(crate) fn encode(self) -> [u8; TO_SHIM_BYTES] {
        let mut bytes = [0; TO_SHIM_BYTES];
        match self {
            Self::Arm { boottime_ns, confirm } => {
                bytes[..2].copy_from_slice(&[ARM, u8::from(confirm)]);
                bytes[2..].copy_from_slice(&boottime_ns.to_be_bytes());
            }
            Self::Spawn { isolation, leased } => {
                bytes[..3].copy_from_slice(&[SPAWN, isolation.number(), u8::from(leased)]);
            }
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, value) = bytes.first_chunk::<TO_SHIM_BYTES>()?.split_at(2);
        match head[0] {
            ARM => Some(Self::Arm {
                boottime_ns: u64::from_be_bytes(*value.first_chunk()?),
                confirm: head[1] == 1,
            }),
            SPAWN => Some(Self::Spawn { isolation: Isolation::from_number(head[1])?, leased: value[0] == 1 }),
            _ => None,
        }
    }
}

/// From the guard to an init.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ToInit {
    /// The guard knows the init and has noted it for a successor: start the command.
    Go,
    /// Send this signal to the task's main process.
    Signal { signal: i32 },
    /// Kill everything of the task, write out its log, and end.
    Kill,
    /// Kill everything of the task at once, its log's process too. Sent only to inits whose hello says that they take it.
    KillNow,
    /// A descriptor comes along: the page of a [`crate::deadline::Deadline`]. Without one: the moment on that page came
    /// nearer. As for whom: as above.
    Deadline,
    /// Run a health check.
    Check { id: u64, argv: Vec<String>, timeout_ms: u64 },
}

/// From an init to the guard. The kernel adds the sender's process id as the host sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FromInit {
    /// The init is ready.
    Hello {
        notes: Vec<String>,
        /// Whether it understands [`ToInit::Deadline`] and [`ToInit::KillNow`].
        #[serde(default)]
        takes_deadline: bool,
    },
    /// Sent by the task's process itself just before its exec.
    Exec,
    /// The command was executed.
    Started,
    /// It was not.
    Failed { step: String, errno: i32 },
    /// The deadline came: everything of the task was killed, and can't be taken back.
    Lapsed,
    /// The main process ended, everything else of the task was killed.
    Exited { how: ExitHow, log_dropped_bytes: u64 },
    /// A health check ended; without `how` it ran out of time.
    Checked { id: u64, how: Option<ExitHow> },
}

/// A message as it was received.
pub(crate) struct Received {
    pub(crate) bytes: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
    /// The sender's process id; only with [`with_credentials`].
    pub(crate) pid: Option<Pid>,
}

impl Received {
    /// Reads the JSON; `None` when this build doesn't know the message.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.bytes).ok()
    }
}

/// A new wire; both ends are closed by exec.
pub(crate) fn pair() -> nix::Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
}

/// Has the kernel tell this end who sent each message.
pub(crate) fn with_credentials(end: &OwnedFd) -> nix::Result<()> {
    setsockopt(end, sockopt::PassCred, &true)
}

/// Sends bytes without ever waiting: a receiver that does not read loses the message (`EAGAIN`).
pub(crate) fn send_bytes(end: BorrowedFd<'_>, bytes: &[u8]) -> nix::Result<()> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    send(end.as_raw_fd(), bytes, flags).map(drop)
}

/// Sends a message as JSON; `EMSGSIZE` when it is too long.
pub(crate) fn send_json<T: Serialize>(end: BorrowedFd<'_>, message: &T) -> nix::Result<()> {
    let bytes = serde_json::to_vec(message).map_err(|_| Errno::EINVAL)?;
    if bytes.len() > MESSAGE_BYTES_MAX { Err(Errno::EMSGSIZE) } else { send_bytes(end, &bytes) }
}

/// Sends bytes with descriptors.
pub(crate) fn send_fds(end: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> nix::Result<()> {
    let fds: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let control = [ControlMessage::ScmRights(&fds)];
    sendmsg::<()>(end.as_raw_fd(), &[IoSlice::new(bytes)], &control, flags, None).map(drop)
}

/// Receives one message; `None` when the other end is closed.
///
/// # Errors
/// `EAGAIN` when nothing is there and `wait` is false.
pub(crate) fn receive(end: &impl AsFd, wait: bool) -> nix::Result<Option<Received>> {
    let wait_flag = if wait { MsgFlags::empty() } else { MsgFlags::MSG_DONTWAIT };
    // Asked first, so that no page of a large buffer is touched for a small message.
    let length =
        recv(end.as_fd().as_raw_fd(), &mut [], MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC | wait_flag)?;
    let mut buffer = vec![0; length];
    let mut control = nix::cmsg_space!([RawFd; 2], nix::sys::socket::UnixCredentials);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | wait_flag;
    let mut received = Received { bytes: Vec::new(), fds: Vec::new(), pid: None };
    let count = {
        let mut space = [IoSliceMut::new(&mut buffer)];
        let message = recvmsg::<()>(end.as_fd().as_raw_fd(), &mut space, Some(&mut control), flags)?;
        for part in message.cmsgs()? {
            match part {
                ControlMessageOwned::ScmRights(fds) => {
                    // SAFETY: the kernel just made these descriptors for this process.
                    received.fds.extend(fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
                }
                ControlMessageOwned::ScmCredentials(who) if who.pid() > 0 => {
                    received.pid = Some(Pid::from_raw(who.pid()));
                }
                _ => {}
            }
        }
        message.bytes
    };
    if count == 0 {
        return Ok(None);
    }
    buffer.truncate(count);
    received.bytes = buffer;
    Ok(Some(received))
}
