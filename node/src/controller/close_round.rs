//! The close round (LEASES.md R5, R7, R9): asks voters for ages and promises, and proposes what follows.

use std::sync::Arc;
use std::time::Duration;

use muster_core::command::{CloseSession, Command};
use muster_core::detector::Request;
use muster_core::id::{BootId, NodeId, SessionId};
use muster_core::lease::voter::{AgeReport, AgeReports, AgentHeard, CloseRequest, Promise, Refusal};
use muster_core::state::State;
use muster_core::time::HostInstant;
use muster_proto::v1;

use super::{Controller, Leading, News, PROPOSAL_REPEAT, Proposed};
use crate::clock;
use crate::handles::Healths;
use crate::peers::sender;

/// How long a voter may take to answer. A dead one is asked again later; nobody waits for it.
const ASK_TIMEOUT: Duration = Duration::from_millis(400);
/// How long a voter may wait for a session's age to reach W before it refuses.
const PROMISE_WAIT_MS: u32 = 60;

/// What a voter answered.
pub(super) enum VoterAnswer {
    Ages { at: HostInstant, reports: AgeReports },
    Promised(Promise),
    Refused { at: HostInstant, voter: NodeId, session: SessionId, refusal: Refusal },
}

impl Controller {
    pub(super) fn run_detector(&self, leading: &mut Leading, state: &Arc<State>) {
        // The own voter answers at once, so a few turns settle everything that needs no other voter.
        for _turn in 0..4 {
            let requests = leading.detector.poll(clock::host_now());
            if requests.is_empty() {
                break;
            }
            for request in requests {
                self.carry_out(leading, state, request);
            }
        }
        self.publish_healths(leading, state);
    }

    fn carry_out(&self, leading: &mut Leading, state: &Arc<State>, request: Request) {
        match request {
            Request::AskAges { voters } => {
                for voter in voters {
                    self.ask_ages(leading, state, voter);
                }
            }
            Request::AskPromise { voters, request } => {
                for voter in voters {
                    self.ask_promise(leading, state, voter, request);
                }
            }
            Request::Close(proof) => {
                let plan =
                    muster_core::scheduler::plan_after_loss(state, proof.session, self.proposer.now(state));
                tracing::info!(session = %proof.session, steps = plan.actions.len(), "closing an expired session");
                let close = CloseSession {
                    session: proof.session,
                    membership: proof.membership,
                    reopens: proof.reopens,
                    promises: proof.promises,
                    plan,
                };
                self.propose(Proposed::Close(close.session), Command::CloseSession(close));
            }
            Request::Reopen { session, to } => {
                self.propose(Proposed::Reopen(session), Command::Reopen { session, to });
            }
        }
    }

    fn ask_ages(&self, leading: &mut Leading, state: &Arc<State>, voter: NodeId) {
        if voter == self.me {
            self.acks.set_release(&leading.released);
            leading.detector.on_ages(clock::host_now(), &self.acks.ages());
            return;
        }
        let Ok(mut link) = self.peers.link(voter) else { return };
        let (peers, news) = (self.peers.clone(), self.news.clone());
        let release = leading.released.iter().map(|e| e.0).collect();
        let request =
            v1::LeaseAgesRequest { sender: Some(sender(state, self.me)), sessions: Vec::new(), release };
        tokio::spawn(async move {
            match tokio::time::timeout(ASK_TIMEOUT, link.lease_ages(request)).await {
                Ok(Ok(reply)) => {
                    // The ages were read before now, so they are taken for a little younger than they are.
                    let answer = VoterAnswer::Ages {
                        at: clock::host_now(),
                        reports: age_reports(&reply.into_inner()),
                    };
                    let _told = news.send(News::Voter(answer)).await;
                }
                Ok(Err(_)) | Err(_) => peers.failed(voter),
            }
        });
    }

