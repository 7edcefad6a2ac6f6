//! The voter's half of all leases: R2, R5, R6 and R9 of LEASES.md.
//!
//! The caller keeps one value behind one lock and takes that lock for everything: each heartbeat, each promise,
//! each apply and each append to the log (R2). What is told in which order:
//!
//! - before an append with a membership entry goes to disk: [`VoterLease::membership_appended`]; after a
//!   truncation: [`VoterLease::log_truncated`]; at start, with what the log holds: [`Applied::pending`];
//! - while applying, in log order: `list_applied`, `voter_up_applied`, `session_opened`, `session_reopened`,
//!   `session_closed`, and after a batch [`VoterLease::applied_to`];
//! - for a snapshot, instead of all of them: [`VoterLease::snapshot_installed`];
//! - at least every 50 ms: [`VoterLease::tick`], or the voter takes its own pause for one.

mod promise;
mod session;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

pub use self::promise::{AgeReport, AgeReports, AgentHeard, CloseRequest, Promise, Refusal};
use self::session::{AgentSeen, Tracked};
use super::message::{Ack, Answer, Closed, Fenced, Heartbeat, Tenure, VoterList};
use super::rules::{Rules, Sound};
use crate::id::{BootId, ClusterId, Incarnation, MembershipId, NodeId, Reopens, Revision, SessionId};
use crate::time::HostInstant;

/// A gap between ticks above this is a stall of the voter itself, and all ages are shifted by it (R6).
pub const STALL: Duration = Duration::from_millis(50);

/// Who the voter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoterIdentity {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// This node.
    pub node: NodeId,
    /// This start of it; random, never 0.
    pub boot: BootId,
}

/// One session that is open in the applied state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenSession {
    /// The session.
    pub session: SessionId,
    /// Whose it is.
    pub node: NodeId,
    /// Its TTL, fixed when it was opened.
    pub ttl_ms: u32,
    /// How often it was re-opened.
    pub reopens: Reopens,
}

/// What of the applied state a voter needs: at its start and when it installs a snapshot.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// The index of the last applied entry.
    pub revision: Revision,
    /// The applied membership and its addresses.
    pub list: Arc<VoterList>,
    /// The open sessions.
    pub sessions: Vec<OpenSession>,
    /// The newest `VoterUp` of this voter; 0 without one.
    pub own_boot: BootId,
    /// The membership entries that the log holds above `revision`.
    pub pending: BTreeSet<MembershipId>,
}

/// What to do with a `Fenced` datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FencedEffect {
    /// The session is open: forward to the leader that it may be closed without promises.
    Forward(SessionId),
    /// The session is closed already: answer so.
    Answer(Closed),
    /// Of another cluster, another node, or of a session that this voter has not heard of yet.
    Ignore,
}

/// Why a heartbeat gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// It is of another cluster or incarnation.
    OtherCluster,
    /// It is of another node than the session's.
    OtherNode,
    /// It is too old for its answer to be worth anything.
    Replayed,
    /// The voter may not ack it now: R2(a) to (d), R5.
    NotNow,
}

/// The voter's half.
#[derive(Clone, Debug)]
pub struct VoterLease<R: Rules = Sound> {
    identity: VoterIdentity,
    list: Arc<VoterList>,
    pending: BTreeSet<MembershipId>,
    up: bool,
    revision: Revision,
    sessions: BTreeMap<SessionId, Tracked>,
    last_tick: HostInstant,
    rules: PhantomData<R>,
}

impl<R: Rules> VoterLease<R> {
    /// A voter that starts at `now` with what its disk held. Every session counts as just acked (R6); nothing is
    /// acked or promised before this boot's `VoterUp` is applied (R2c).
    #[must_use]
    pub fn new(now: HostInstant, identity: VoterIdentity, applied: Applied) -> Self {
        let mut voter = Self {
            identity,
            list: Arc::default(),
            pending: BTreeSet::new(),
            up: false,
            revision: Revision(0),
            sessions: BTreeMap::new(),
            last_tick: now,
            rules: PhantomData,
        };
        voter.take_over(now, applied);
        if !R::RESET_ON_START {
            voter.sessions.values_mut().for_each(|session| session.last_ack = HostInstant::default());
        }
        voter
    }

