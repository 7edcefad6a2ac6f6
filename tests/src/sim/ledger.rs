//! A small replicated state: sessions, slots, voters. What the state machine of `muster-core` keeps for people is
//! left out; what LEASES.md judges at apply is here, with the core's own judgements (R7 to R11).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use muster_core::id::{BootId, Generation, MembershipId, NodeId, Reopens, Revision, SessionId};
use muster_core::lease::close::{CloseSession, judge_reopen};
use muster_core::lease::voter::{Applied, OpenSession};
use muster_core::lease::{Membership, VoterAddresses, VoterList};

use super::protocol::Protocol;

/// An exclusive slot.
pub type Slot = u64;

/// One entry of the log.
#[allow(missing_docs, reason = "the variants say it; their fields are named for what they are")]
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A new leader's first.
    Blank,
    /// One set of voters, or two.
    Membership(Vec<BTreeSet<NodeId>>),
    /// R8.
    VoterUp { voter: NodeId, boot: BootId, replaces: BootId },
    /// R11; `request` is the same in a retry.
    Open { node: NodeId, request: u64, key: u64 },
    /// R7, with the leader's plan.
    Close { close: CloseSession, plan: Vec<(Slot, SessionId)> },
    /// R4.
    Fenced { session: SessionId },
    /// R9.
    Reopen { session: SessionId, to: Reopens },
    /// R10.
    Assign { slot: Slot, session: SessionId },
    /// R10: with where it goes next.
    Revoke { slot: Slot, generation: Generation, target: Option<SessionId> },
    /// R10.
    Stopped { slot: Slot, session: SessionId, generation: Generation },
    /// For sessions opened from now on.
    SetTtl { ttl_ms: u32 },
}

/// What an entry did, for the voter's half and the detector.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Another membership.
    Listed,
    /// R8.
    Up(NodeId, BootId),
    /// A session was opened.
    Opened(OpenSession),
    /// A session was closed; `true`: by promises.
    Closed(SessionId, bool),
    /// R9; told for a duplicate too.
    Reopened(SessionId, Reopens),
}

/// An open session.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    /// Whose and under which terms.
    pub open: OpenSession,
    /// Which request opened it.
    pub request: u64,
    /// The guard's key.
    pub key: u64,
}

/// Who holds a slot.
#[derive(Clone, Copy, Debug)]
pub struct Placement {
    /// The node.
    pub node: NodeId,
    /// Under which session.
    pub session: SessionId,
    /// The fencing token.
    pub generation: Generation,
    /// It is to be stopped and goes to that session next.
    pub revoking: Option<Option<SessionId>>,
}

/// The replicated state.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// The last applied entry.
    pub revision: u64,
    /// The applied membership with addresses.
    pub list: Arc<VoterList>,
    /// The newest `VoterUp` of each voter.
    pub boots: BTreeMap<NodeId, BootId>,
    /// The open sessions.
    pub sessions: BTreeMap<SessionId, Session>,
    /// Who holds what.
    pub slots: BTreeMap<Slot, Option<Placement>>,
    /// TTL of new sessions.
    pub ttl_ms: u32,
    requests: BTreeSet<u64>,
}

impl Ledger {
    /// Before the first entry.
    #[must_use]
    pub fn new(slots: u64, ttl_ms: u32) -> Self {
        Self { slots: (0..slots).map(|slot| (slot, None)).collect(), ttl_ms, ..Self::default() }
    }

