//! Reading and writing a datagram's fields.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use muster_core::id::{MembershipId, NodeId};

use super::DatagramError;
use crate::voters::{ADDRESSES_MAX, VOTERS_MAX, Voter, VoterList, is_usable};

const IN_FIRST: u8 = 1;
const IN_SECOND: u8 = 2;

/// Takes fields off the front.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], DatagramError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(DatagramError::Malformed)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, DatagramError> {
        Ok(self.take::<1>()?[0])
    }

    pub(super) fn u64(&mut self) -> Result<u64, DatagramError> {
        Ok(u64::from_be_bytes(self.take()?))
    }

    pub(super) fn u128(&mut self) -> Result<u128, DatagramError> {
        Ok(u128::from_be_bytes(self.take()?))
    }

    pub(super) fn flag(&mut self) -> Result<bool, DatagramError> {
        Ok(self.u8()? & 1 == 1)
    }

    pub(super) fn list(&mut self) -> Result<VoterList, DatagramError> {
        let version = self.u64()?;
        let membership = MembershipId(self.u64()?);
        let count = usize::from(self.u8()?);
        if count > VOTERS_MAX {
            return Err(DatagramError::Malformed);
        }
        let mut list = VoterList { version, membership, voters: Vec::with_capacity(count) };
        for _ in 0..count {
            list.voters.push(self.voter()?);
        }
        if list.fault().is_some() { Err(DatagramError::Malformed) } else { Ok(list) }
    }

    fn voter(&mut self) -> Result<Voter, DatagramError> {
        let id = NodeId(self.u64()?);
        let halves = self.u8()?;
        let count = usize::from(self.u8()?);
        if count > ADDRESSES_MAX {
            return Err(DatagramError::Malformed);
        }
        let mut addresses = Vec::with_capacity(count);
        for _ in 0..count {
            let ip = match self.u8()? {
                4 => IpAddr::V4(Ipv4Addr::from(self.take::<4>()?)),
                6 => IpAddr::V6(Ipv6Addr::from(self.take::<16>()?)),
                _ => return Err(DatagramError::Malformed),
            };
            addresses.push(SocketAddr::new(ip, u16::from_be_bytes(self.take()?)));
        }
        Ok(Voter { id, in_first: halves & IN_FIRST != 0, in_second: halves & IN_SECOND != 0, addresses })
    }
}

/// Appends fields. Every body but a list has a fixed size far below the buffer's; a list is fitted in.
pub(super) struct Writer<'a> {
    bytes: &'a mut [u8],
    used: usize,
}

impl<'a> Writer<'a> {
    pub(super) fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, used: 0 }
    }

    pub(super) fn length(&self) -> usize {
        self.used
    }

    pub(super) fn put(&mut self, field: &[u8]) {
        self.bytes[self.used..self.used + field.len()].copy_from_slice(field);
        self.used += field.len();
    }

    pub(super) fn u64(&mut self, field: u64) {
        self.put(&field.to_be_bytes());
    }

    pub(super) fn list(&mut self, list: &VoterList) {
        let voters = &list.voters[..list.voters.len().min(VOTERS_MAX)];
        let room = self.bytes.len() - self.used;
        // One address of each of VOTERS_MAX voters always fits: 17 + 14 · (10 + 19) bytes.
        let addresses = (1..=ADDRESSES_MAX).rev().find(|n| list_bytes(voters, *n) <= room).unwrap_or(1);
        self.u64(list.version);
        self.u64(list.membership.0);
        self.put(&[u8::try_from(voters.len()).expect("at most VOTERS_MAX")]);
        for voter in voters {
            self.voter(voter, addresses);
        }
    }

    fn voter(&mut self, voter: &Voter, addresses: usize) {
        let halves = if voter.in_first { IN_FIRST } else { 0 } | if voter.in_second { IN_SECOND } else { 0 };
        let count = usable(voter, addresses).count();
        self.u64(voter.id.0);
        self.put(&[halves, u8::try_from(count).expect("at most ADDRESSES_MAX")]);
        for address in usable(voter, addresses) {
            match address.ip() {
                IpAddr::V4(ip) => {
                    self.put(&[4]);
                    self.put(&ip.octets());
                }
                IpAddr::V6(ip) => {
                    self.put(&[6]);
                    self.put(&ip.octets());
                }
            }
            self.put(&address.port().to_be_bytes());
        }
    }
}

fn usable(voter: &Voter, most: usize) -> impl Iterator<Item = &SocketAddr> {
    voter.addresses.iter().filter(|a| is_usable(a)).take(most)
}

fn list_bytes(voters: &[Voter], addresses: usize) -> usize {
    let voter_bytes = |voter: &Voter| -> usize {
        10 + usable(voter, addresses).map(|a| if a.is_ipv4() { 7 } else { 19 }).sum::<usize>()
    };
    17 + voters.iter().map(voter_bytes).sum::<usize>()
}