    /// Who the voter is.
    #[must_use]
    pub fn identity(&self) -> VoterIdentity {
        self.identity
    }

    /// The applied membership and its addresses.
    #[must_use]
    pub fn list(&self) -> &Arc<VoterList> {
        &self.list
    }

    /// Whether the voter may ack and promise at all: R2(a) to (c).
    ///
    /// # Errors
    /// The condition that is not met.
    pub fn readiness(&self) -> Result<(), Refusal> {
        if !self.list.membership.contains(self.identity.node) {
            return Err(Refusal::NotVoter);
        }
        if R::GATE_ON_APPEND && !self.pending.is_empty() {
            return Err(Refusal::MembershipPending);
        }
        if R::NEEDS_VOTER_UP && !self.up { Err(Refusal::NotUp) } else { Ok(()) }
    }

    // ---- the log and the applied state --------------------------------------------------------------------

    /// R2(b): a membership entry is about to go to the log's disk. From here on nothing is acked or promised
    /// until it is applied.
    pub fn membership_appended(&mut self, id: MembershipId) {
        if id.0 > self.revision.0 {
            self.pending.insert(id);
        }
    }

    /// R2(b): the log no longer holds anything at or above `from`.
    pub fn log_truncated(&mut self, from: u64) {
        self.pending.retain(|id| id.0 < from);
    }

    /// A membership entry was applied, or an address of one of its voters changed. Only a new membership resets
    /// all ages (R6).
    pub fn list_applied(&mut self, now: HostInstant, list: Arc<VoterList>) {
        self.tick(now);
        let id = list.membership.id;
        let new_membership = id != self.list.membership.id;
        self.list = list;
        self.pending.retain(|pending| *pending > id);
        if new_membership && R::RESET_ON_MEMBERSHIP {
            self.reset(now);
        }
    }

    /// R8: a `VoterUp` took effect.
    pub fn voter_up_applied(&mut self, voter: NodeId, boot: BootId) {
        if voter == self.identity.node {
            self.up = boot == self.identity.boot;
        }
    }

    /// R6: a newly opened session counts as acked.
    pub fn session_opened(&mut self, now: HostInstant, open: OpenSession) {
        self.revision = self.revision.max(Revision(open.session.0));
        self.sessions.entry(open.session).or_insert_with(|| tracked(now, open));
    }

    /// The session is closed: from here on its heartbeats are answered with `Closed`.
    pub fn session_closed(&mut self, session: SessionId) {
        self.sessions.remove(&session);
    }

    /// R9: the session was re-opened to `reopens`. It counts as just acked, and a promise with a lower count is
    /// forgotten. Harmless when told again.
    pub fn session_reopened(&mut self, now: HostInstant, session: SessionId, reopens: Reopens) {
        if let Some(known) = self.sessions.get_mut(&session) {
            reopen::<R>(known, reopens);
            known.last_ack = now;
        }
    }

    /// The state is applied up to here. What is not open and not above this is closed (R2d).
    pub fn applied_to(&mut self, revision: Revision) {
        self.revision = self.revision.max(revision);
    }

    /// The controller wishes (or no longer wishes) an orderly stop of the session: the acks say so.
    pub fn set_release(&mut self, session: SessionId, release: bool) {
        if let Some(known) = self.sessions.get_mut(&session) {
            known.release = release;
        }
    }

    /// R6: a snapshot replaced the applied state: all ages are reset. Promises survive, unless the snapshot shows
    /// a higher count of re-openings.
    pub fn snapshot_installed(&mut self, now: HostInstant, applied: Applied) {
        self.tick(now);
        self.take_over(now, applied);
        if R::RESET_ON_SNAPSHOT {
            self.reset(now);
        }
    }

    // ---- time ---------------------------------------------------------------------------------------------

