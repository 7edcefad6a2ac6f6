//! What only the leader does: it watches sessions, closes expired ones, plans placements, and looks after the
//! control plane's membership. It proposes; every replica judges at apply.
//!
//! ```text
//!   voters' ages ─▶ Detector ─▶ AskPromise / Close / Reopen ┐
//!   state ────────▶ scheduler ─▶ ApplyPlan ─────────────────┼─▶ Raft log
//!   state ────────▶ control_plane ─▶ learners, voters ──────┘
//! ```
//! One task owns everything here. Calls to other agents and proposals run in tasks of their own and report back
//! through one bounded channel, so that a dead peer holds nothing up.

mod agents;
mod close_round;
mod members;
mod placing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_core::command::{Command, Proposal};
use muster_core::detector::Detector;
use muster_core::id::{NodeId, RequestId, Revision, SessionId};
use muster_core::lease::voter::OpenSession;
use muster_core::refusal::Refusal;
use muster_core::scheduler::plan::Action;
use muster_core::state::State;
use muster_core::state::apply::Reply;
use muster_core::time::Stamp;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::acks::Acks;
use crate::clock;
use crate::handles::Healths;
use crate::peers::Peers;
use crate::proposer::Proposer;
use crate::raft::{LeadershipWatch, RaftHandle, Role};
use close_round::VoterAnswer;

/// Answers of voters and outcomes of proposals that wait for the controller: a few for each session and voter.
const NEWS_QUEUE: usize = 4096;
/// How often at least the controller looks at everything, for what only time changes.
const LONGEST_WAIT: Duration = Duration::from_millis(500);
/// How long after becoming leader a session is left alone by [`Command::Fenced`] duplicates.
const PROPOSAL_REPEAT: Duration = Duration::from_millis(300);

/// What the controller needs.
pub struct Options {
    /// This node.
    pub me: NodeId,
    /// Raft.
    pub raft: RaftHandle,
    /// Writes of the leader.
    pub proposer: Proposer,
    /// The other voters.
    pub peers: Peers,
    /// This node's own half as a voter.
    pub acks: Acks,
    /// The state as applied.
    pub state: watch::Receiver<Arc<State>>,
    /// Sessions that were proven to be over.
    pub fenced: mpsc::Receiver<SessionId>,
    /// Where the health of all sessions is told.
    pub healths: watch::Sender<Healths>,
}

/// Something that came back to the controller.
enum News {
    Voter(VoterAnswer),
    Proposed { what: Proposed, outcome: Result<Reply, Refusal> },
    NotProposed { what: Proposed, why: String },
    Members(Result<(), String>),
}

/// What was proposed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Proposed {
    Close(SessionId),
    Fenced(SessionId),
    Reopen(SessionId),
    Agent(SessionId),
    Plan,
}

struct Controller {
    me: NodeId,
    raft: RaftHandle,
    proposer: Proposer,
    peers: Peers,
    acks: Acks,
    state: watch::Receiver<Arc<State>>,
    healths: watch::Sender<Healths>,
    news: mpsc::Sender<News>,
}

/// What lives as long as one leadership.
struct Leading {
    detector: Detector,
    synced: Option<Revision>,
    plan_in_flight: bool,
    planned_for: Option<(Revision, Revision)>,
    replan_at: Option<Stamp>,
    last_plan: Option<(Vec<Action>, tokio::time::Instant)>,
    members_in_flight: bool,
    members_checked: Option<tokio::time::Instant>,
    fenced_at: BTreeMap<SessionId, tokio::time::Instant>,
    released: BTreeSet<SessionId>,
    noted: agents::Noted,
    handed_over: Option<tokio::time::Instant>,
    /// Why nothing could be proposed lately: told once, not with every try.
    obstacle: Option<String>,
}

/// Runs until `stop`.
pub async fn run(options: Options, stop: CancellationToken) {
    let Options { me, raft, proposer, peers, acks, state, mut fenced, healths } = options;
    let (news, mut heard) = mpsc::channel(NEWS_QUEUE);
    let mut leadership = raft.leadership();
    let controller = Controller { me, raft, proposer, peers, acks, state, healths, news };
    loop {
        if leadership.now().role == Role::Leader {
            tracing::info!(term = leadership.now().term, "this node leads");
            while heard.try_recv().is_ok() {}
            tokio::select! {
                () = stop.cancelled() => return,
                () = controller.lead(&mut leadership, &mut fenced, &mut heard) => {}
            }
            controller.healths.send_replace(Healths::default());
            tracing::info!("this node no longer leads");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = leadership.changed() => if changed.is_none() { return },
            // Not the leader: a guard's proof goes to the one who is.
            Some(session) = fenced.recv() => controller.relay_fenced(session),
        }
    }
}

