//! What replicas do besides Raft: applying, granting leases, and the leader's work.

use std::sync::Arc;

use muster_core::detector::{Detector, Request};
use muster_core::id::{BootId, NodeId, SessionId};
use muster_core::lease::voter::FencedEffect;
use muster_core::lease::{Answer, Membership, VoterList};

use super::check::Violation;
use super::clocks::{MS, Time};
use super::events::Event;
use super::ledger::{Effect, Entry, Slot};
use super::network::Message;
use super::world::{World, tell};

/// How often a replica works: below the voter's limit for a stall.
const WORK_EVERY: Time = 45 * MS;
/// How often a leader works.
const LEAD_EVERY: Time = 20 * MS;

impl World {
    /// All slots.
    pub(super) fn slots(&self) -> Vec<Slot> {
        self.replicas
            .values()
            .next()
            .map_or(Vec::new(), |replica| replica.ledger.slots.keys().copied().collect())
    }

    /// Writes through some leader that can be reached; a deposed one at times.
    pub(super) fn propose(&mut self, from: NodeId, entry: Entry) {
        let mut leaders: Vec<(u64, NodeId)> = self
            .replicas
            .values()
            .filter(|replica| replica.up && replica.leading.is_some())
            .map(|replica| (replica.term, replica.id))
            .collect();
        leaders.sort_unstable();
        let newest = leaders.last().copied();
        let any = self.rng.pick(&leaders);
        let Some((_, leader)) = (if self.rng.percent(90) { newest } else { any }) else { return };
        let entry = Arc::new(entry);
        self.adversary.remember(&entry);
        self.send(from, leader, Message::Propose(entry));
    }

    /// A replica's regular work.
    pub(super) fn replica_works(&mut self, id: NodeId, epoch: u64) {
        let at = self.now;
        if !self.replicas.get(&id).is_some_and(|replica| replica.up && replica.epoch == epoch) {
            return;
        }
        let Some(replica) = self.replicas.get_mut(&id) else { return };
        let now = replica.now(at);
        replica.voter.tick(now);
        let next = if replica.leading.is_some() { LEAD_EVERY } else { WORK_EVERY };
        self.after(next, Event::Replica { id, epoch });
        let Some(replica) = self.replicas.get_mut(&id) else { return };
        let own = replica.ledger.boots.get(&id).copied().unwrap_or_default();
        let (boot, leads) = (replica.boot, replica.leading.is_some());
        self.apply(id);
        if own != boot && self.rng.percent(30) {
            self.propose(id, Entry::VoterUp { voter: id, boot, replaces: own });
        }
        if leads {
            self.lead(id);
        }
    }

    /// A replica starts again.
    pub(super) fn replica_starts(&mut self, id: NodeId) {
        let boot = BootId(self.number());
        let from_snapshot = self.rng.percent(50);
        let (at, protocol) = (self.now, self.protocol);
        let Some(replica) = self.replicas.get_mut(&id).filter(|replica| !replica.up) else { return };
        replica.restart(at, boot, from_snapshot, &protocol);
        let epoch = replica.epoch;
        tell!(self, "voter {id}: starts, boot {boot}");
        self.after(0, Event::Replica { id, epoch });
    }

    /// A message reaches a replica.
    pub(super) fn replica_hears(&mut self, id: NodeId, from: NodeId, message: &Message) {
        let at = self.now;
        let Some(replica) = self.replicas.get_mut(&id) else { return };
        let now = replica.now(at);
        match message {
            Message::Beat(beat, key) => {
                let known = replica.ledger.sessions.get(&beat.tenure.session);
                if known.is_some_and(|session| session.key != *key) {
                    return;
                }
                let liar = replica.liar;
                if let Some(answer) = replica.voter.on_heartbeat(now, beat) {
                    let answer = if liar { lie(answer, id) } else { answer };
                    self.send(id, from, Message::Answer(answer));
                }
            }
            Message::Fenced(fenced, key) => {
                let known = replica.ledger.sessions.get(&fenced.tenure.session);
                let forged = known.is_some_and(|session| session.key != *key);
                if forged && self.protocol.habits.fenced_needs_key {
                    return;
                }
                match replica.voter.on_fenced(fenced) {
                    FencedEffect::Forward(session) => self.propose(id, Entry::Fenced { session }),
                    FencedEffect::Answer(closed) => {
                        self.send(id, from, Message::Answer(Answer::Closed(closed)))
                    }
                    FencedEffect::Ignore => {}
                }
            }
            Message::AskAges => {
                let ages = replica.voter.ages(now);
                self.send(id, from, Message::Ages(ages));
            }
            Message::AskPromise(request) => match replica.voter.promise(now, *request) {
                Ok(promise) => {
                    tell!(
                        self,
                        "voter {id}: gives up session {} (C {}, gen {})",
                        promise.session,
                        promise.membership,
                        promise.reopens
                    );
                    self.adversary.promises.push(promise);
                    self.send(id, from, Message::Promised(promise));
                }
                Err(refusal) => self.send(id, from, Message::Refused(request.session, refusal)),
            },
            Message::Append { .. } | Message::Appended { .. } | Message::Snapshot { .. } => {
                self.raft_hears(id, from, message);
            }
            Message::Ages(_) | Message::Promised(_) | Message::Refused(..) | Message::Propose(_) => {
                self.leader_hears(id, from, message);
            }
            Message::Answer(_) => {}
        }
    }