    /// Notices a stall of this voter since the last call: its ages then say nothing about the hosts (R6).
    pub fn tick(&mut self, now: HostInstant) {
        let since = self.last_tick;
        if now.longest_since(since) > STALL {
            self.sessions.values_mut().for_each(|session| session.shift(since, now));
        }
        self.last_tick = now;
    }

    // ---- datagrams ----------------------------------------------------------------------------------------

    /// [`Self::judge_heartbeat`], where nobody asks why there is no answer.
    pub fn on_heartbeat(&mut self, now: HostInstant, heartbeat: &Heartbeat) -> Option<Answer> {
        self.judge_heartbeat(now, heartbeat).ok()
    }

    /// R2: answers a heartbeat whose MAC the caller has checked under the session's key.
    ///
    /// # Errors
    /// [`NoAnswer`]: why it gets none. One that is refused has no effect.
    pub fn judge_heartbeat(&mut self, now: HostInstant, heartbeat: &Heartbeat) -> Result<Answer, NoAnswer> {
        self.tick(now);
        let Tenure { node, session, .. } = heartbeat.tenure;
        if !self.is_ours(heartbeat.tenure) {
            return Err(NoAnswer::OtherCluster);
        }
        if self.is_closed(session) && R::UNKNOWN_IS_NOT_OPEN {
            return Ok(Answer::Closed(self.closed(heartbeat.tenure)));
        }
        self.readiness().map_err(|_| NoAnswer::NotNow)?;
        let (is_new, release) = match self.sessions.get_mut(&session) {
            Some(known) if known.node != node => return Err(NoAnswer::OtherNode),
            Some(known) if R::PROMISE_ENDS_ACKS && known.promised.is_some() => return Err(NoAnswer::NotNow),
            Some(known) if known.is_behind(heartbeat.seq) => return Err(NoAnswer::Replayed),
            Some(known) => {
                let is_new = heartbeat.seq > known.highest_seq;
                if is_new {
                    known.highest_seq = heartbeat.seq;
                    known.last_ack = now;
                    known.agent.hear(now, heartbeat.agent_present);
                    // An agent that is back ends the reason for a release. A voter that the leader can't reach would
                    // otherwise ask for it for ever, and the agent's next restart would be taken for its end.
                    known.release &= !heartbeat.agent_present;
                }
                (is_new, known.release)
            }
            None if R::UNKNOWN_IS_NOT_OPEN => return Err(NoAnswer::NotNow),
            None => (true, false),
        };
        let version = self.list.version();
        Ok(Answer::Ack(Ack {
            tenure: heartbeat.tenure,
            voter: self.identity.node,
            boot: self.identity.boot,
            seq: heartbeat.seq,
            list_version: version,
            // Once for each heartbeat: to copies, which anybody may have recorded, no answer is longer than they are.
            list: (is_new && heartbeat.list < version).then(|| Arc::clone(&self.list)),
            release,
        }))
    }

    /// R4, 'Lapse': takes a `Fenced` whose MAC the caller has checked under the session's key. It is never acked
    /// as a heartbeat.
    #[must_use]
    pub fn on_fenced(&self, fenced: &Fenced) -> FencedEffect {
        let Tenure { node, session, .. } = fenced.tenure;
        if !self.is_ours(fenced.tenure) {
            return FencedEffect::Ignore;
        }
        match self.sessions.get(&session) {
            Some(known) if known.node == node => FencedEffect::Forward(session),
            Some(_) => FencedEffect::Ignore,
            None if self.is_closed(session) => FencedEffect::Answer(self.closed(fenced.tenure)),
            None => FencedEffect::Ignore,
        }
    }

    // ---- the leader's questions -----------------------------------------------------------------------------

    /// The age of an open session on this voter's slowest clock.
    pub fn age(&mut self, now: HostInstant, session: SessionId) -> Option<Duration> {
        self.tick(now);
        self.sessions.get(&session).map(|known| known.age(now))
    }

