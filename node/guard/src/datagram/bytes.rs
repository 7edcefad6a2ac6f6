//! Reading and writing a datagram's fields.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use muster_core::id::{MembershipId, NodeId, Revision};
use muster_core::lease::membership::MAX_CONFIGS;
use muster_core::lease::message::{MAX_ADDRESSES, MAX_LISTED};
use muster_core::lease::{ListVersion, Membership, VoterAddresses, VoterList};

use super::DatagramError;

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

    pub(super) fn version(&mut self) -> Result<ListVersion, DatagramError> {
        Ok(ListVersion { membership: MembershipId(self.u64()?), addresses: Revision(self.u64()?) })
    }

    /// A voter list: version, number of sets, then each voter with a bit for each set that it is in.
    pub(super) fn list(&mut self) -> Result<VoterList, DatagramError> {
        let version = self.version()?;
        let (sets, count) = (usize::from(self.u8()?), usize::from(self.u8()?));
        if sets > MAX_CONFIGS || count > MAX_LISTED {
            return Err(DatagramError::Malformed);
        }
        let membership = Membership { id: version.membership, configs: vec![BTreeSet::new(); sets] };
        let mut list = VoterList { membership, addresses_revision: version.addresses, voters: Vec::new() };
        for _ in 0..count {
            let node = NodeId(self.u64()?);
            let (bits, addresses) = (self.u8()?, usize::from(self.u8()?));
            for (index, set) in list.membership.configs.iter_mut().enumerate() {
                if bits & (1 << index) != 0 {
                    set.insert(node);
                }
            }
            if addresses > MAX_ADDRESSES {
                return Err(DatagramError::Malformed);
            }
            let addresses = (0..addresses).map(|_| self.address()).collect::<Result<_, _>>()?;
            list.voters.push(VoterAddresses { node, addresses });
        }
        if list.is_well_formed() { Ok(list) } else { Err(DatagramError::Malformed) }
    }

    fn address(&mut self) -> Result<SocketAddr, DatagramError> {
        let ip = match self.u8()? {
            4 => IpAddr::V4(Ipv4Addr::from(self.take::<4>()?)),
            6 => IpAddr::V6(Ipv6Addr::from(self.take::<16>()?)),
            _ => return Err(DatagramError::Malformed),
        };
        Ok(SocketAddr::new(ip, u16::from_be_bytes(self.take()?)))
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

    /// Zeros up to that length: receivers pass over what is behind the fields that they know.
    pub(super) fn pad(&mut self, length: usize) {
        self.bytes[self.used..length].fill(0);
        self.used = length;
    }

    pub(super) fn u64(&mut self, field: u64) {
        self.put(&field.to_be_bytes());
    }

    pub(super) fn flag(&mut self, field: bool) {
        self.put(&[u8::from(field)]);
    }

    pub(super) fn version(&mut self, version: ListVersion) {
        self.u64(version.membership.0);
        self.u64(version.addresses.0);
    }

    /// The caller passes a well-formed list; of another one, only what is within the limits is written.
    pub(super) fn list(&mut self, list: &VoterList) {
        let voters = &list.voters[..list.voters.len().min(MAX_LISTED)];
        let sets = &list.membership.configs[..list.membership.configs.len().min(MAX_CONFIGS)];
        let room = self.bytes.len() - self.used;
        // One address of each of MAX_LISTED voters always fits: 18 + 14 · (10 + 19) bytes.
        let most = (1..=MAX_ADDRESSES).rev().find(|n| list_bytes(voters, *n) <= room).unwrap_or(1);
        self.version(list.version());
        let counts = [sets.len(), voters.len()].map(|n| u8::try_from(n).expect("below the limits"));
        self.put(&counts);
        for voter in voters {
            let bits = sets.iter().enumerate().fold(0, |bits, (index, set)| {
                if set.contains(&voter.node) { bits | (1 << index) } else { bits }
            });
            let count = u8::try_from(usable(voter, most).count()).expect("at most MAX_ADDRESSES");
            self.u64(voter.node.0);
            self.put(&[bits, count]);
            for address in usable(voter, most) {
                self.address(address);
            }
        }
    }

    fn address(&mut self, address: &SocketAddr) {
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

fn usable(voter: &VoterAddresses, most: usize) -> impl Iterator<Item = &SocketAddr> {
    voter.addresses.iter().filter(|address| is_usable(address)).take(most)
}

fn list_bytes(voters: &[VoterAddresses], most: usize) -> usize {
    let voter_bytes = |voter: &VoterAddresses| -> usize {
        10 + usable(voter, most).map(|address| if address.is_ipv4() { 7 } else { 19 }).sum::<usize>()
    };
    18 + voters.iter().map(voter_bytes).sum::<usize>()
}

/// Whether heartbeats may go there: not to link-local, multicast or unspecified addresses, nor to port 0.
fn is_usable(address: &SocketAddr) -> bool {
    let link_local = match address.ip() {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => (ip.segments()[0] & 0xffc0) == 0xfe80,
    };
    !link_local && !address.ip().is_multicast() && !address.ip().is_unspecified() && address.port() != 0
}