    /// Applies one entry.
    pub fn apply(&mut self, index: u64, entry: &Entry, protocol: &Protocol) -> Option<Effect> {
        self.revision = index;
        match entry {
            Entry::Blank => None,
            Entry::Membership(configs) => {
                let membership = Membership { id: MembershipId(index), configs: configs.clone() };
                self.list = Arc::new(list_of(membership));
                Some(Effect::Listed)
            }
            Entry::VoterUp { voter, boot, replaces } => {
                let current = self.boots.get(voter).copied().unwrap_or_default();
                let taken = (protocol.judge_voter_up)(current, *boot, *replaces);
                taken.then(|| {
                    self.boots.insert(*voter, *boot);
                    Effect::Up(*voter, *boot)
                })
            }
            Entry::Open { node, request, key } => self.open(SessionId(index), *node, *request, *key),
            Entry::Close { close, plan } => {
                let open = self.sessions.get(&close.session).map(|session| session.open.reopens);
                let newest = |node| self.boots.get(&node).copied();
                if !(protocol.judge_close)(close, open, &self.list.membership, &newest) {
                    return None;
                }
                self.close(close.session);
                for (slot, target) in plan {
                    self.assign(*slot, *target, protocol);
                }
                Some(Effect::Closed(close.session, true))
            }
            Entry::Fenced { session } => self.sessions.contains_key(session).then(|| {
                self.close(*session);
                Effect::Closed(*session, false)
            }),
            Entry::Reopen { session, to } => self.reopen(*session, *to),
            Entry::Assign { slot, session } => {
                self.assign(*slot, *session, protocol);
                None
            }
            Entry::Revoke { slot, generation, target } => {
                if let Some(held) = self.placement(*slot).filter(|held| held.generation == *generation) {
                    let revoked = Placement { revoking: Some(*target), ..held };
                    self.slots.insert(*slot, Some(revoked));
                }
                None
            }
            Entry::Stopped { slot, session, generation } => {
                let held = self.placement(*slot);
                let held = held.filter(|held| held.session == *session && held.generation == *generation);
                if let Some(held) = held {
                    self.slots.insert(*slot, None);
                    if let Some(target) = held.revoking.flatten() {
                        self.assign(*slot, target, protocol);
                    }
                }
                None
            }
            Entry::SetTtl { ttl_ms } => {
                self.ttl_ms = *ttl_ms;
                None
            }
        }
    }

    /// Who holds the slot.
    #[must_use]
    pub fn placement(&self, slot: Slot) -> Option<Placement> {
        self.slots.get(&slot).copied().flatten()
    }

    /// A node's open session.
    #[must_use]
    pub fn session_of(&self, node: NodeId) -> Option<Session> {
        self.sessions.values().find(|session| session.open.node == node).copied()
    }

    /// Whether this request was refused, or opened a session that was closed since: it will never open another one.
    #[must_use]
    pub fn used_up(&self, request: u64) -> bool {
        self.requests.contains(&request) && self.sessions.values().all(|session| session.request != request)
    }

    /// What a voter needs of it.
    #[must_use]
    pub fn for_voter(&self, voter: NodeId, pending: BTreeSet<MembershipId>) -> Applied {
        Applied {
            revision: Revision(self.revision),
            list: Arc::clone(&self.list),
            sessions: self.sessions.values().map(|session| session.open).collect(),
            own_boot: self.boots.get(&voter).copied().unwrap_or_default(),
            pending,
        }
    }

    /// R11: refused while the node has an open session; a retry does nothing, whatever the answer was.
    fn open(&mut self, session: SessionId, node: NodeId, request: u64, key: u64) -> Option<Effect> {
        if !self.requests.insert(request) || self.session_of(node).is_some() {
            return None;
        }
        let open = OpenSession { session, node, ttl_ms: self.ttl_ms, reopens: Reopens(0) };
        self.sessions.insert(session, Session { open, request, key });
        Some(Effect::Opened(open))
    }

    fn close(&mut self, session: SessionId) {
        self.sessions.remove(&session);
        for held in self.slots.values_mut() {
            *held = held.filter(|held| held.session != session);
        }
    }

    fn reopen(&mut self, session: SessionId, to: Reopens) -> Option<Effect> {
        let known = self.sessions.get_mut(&session)?;
        if judge_reopen(Some(known.open.reopens), to).is_ok() {
            known.open.reopens = to;
        }
        Some(Effect::Reopened(session, known.open.reopens))
    }

    /// R10: refused unless the named session is open, and while an open session holds the slot.
    fn assign(&mut self, slot: Slot, session: SessionId, protocol: &Protocol) {
        let Some(target) = self.sessions.get(&session) else { return };
        if protocol.habits.held_slot_is_refused && self.placement(slot).is_some() {
            return;
        }
        let generation = Generation(self.revision);
        let held = Placement { node: target.open.node, session, generation, revoking: None };
        self.slots.insert(slot, Some(held));
    }
}

/// A list with an address for each voter.
#[must_use]
pub fn list_of(membership: Membership) -> VoterList {
    let entry = |node: NodeId| {
        let low = u8::try_from(node.0 % 256).unwrap_or(0);
        VoterAddresses { node, addresses: vec![SocketAddr::from(([10, 0, 0, low], 7420))] }
    };
    let voters = membership.voters().into_iter().map(entry).collect();
    VoterList { membership, addresses_revision: Revision(0), voters }
}