    fn leader_hears(&mut self, id: NodeId, from: NodeId, message: &Message) {
        let at = self.now;
        let Some(replica) = self.replicas.get_mut(&id) else { return };
        let now = replica.now(at);
        let Some(leading) = &mut replica.leading else { return };
        match message {
            Message::Ages(ages) => leading.detector.on_ages(now, ages),
            Message::Promised(promise) => leading.detector.on_promise(*promise),
            Message::Refused(session, refusal) => leading.detector.on_refusal(now, from, *session, *refusal),
            Message::Propose(entry) => self.append(id, Arc::clone(entry)),
            Message::Beat(..)
            | Message::Answer(_)
            | Message::Fenced(..)
            | Message::Append { .. }
            | Message::Appended { .. }
            | Message::Snapshot { .. }
            | Message::AskAges
            | Message::AskPromise(_) => {}
        }
        if !matches!(self.replicas.get(&id), Some(replica) if replica.leading.is_none()) {
            self.ask(id);
        }
    }

    /// Applies what is committed, and tells the detector of a leader.
    pub(super) fn apply(&mut self, id: NodeId) {
        loop {
            let (at, protocol) = (self.now, self.protocol);
            let Some(replica) = self.replicas.get_mut(&id) else { return };
            let Some((index, effect)) = replica.apply_next(at, &protocol) else { return };
            if let (Some(leading), Some(effect)) = (&mut replica.leading, &effect) {
                inform(&mut leading.detector, effect, &replica.ledger.list);
            }
            if index > self.applied {
                self.applied = index;
                self.twin_follows(id, index);
                match &effect {
                    Some(Effect::Listed) => self.tally.memberships += 1,
                    Some(Effect::Opened(_)) => self.tally.opened += 1,
                    Some(Effect::Closed(_, true)) => self.tally.closed_by_promises += 1,
                    Some(Effect::Closed(_, false)) => self.tally.closed_by_fenced += 1,
                    _ => {}
                }
                if let Some(Effect::Closed(session, by_promises)) = effect {
                    let how = if by_promises { "by promises" } else { "by Fenced" };
                    tell!(self, "session {session} is closed {how} at {index}");
                    self.closed.insert(session);
                    self.check_close(session);
                }
            }
        }
    }

    /// The product's own state machine gets the entry that this replica has applied before all others.
    fn twin_follows(&mut self, id: NodeId, index: u64) {
        let (Some(twin), Some(replica)) = (&mut self.twin, self.replicas.get(&id)) else { return };
        let Some((_, entry)) = replica.entry(index) else { return };
        self.tally.twin_entries += 1;
        if let Some(what) = twin.follow(entry, &replica.ledger) {
            self.violated(Violation::Disagreement { index, what });
        }
    }

    /// A leader's regular work.
    fn lead(&mut self, id: NodeId) {
        let heartbeat = self.ttl() / 16;
        let due = {
            let Some(leading) = self.replicas.get(&id).and_then(|replica| replica.leading.as_ref()) else {
                return;
            };
            self.now.saturating_sub(leading.sent_at) >= heartbeat
        };
        if due {
            self.replicate(id);
        }
        self.ask(id);
        self.place(id);
        self.change_membership(id);
    }

