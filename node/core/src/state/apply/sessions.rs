//! Commands about sessions: LEASES.md R7 to R11 and R13, as judged at apply on every replica alike.

use super::{Applied, Effect, ReplyValue};
use crate::command::{CloseSession, OpenSession};
use crate::event::{Event, EventKind};
use crate::id::{BootId, Generation, NodeId, Reopens, SessionId, SlotId};
use crate::lease::close::{judge_close, judge_reopen, judge_voter_up};
use crate::lease::rules::Sound;
use crate::refusal::Refusal;
use crate::scheduler::plan::Plan;
use crate::state::State;
use crate::state::node::{Lost, LostCause};
use crate::state::session::Session;
use crate::state::slot::{InstanceState, Phase};

impl State {
    /// R8.
    pub(super) fn voter_up(&mut self, voter: NodeId, boot: BootId, replaces: Option<BootId>) -> Applied {
        let current = self.existing_node(voter)?.boot.unwrap_or_default();
        judge_voter_up::<Sound>(current, boot, replaces.unwrap_or_default())
            .map_err(|why| Refusal::StaleVoterUp { voter, why })?;
        self.edit_node(voter, |node| node.boot = Some(boot));
        Ok(Effect::TOPOLOGY)
    }

    /// R11: refused until the node's old session is closed by R7 or Fenced.
    pub(super) fn open_session(&mut self, open: &OpenSession, events: &mut Vec<Event>) -> Applied {
        let node = self.existing_node(open.node)?;
        if let Some(session) = node.session {
            return Err(Refusal::SessionOpen { node: open.node, session });
        }
        let timing = self.cluster.as_ref().map(|c| c.timing).ok_or(Refusal::NoCluster)?;
        let id = SessionId(self.revision.0);
        let session = Session {
            id,
            node: open.node,
            guard_boot: open.guard_boot,
            key: open.key,
            timing,
            enforcement: open.enforcement,
            reopens: Reopens(0),
            opened: self.now,
            agent_gone: None,
        };
        self.sessions.insert(id, session);
        self.edit_node(open.node, |node| {
            node.session = Some(id);
            node.lost = None;
        });
        self.rebind_adrift(open.node, id, &open.inventory);
        let message = format!("node {} is alive (session {id})", self.name_of(open.node));
        events.push(self.node_event(EventKind::NodeAlive, open.node, message));
        Ok(Effect::TOPOLOGY.with(ReplyValue::Session(id)))
    }

    /// R13: what the guard still runs at the recorded generation is bound to the new session without a restart;
    /// what it does not run any more is gone.
    fn rebind_adrift(&mut self, node: NodeId, session: SessionId, inventory: &[(SlotId, Generation)]) {
        let here: Vec<_> = self.placements_on(node).map(|(slot, p)| (slot.clone(), p.generation)).collect();
        for (slot, generation) in here {
            if inventory.iter().any(|(s, g)| *s == slot && *g == generation) {
                let now = self.now;
                self.edit_placement(&slot, generation, |p| {
                    p.session = Some(session);
                    if p.is_adrift() {
                        p.phase = Phase::Active;
                        p.observed.state = InstanceState::Starting;
                        p.observed.since = now;
                    }
                });
            } else {
                self.forget_placement(&slot, generation);
            }
        }
    }

    /// R7.
    pub(super) fn close_by_promises(&mut self, close: &CloseSession, events: &mut Vec<Event>) -> Applied {
        let (session, proof) = (close.session, close.proof());
        let reopens = self.sessions.get(&session).map(|s| s.reopens);
        judge_close::<Sound>(&proof, reopens, &self.membership, |voter| self.nodes.get(&voter)?.boot)
            .map_err(|why| Refusal::CloseRefused { session, why })?;
        self.close_session(close.session, LostCause::Silent, events);
        self.run_actions(&close.plan, events);
        Ok(Effect::TOPOLOGY)
    }

    /// R4, R7: the guard that held the session proved that nothing of it is left.
    pub(super) fn close_by_fenced(
        &mut self,
        session: SessionId,
        plan: &Plan,
        events: &mut Vec<Event>,
    ) -> Applied {
        if !self.sessions.contains_key(&session) {
            return Err(Refusal::NoSuchSession(session));
        }
        self.close_session(session, LostCause::Fenced, events);
        self.run_actions(plan, events);
        Ok(Effect::TOPOLOGY)
    }

    /// R9: voids all outstanding promises by raising gen.
    pub(super) fn reopen(&mut self, id: SessionId, to: Reopens, events: &mut Vec<Event>) -> Applied {
        let open = self.sessions.get(&id).map(|s| s.reopens);
        judge_reopen(open, to).map_err(|why| Refusal::ReopenRefused { session: id, why })?;
        let session = self.sessions.get_mut(&id).ok_or(Refusal::NoSuchSession(id))?;
        session.reopens = to;
        let node = session.node;
        let message =
            format!("node {} was taken back: only a minority of voters missed it", self.name_of(node));
        events.push(self.node_event(EventKind::NodeTakenBack, node, message));
        Ok(Effect::TOPOLOGY)
    }

    /// What the leader has heard of a host's agent.
    pub(super) fn note_agent(&mut self, id: SessionId, gone: bool, events: &mut Vec<Event>) -> Applied {
        let session = self.sessions.get_mut(&id).ok_or(Refusal::NoSuchSession(id))?;
        if session.agent_gone.is_some() == gone {
            return Ok(Effect::NONE);
        }
        session.agent_gone = gone.then_some(self.now);
        let node = session.node;
        let name = self.name_of(node);
        events.push(if gone {
            let message =
                format!("the agent of {name} is gone: what runs there goes on, nothing new is placed there");
            self.node_event(EventKind::AgentGone, node, message)
        } else {
            self.node_event(EventKind::AgentBack, node, format!("the agent of {name} is back"))
        });
        Ok(Effect::TOPOLOGY)
    }

    /// Ends a session: frees the exclusive slots of its node and marks the other instances adrift (R13).
    pub(super) fn close_session(&mut self, id: SessionId, cause: LostCause, events: &mut Vec<Event>) {
        let Some(session) = self.sessions.remove(&id) else { return };
        let (node, now) = (session.node, self.now);
        self.edit_node(node, |n| {
            n.session = None;
            n.lost = Some(Lost { since: now, cause });
        });
        let how = match cause {
            LostCause::Fenced => "ended its lease in order",
            LostCause::Joining | LostCause::Silent => "is lost: a majority of voters gave it up",
        };
        let message = format!("node {} {how} (session {id})", self.name_of(node));
        events.push(self.node_event(EventKind::NodeLost, node, message));
        let held: Vec<_> = self.placements_on(node).map(|(slot, p)| (slot.clone(), p.generation)).collect();
        for (slot, generation) in held {
            if self.is_exclusive(&slot.service) {
                self.forget_placement(&slot, generation);
            } else {
                self.edit_placement(&slot, generation, |p| {
                    // A revoked instance stays revoked: its agent ends it when it comes back.
                    if !p.is_revoking() {
                        p.phase = Phase::Adrift { since: now };
                    }
                    p.session = None;
                    p.observed.state = InstanceState::Lost;
                    p.observed.since = now;
                });
            }
            let message = format!("instance {slot} was lost with node {}", self.name_of(node));
            events.push(self.instance_event(EventKind::InstanceLost, &slot, node, message));
        }
    }
}