    /// The ages of all open sessions. An age is no promise (R5).
    pub fn ages(&mut self, now: HostInstant) -> AgeReports {
        self.tick(now);
        let report = |(session, known): (&SessionId, &Tracked)| AgeReport {
            session: *session,
            age: known.age(now),
            promised: known.promised,
            agent: known.agent.told(),
            seq: known.highest_seq,
        };
        let VoterIdentity { node: voter, boot, .. } = self.identity;
        AgeReports { voter, boot, sessions: self.sessions.iter().map(report).collect() }
    }

    /// How long until the session's age is W if nothing is acked meanwhile; `None` unless it is open. The server
    /// of the leader's request may wait that long, when it is short, instead of refusing.
    pub fn promise_possible_in(&mut self, now: HostInstant, session: SessionId) -> Option<Duration> {
        self.tick(now);
        self.sessions.get(&session).map(|known| wait_for_age::<R>(known, now))
    }

    /// R5: promises never to ack this session again. Asked again, it promises again.
    ///
    /// # Errors
    /// [`Refusal`] names the first condition that is not met.
    pub fn promise(&mut self, now: HostInstant, request: CloseRequest) -> Result<Promise, Refusal> {
        self.tick(now);
        self.readiness()?;
        let own = self.list.membership.id;
        let VoterIdentity { node: voter, boot, .. } = self.identity;
        let known = self.sessions.get_mut(&request.session).ok_or(Refusal::NotOpen)?;
        if R::PROMISE_NAMES_OWN_MEMBERSHIP && request.membership != own {
            return Err(Refusal::OtherMembership { own });
        }
        if R::PROMISE_NAMES_OWN_REOPENS && request.reopens != known.reopens {
            return Err(Refusal::OtherReopens { own: known.reopens });
        }
        let wait = wait_for_age::<R>(known, now);
        if R::PROMISE_NEEDS_AGE && !wait.is_zero() {
            return Err(Refusal::TooYoung { wait });
        }
        known.promised = Some(request.reopens);
        let CloseRequest { session, membership, reopens } = request;
        Ok(Promise { session, membership, reopens, voter, boot })
    }

    fn take_over(&mut self, now: HostInstant, applied: Applied) {
        let mut before = std::mem::take(&mut self.sessions);
        for open in applied.sessions {
            let known = match before.remove(&open.session) {
                Some(mut known) => {
                    reopen::<R>(&mut known, open.reopens);
                    known
                }
                None => tracked(now, open),
            };
            self.sessions.insert(open.session, known);
        }
        self.revision = self.revision.max(applied.revision);
        self.list = applied.list;
        self.pending = applied.pending;
        self.up = applied.own_boot == self.identity.boot;
    }

    fn reset(&mut self, now: HostInstant) {
        self.sessions.values_mut().for_each(|session| session.last_ack = now);
    }

    fn is_ours(&self, tenure: Tenure) -> bool {
        tenure.cluster == self.identity.cluster && tenure.incarnation == self.identity.incarnation
    }

    /// Sessions are named by the index of their opening: one that is applied and not open is closed.
    fn is_closed(&self, session: SessionId) -> bool {
        session.0 <= self.revision.0 && !self.sessions.contains_key(&session)
    }

    fn closed(&self, tenure: Tenure) -> Closed {
        Closed { tenure, voter: self.identity.node }
    }
}

fn tracked(now: HostInstant, open: OpenSession) -> Tracked {
    Tracked {
        node: open.node,
        ttl_ms: open.ttl_ms,
        reopens: open.reopens,
        last_ack: now,
        highest_seq: 0,
        promised: None,
        agent: AgentSeen::default(),
        release: false,
    }
}

/// R9: a `Reopen` to a count forgets only promises with a lower one.
fn reopen<R: Rules>(known: &mut Tracked, reopens: Reopens) {
    known.reopens = known.reopens.max(reopens);
    known.promised = known.promised.filter(|promised| R::REOPEN_KEEPS_NEWER_PROMISES && *promised >= reopens);
}

fn wait_for_age<R: Rules>(known: &Tracked, now: HostInstant) -> Duration {
    Duration::from_millis(R::closing_age_ms(known.ttl_ms)).saturating_sub(known.age(now))
}
