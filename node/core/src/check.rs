//! Invariants of the whole state, apart from the code that keeps them. An entry here is a bug in `apply`, or a
//! snapshot that was damaged without its checksum noticing.

use std::collections::BTreeSet;
use std::fmt;

use crate::id::{NodeId, SessionId, SlotId};
use crate::spec::Mode;
use crate::state::State;
use crate::state::slot::{Placement, Slot};

/// One broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What it is about: a slot, node or session.
    pub about: String,
    /// What does not hold.
    pub what: &'static str,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.about, self.what)
    }
}

/// Every invariant that does not hold; empty for a sound state.
#[must_use]
pub fn violations(state: &State) -> Vec<Violation> {
    let mut check = Checker { state, found: Vec::new() };
    check.nodes();
    check.sessions();
    check.membership();
    check.services();
    check.trust();
    for (id, slot) in &state.slots {
        check.slot(id, slot);
    }
    check.found
}

struct Checker<'a> {
    state: &'a State,
    found: Vec<Violation>,
}

impl Checker<'_> {
    fn demand(&mut self, holds: bool, about: impl fmt::Display, what: &'static str) {
        if !holds {
            self.found.push(Violation { about: about.to_string(), what });
        }
    }

    fn nodes(&mut self) {
        let mut names = BTreeSet::new();
        for (id, node) in &self.state.nodes {
            let about = format!("node {}", node.name);
            self.demand(node.id == *id, &about, "stands under another id");
            self.demand(names.insert(&node.name), &about, "shares its name with another node");
            self.demand(
                node.session.is_some() != node.lost.is_some(),
                &about,
                "has a session and is lost, or neither",
            );
            if let Some(session) = node.session {
                let owner = self.state.sessions.get(&session).map(|s| s.node);
                self.demand(owner == Some(*id), &about, "its session is not open or another node's");
            }
        }
    }

    fn sessions(&mut self) {
        for (id, session) in &self.state.sessions {
            let about = format!("session {id}");
            let of_node = self.state.nodes.get(&session.node).and_then(|n| n.session);
            self.demand(session.id == *id, &about, "stands under another id");
            self.demand(of_node == Some(*id), &about, "is not the session of its node");
            self.demand(id.0 <= self.state.revision.0, &about, "was opened in the future");
        }
        let now = self.state.revision;
        self.demand(self.state.topology <= now, "the topology", "is newer than the state");
        self.demand(self.state.observed <= now, "the observations", "are newer than the state");
    }

    fn membership(&mut self) {
        if self.state.membership.configs.is_empty() {
            return;
        }
        let voters = self.state.membership.voters();
        self.demand(self.state.membership.is_well_formed(), "the membership", "is not well-formed");
        for id in voters.iter().chain(&self.state.standbys) {
            self.demand(self.state.nodes.contains_key(id), format!("member {id}"), "is no node");
        }
        for id in &self.state.standbys {
            self.demand(!voters.contains(id), format!("standby {id}"), "votes too");
        }
    }

    fn services(&mut self) {
        for (name, service) in &self.state.services {
            let about = format!("service {name}");
            self.demand(service.spec.name == *name, &about, "stands under another name");
            self.demand(!(service.removing && service.wanted), &about, "is removed and wanted");
            self.demand(service.declared <= self.state.revision, &about, "was declared in the future");
            self.demand(service.rollout <= self.state.revision, &about, "is rolled out in the future");
        }
    }

    fn trust(&mut self) {
        let now = self.state.revision.0;
        let ids: Vec<u64> = self.state.authorities.iter().map(|authority| authority.id.0).collect();
        self.demand(ids.is_sorted() && ids.len() <= 2, "the CAs", "are more than two, or out of order");
        self.demand(ids.iter().all(|id| *id <= now), "the CAs", "are newer than the state");
        for (name, user) in &self.state.users {
            self.demand(user.name == *name, format!("user {name}"), "stands under another name");
        }
        let nodes = self.state.nodes.values().map(|n| (n.name.to_string(), n.id.0, n.certificates));
        let users = self.state.users.values().map(|u| (u.name.to_string(), 0, u.certificates));
        for (name, first, certificates) in nodes.chain(users) {
            // The first node's certificate is made before the log.
            let past = certificates.newest.0 <= now.max(first) && certificates.oldest.0 <= now.max(first);
            self.demand(past, format!("the certificate of {name}"), "is newer than the state");
        }
    }

    fn slot(&mut self, id: &SlotId, slot: &Slot) {
        let Some(service) = self.state.services.get(&id.service) else {
            self.demand(false, id, "its service does not exist");
            return;
        };
        self.demand(!slot.is_blank(), id, "remembers nothing");
        let vacant = slot.vacant_since.is_none() || slot.placements.is_empty();
        self.demand(vacant, id, "is vacant and has a placement");
        if service.spec.mode.is_exclusive() {
            self.demand(slot.placements.len() <= 1, id, "is exclusive and held twice");
        }
        let (mut generations, mut nodes) = (BTreeSet::new(), BTreeSet::new());
        for placement in &slot.placements {
            self.demand(generations.insert(placement.generation), id, "has a generation twice");
            self.demand(nodes.insert(placement.node), id, "has two placements on one node");
            self.placement(id, placement, service.spec.mode);
        }
    }

    fn placement(&mut self, id: &SlotId, placement: &Placement, mode: Mode) {
        self.demand(self.state.nodes.contains_key(&placement.node), id, "is placed on a node that has left");
        let past = placement.generation.0 <= self.state.revision.0;
        self.demand(past, id, "has a generation from the future");
        self.demand(
            self.owner(placement.session).is_none_or(|owner| owner == Some(placement.node)),
            id,
            "is bound to a session that is not open or another node's",
        );
        let active = matches!(placement.phase, crate::state::slot::Phase::Active);
        self.demand(placement.session.is_some() || !active, id, "runs without a session and is not adrift");
        match mode {
            Mode::Exclusive => self.demand(placement.session.is_some(), id, "is exclusive without a session"),
            Mode::Everywhere => self.demand(placement.node.0 == id.index, id, "is on another slot's node"),
            Mode::Replicated { .. } => {}
        }
    }

    /// The owner of a session that is named; `Some(None)` when it is not open.
    fn owner(&self, session: Option<SessionId>) -> Option<Option<NodeId>> {
        session.map(|id| self.state.sessions.get(&id).map(|s| s.node))
    }
}
