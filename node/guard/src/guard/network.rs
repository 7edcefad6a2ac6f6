//! The guard's UDP sockets: one a family, never waiting.

use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrIn, SockaddrIn6,
    SockaddrStorage, bind, recvmsg, sendto, setsockopt, socket, sockopt,
};
use serde::{Deserialize, Serialize};

use crate::datagram::Buffer;
use crate::handle::Handle;

/// Wished size of the receive buffers: the acks of seven voters at four addresses for several seconds.
const RECEIVE_BYTES: usize = 1 << 20;
/// Read at most this many datagrams in one go, so that a flood can't keep the guard from its timers.
const DATAGRAMS_A_TURN: usize = 256;

/// Both sockets; a host may lack one of the families.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Network {
    pub(crate) v4: Option<Handle>,
    pub(crate) v6: Option<Handle>,
    /// Datagrams that the kernel dropped because a buffer was full.
    pub(crate) overflowed: u64,
}

impl Network {
    /// Opens the sockets on ports that the kernel chooses.
    pub(crate) fn open() -> Self {
        let v4 = open(AddressFamily::Inet).ok();
        let v6 = open(AddressFamily::Inet6).ok();
        Self { v4, v6, overflowed: 0 }
    }

    /// Sends one datagram. What is lost here is lost like on the way; there is another one in a moment.
    pub(crate) fn send(&self, datagram: &[u8], to: SocketAddr) {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let _sent = match (to, &self.v4, &self.v6) {
            (SocketAddr::V4(to), Some(v4), _) => {
                sendto(v4.as_raw_fd(), datagram, &SockaddrIn::from(to), flags)
            }
            (SocketAddr::V6(to), _, Some(v6)) => {
                sendto(v6.as_raw_fd(), datagram, &SockaddrIn6::from(to), flags)
            }
            _ => return,
        };
    }

    /// Hands each waiting datagram to `take`.
    pub(crate) fn receive(&mut self, mut take: impl FnMut(&[u8])) {
        let mut overflowed = 0;
        for socket in [&self.v4, &self.v6].into_iter().flatten() {
            let mut buffer: Buffer = [0; _];
            let mut control = [0; 64];
            let mut dropped = 0;
            for _ in 0..DATAGRAMS_A_TURN {
                let mut space = [IoSliceMut::new(&mut buffer)];
                let flags = MsgFlags::MSG_DONTWAIT;
                let received =
                    recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut space, Some(&mut control), flags);
                let length = match received {
                    Ok(message) => {
                        for part in message.cmsgs().into_iter().flatten() {
                            if let ControlMessageOwned::RxqOvfl(total) = part {
                                dropped = u64::from(total);
                            }
                        }
                        message.bytes
                    }
                    // An ICMP answer to an earlier datagram is reported as an error of the socket: go on.
                    Err(nix::errno::Errno::ECONNREFUSED) => continue,
                    Err(_) => break,
                };
                take(&buffer[..length]);
            }
            overflowed += dropped;
        }
        // The kernel counts since the socket was opened; without news it says nothing.
        self.overflowed = self.overflowed.max(overflowed);
    }
}

fn open(family: AddressFamily) -> nix::Result<Handle> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(family, SockType::Datagram, flags, None)?;
    if setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BYTES).is_err() {
        // Without privileges the kernel grants up to net.core.rmem_max.
        setsockopt(&fd, sockopt::RcvBuf, &RECEIVE_BYTES)?;
    }
    setsockopt(&fd, sockopt::RxqOvfl, &1)?;
    match family {
        AddressFamily::Inet6 => {
            setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
            let any = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0));
            bind(fd.as_raw_fd(), &SockaddrStorage::from(any))?;
        }
        _ => {
            let any = SocketAddr::from((std::net::Ipv4Addr::UNSPECIFIED, 0));
            bind(fd.as_raw_fd(), &SockaddrStorage::from(any))?;
        }
    }
    Ok(fd.into())
}