    /// Does what the detector wishes.
    fn ask(&mut self, id: NodeId) {
        let at = self.now;
        let Some(replica) = self.replicas.get_mut(&id) else { return };
        let now = replica.now(at);
        let Some(leading) = &mut replica.leading else { return };
        for request in leading.detector.poll(now) {
            match request {
                Request::AskAges { voters } => {
                    voters.into_iter().for_each(|voter| self.send(id, voter, Message::AskAges));
                }
                Request::AskPromise { voters, request } => {
                    voters.into_iter().for_each(|voter| self.send(id, voter, Message::AskPromise(request)));
                }
                Request::Close(close) => {
                    let plan = self.plan_without(id, close.session);
                    self.propose(id, Entry::Close { close, plan });
                }
                Request::Reopen { session, to } if self.reopens => {
                    self.propose(id, Entry::Reopen { session, to });
                }
                Request::Reopen { .. } => {}
            }
        }
    }

    /// Where the slots of a session go when it is closed.
    fn plan_without(&mut self, id: NodeId, session: SessionId) -> Vec<(Slot, SessionId)> {
        let Some(replica) = self.replicas.get(&id) else { return Vec::new() };
        let others: Vec<SessionId> =
            replica.ledger.sessions.keys().copied().filter(|other| *other != session).collect();
        let held =
            replica.ledger.slots.iter().filter(|(_, held)| held.is_some_and(|held| held.session == session));
        let slots: Vec<Slot> = held.map(|(slot, _)| *slot).collect();
        slots.into_iter().filter_map(|slot| self.rng.pick(&others).map(|target| (slot, target))).collect()
    }

    /// Places what nobody holds.
    fn place(&mut self, id: NodeId) {
        let at = self.now;
        let Some(replica) = self.replicas.get(&id) else { return };
        let Some(leading) = &replica.leading else { return };
        let now = replica.now(at);
        let vacant: Vec<Slot> =
            replica.ledger.slots.iter().filter(|(_, held)| held.is_none()).map(|(slot, _)| *slot).collect();
        if vacant.is_empty() {
            return;
        }
        let open = replica.ledger.sessions.keys().copied();
        let good: Vec<SessionId> = open.filter(|session| !leading.detector.overdue(now, *session)).collect();
        for slot in vacant {
            if let Some(session) = self.rng.pick(&good) {
                self.propose(id, Entry::Assign { slot, session });
            }
        }
    }

    /// Takes the next step towards the voters wished for, one membership entry at a time.
    fn change_membership(&mut self, id: NodeId) {
        let at = self.now;
        let Some(replica) = self.replicas.get(&id) else { return };
        let Some(leading) = &replica.leading else { return };
        let applied = &replica.ledger.list.membership;
        if replica.effective().id != applied.id || replica.term_at(replica.commit) != Some(replica.term) {
            return;
        }
        // Safety does not rest on waiting until no session is overdue (R7): only half of the leaders do.
        if id.0.is_multiple_of(2) && !leading.detector.membership_change_allowed(replica.now(at)) {
            return;
        }
        let next = match applied.configs.as_slice() {
            [_, new] => vec![new.clone()],
            [old] if *old != self.wanted_voters => vec![old.clone(), self.wanted_voters.clone()],
            _ => return,
        };
        self.append(id, Arc::new(Entry::Membership(next)));
    }
}

fn inform(detector: &mut Detector, effect: &Effect, list: &VoterList) {
    match effect {
        Effect::Listed => detector.membership_applied(list.membership.clone()),
        Effect::Up(voter, boot) => detector.voter_up_applied(*voter, *boot),
        Effect::Opened(open) => detector.session_opened(*open),
        Effect::Closed(session, _) => detector.session_closed(*session),
        Effect::Reopened(session, reopens) => detector.session_reopened(*session, *reopens),
    }
}

/// What a voter with a damaged list says: that it alone grants leases, from the next membership on.
fn lie(answer: Answer, voter: NodeId) -> Answer {
    let Answer::Ack(mut ack) = answer else { return answer };
    let id = muster_core::id::MembershipId(ack.list_version.membership.0 + 1);
    let list = super::ledger::list_of(Membership::uniform(id, [voter]));
    ack.list_version = list.version();
    ack.list = Some(Arc::new(list));
    Answer::Ack(ack)
}