    fn ask_promise(&self, leading: &mut Leading, state: &Arc<State>, voter: NodeId, request: CloseRequest) {
        if voter == self.me {
            let at = clock::host_now();
            match self.acks.promise(request) {
                Ok(promise) => leading.detector.on_promise(promise),
                Err(refusal) => leading.detector.on_refusal(at, voter, request.session, refusal),
            }
            return;
        }
        let Ok(mut link) = self.peers.link(voter) else { return };
        let (peers, news) = (self.peers.clone(), self.news.clone());
        let message = v1::PromiseCloseRequest {
            sender: Some(sender(state, self.me)),
            session: request.session.0,
            membership: request.membership.0,
            reopens: request.reopens.0,
            wait_ms: PROMISE_WAIT_MS,
        };
        tokio::spawn(async move {
            match tokio::time::timeout(ASK_TIMEOUT, link.promise_close(message)).await {
                Ok(Ok(reply)) => {
                    let answer = promise_answer(voter, request, &reply.into_inner());
                    let _told = news.send(News::Voter(answer)).await;
                }
                Ok(Err(_)) | Err(_) => peers.failed(voter),
            }
        });
    }

    /// A guard proved that nothing of its session is left (R4, R7).
    pub(super) fn fenced(&self, leading: &mut Leading, state: &Arc<State>, session: SessionId) {
        let now_monotonic = clock::monotonic();
        let recent = leading.fenced_at.get(&session).is_some_and(|at| now_monotonic - *at < PROPOSAL_REPEAT);
        if recent || !state.sessions.contains_key(&session) {
            return;
        }
        leading.fenced_at.insert(session, now_monotonic);
        let plan = muster_core::scheduler::plan_after_loss(state, session, self.proposer.now(state));
        self.propose(Proposed::Fenced(session), Command::Fenced { session, plan });
    }

    /// Passes a guard's proof on to the leader; the guard repeats it until it is answered.
    pub(super) fn relay_fenced(&self, session: SessionId) {
        let Some(leader) = self.raft.leader().map(NodeId).filter(|l| *l != self.me) else { return };
        let Ok(mut link) = self.peers.link(leader) else { return };
        let state = self.state.borrow().clone();
        let request = v1::RelayFencedRequest { sender: Some(sender(&state, self.me)), session: session.0 };
        tokio::spawn(async move {
            if let Ok(Err(status)) = tokio::time::timeout(ASK_TIMEOUT, link.relay_fenced(request)).await {
                tracing::debug!(%session, status = status.message(), "a guard's proof could not be passed on");
            }
        });
    }

    fn publish_healths(&self, leading: &mut Leading, state: &State) {
        let at = clock::host_now();
        let health = |e: &SessionId| leading.detector.health(at, *e).map(|h| (*e, h));
        let healths: Healths = Arc::new(state.sessions.keys().filter_map(health).collect());
        self.look_after_agents(leading, state, &healths);
        self.healths.send_replace(healths);
    }
}

impl Leading {
    pub(super) fn hear_voter(&mut self, answer: VoterAnswer) {
        match answer {
            VoterAnswer::Ages { at, reports } => self.detector.on_ages(at, &reports),
            VoterAnswer::Promised(promise) => self.detector.on_promise(promise),
            VoterAnswer::Refused { at, voter, session, refusal } => {
                self.detector.on_refusal(at, voter, session, refusal);
            }
        }
    }
}

fn age_reports(reply: &v1::LeaseAgesReply) -> AgeReports {
    let report = |age: &v1::LeaseAge| AgeReport {
        session: SessionId(age.session),
        age: Duration::from_micros(age.age_us),
        promised: age.promised.map(muster_core::id::Reopens),
        seq: age.seq,
        agent: match age.agent_absent_us {
            None => AgentHeard::Nothing,
            Some(0) => AgentHeard::Present,
            Some(micros) => AgentHeard::Absent(Duration::from_micros(micros)),
        },
    };
    AgeReports {
        voter: NodeId(reply.voter),
        boot: BootId(reply.boot),
        sessions: reply.ages.iter().map(report).collect(),
    }
}

fn promise_answer(voter: NodeId, request: CloseRequest, reply: &v1::PromiseCloseReply) -> VoterAnswer {
    if let Some(boot) = reply.boot {
        return VoterAnswer::Promised(Promise {
            session: request.session,
            membership: request.membership,
            reopens: request.reopens,
            voter,
            boot: BootId(boot),
        });
    }
    // Only how long to wait is of use here; the other refusals end by themselves and are asked again.
    let refusal = match reply.wait_us {
        Some(wait_us) => Refusal::TooYoung { wait: Duration::from_micros(wait_us) },
        None => Refusal::NotUp,
    };
    VoterAnswer::Refused { at: clock::host_now(), voter, session: request.session, refusal }
}