impl Controller {
    async fn lead(
        &self,
        leadership: &mut LeadershipWatch,
        fenced: &mut mpsc::Receiver<SessionId>,
        heard: &mut mpsc::Receiver<News>,
    ) {
        let mut state = self.state.clone();
        let mut leading = Leading::new(&state.borrow_and_update());
        loop {
            let view = Arc::clone(&state.borrow_and_update());
            self.act(&mut leading, &view);
            let wait = self.next_wakeup(&leading, &view);
            tokio::select! {
                changed = leadership.changed() => match changed {
                    Some(now) if now.role == Role::Leader => {}
                    _ => return,
                },
                changed = state.changed() => if changed.is_err() { return },
                Some(session) = fenced.recv() => self.fenced(&mut leading, &view, session),
                Some(news) = heard.recv() => {
                    self.hear(&mut leading, news);
                    while let Ok(more) = heard.try_recv() {
                        self.hear(&mut leading, more);
                    }
                }
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Everything that may have to be done now. Safe to run at any time.
    fn act(&self, leading: &mut Leading, state: &Arc<State>) {
        leading.sync(state);
        self.run_detector(leading, state);
        if self.hands_over_when_drained(leading, state) {
            return;
        }
        self.place(leading, state);
        self.look_after_members(leading, state);
    }

    fn next_wakeup(&self, leading: &Leading, state: &State) -> Duration {
        let detector = leading.detector.next_wakeup(clock::host_now());
        let replan = leading.replan_at.map_or(LONGEST_WAIT, |at| at.since(self.proposer.now(state)));
        detector.min(replan.max(Duration::from_millis(1))).min(LONGEST_WAIT)
    }

    fn hear(&self, leading: &mut Leading, news: News) {
        match news {
            News::Voter(answer) => leading.hear_voter(answer),
            News::Proposed { what, outcome } => {
                leading.finished(&what);
                leading.obstacle = None;
                match outcome {
                    Ok(_) => tracing::debug!(?what, "applied"),
                    // Another leader's or an earlier try's entry came first, or the state moved on.
                    Err(refusal) => {
                        tracing::debug!(?what, code = refusal.code(), %refusal, "refused at apply");
                    }
                }
            }
            News::NotProposed { what, why } => {
                leading.finished(&what);
                if leading.obstacle.as_ref() == Some(&why) {
                    tracing::debug!(?what, why, "could not be proposed again");
                } else {
                    tracing::warn!(?what, why, "could not be proposed; it will be tried until it can");
                    leading.obstacle = Some(why);
                }
            }
            News::Members(result) => {
                leading.members_in_flight = false;
                if let Err(why) = result {
                    tracing::warn!(
                        why,
                        "a change of the control plane's members failed; it will be tried again"
                    );
                }
            }
        }
    }

    /// Proposes on this leader, without waiting.
    fn propose(&self, what: Proposed, command: Command) {
        let proposal =
            Proposal { stamp: Stamp(0), request: RequestId::default(), actor: "muster".into(), command };
        let encoded: Bytes = muster_wire::encode_proposal(&proposal);
        let (proposer, news) = (self.proposer.clone(), self.news.clone());
        tokio::spawn(async move {
            let told = match proposer.propose_here(&encoded).await {
                Ok(outcome) => News::Proposed { what, outcome },
                Err(error) => News::NotProposed { what, why: error.to_string() },
            };
            // The controller is gone only when the agent stops.
            let _told = news.send(told).await;
        });
    }
}

impl Leading {
    fn new(state: &State) -> Self {
        let timing = state.cluster.as_ref().map_or(muster_core::time::Timing::LAN, |c| c.timing);
        Self {
            detector: Detector::new(timing, state.membership.clone()),
            synced: None,
            plan_in_flight: false,
            planned_for: None,
            replan_at: None,
            last_plan: None,
            members_in_flight: false,
            members_checked: None,
            fenced_at: BTreeMap::new(),
            noted: agents::Noted::default(),
            released: BTreeSet::new(),
            handed_over: None,
            obstacle: None,
        }
    }

    /// Feeds the detector with what was applied since the last time.
    fn sync(&mut self, state: &State) {
        if self.synced == Some(state.topology) {
            return;
        }
        self.synced = Some(state.topology);
        if let Some(cluster) = &state.cluster {
            self.detector.timing_applied(cluster.timing);
        }
        self.detector.membership_applied(state.membership.clone());
        for node in state.nodes.values() {
            if let Some(boot) = node.boot {
                self.detector.voter_up_applied(node.id, boot);
            }
        }
        for session in state.sessions.values() {
            self.detector.session_opened(OpenSession {
                session: session.id,
                node: session.node,
                ttl_ms: session.timing.lease_ttl_ms,
                reopens: session.reopens,
            });
            self.detector.session_reopened(session.id, session.reopens);
        }
        for closed in self.detector.sessions().filter(|e| !state.sessions.contains_key(e)).collect::<Vec<_>>()
        {
            self.detector.session_closed(closed);
        }
        self.fenced_at.retain(|session, _| state.sessions.contains_key(session));
    }

    fn finished(&mut self, what: &Proposed) {
        match what {
            Proposed::Plan => self.plan_in_flight = false,
            Proposed::Fenced(session) => {
                self.fenced_at.remove(session);
            }
            // Asked for again at its own pace.
            Proposed::Close(_) | Proposed::Reopen(_) | Proposed::Agent(_) => {}
        }
    }
}
