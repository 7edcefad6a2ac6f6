//! Hosts whose agent is gone while their guard goes on (LEASES.md, 'Agent gone'): nothing new is placed there, and after
//! a time they are asked to let go.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::time::Duration;

use muster_core::command::{Command, Role};
use muster_core::detector::SessionHealth;
use muster_core::id::SessionId;
use muster_core::lease::voter::AgentHeard;
use muster_core::state::State;
use muster_core::state::node::{LostCause, Node};
use tokio::time::Instant;

use super::{Controller, Leading, PROPOSAL_REPEAT, Proposed};
use crate::clock;
use crate::handles::Healths;

/// An agent that has been gone for so long may have its services moved away.
const AGENT_GRACE: Duration = Duration::from_secs(60);
/// An agent that has been gone for so long is not counted on. One that is merely restarted is back before.
const AGENT_MISSED: Duration = Duration::from_secs(1);
/// The feature level from which agents know [`Command::NoteAgent`]; one that does not would stop at it.
const FEATURE_NOTES: u32 = 2;

/// That the agent of a session's host is gone (true) or back.
type Note = (SessionId, bool);

impl Controller {
    pub(super) fn look_after_agents(&self, leading: &mut Leading, state: &State, healths: &Healths) {
        leading.released = to_release(state, healths);
        for (session, gone) in leading.noted.now_due(clock::monotonic(), to_note(state, healths)) {
            self.propose(Proposed::Agent(session), Command::NoteAgent { session, gone });
        }
    }
}

/// What was noted lately and may not be applied yet.
#[derive(Debug, Default)]
pub(super) struct Noted(BTreeMap<Note, Instant>);

impl Noted {
    /// What of these notes is to be proposed now. Each is proposed again after a pause, until it is applied.
    fn now_due(&mut self, at: Instant, notes: Vec<Note>) -> Vec<Note> {
        self.0.retain(|_, proposed| at - *proposed < PROPOSAL_REPEAT);
        notes.into_iter().filter(|note| self.is_due(at, *note)).collect()
    }

    fn is_due(&mut self, at: Instant, note: Note) -> bool {
        match self.0.entry(note) {
            Entry::Vacant(free) => {
                free.insert(at);
                true
            }
            Entry::Occupied(_) => false,
        }
    }
}

/// Of which sessions it is not in the state yet that their hosts' agents are gone, or are back. It is back when a
/// heartbeat says so: a short absence may only be what a voter knows that was restarted itself.
fn to_note(state: &State, healths: &BTreeMap<SessionId, SessionHealth>) -> Vec<Note> {
    let is_understood = state.nodes.values().all(|node| node.description.features.1 >= FEATURE_NOTES);
    let news = state.sessions.values().filter_map(|session| {
        let health = healths.get(&session.id).filter(|health| is_heard(health))?;
        let gone = match health.agent {
            AgentHeard::Present => false,
            AgentHeard::Absent(time) if time >= AGENT_MISSED => true,
            AgentHeard::Absent(_) | AgentHeard::Nothing => return None,
        };
        // What was noted is taken back in any case: an agent that does not know the command has met it already.
        (gone != session.agent_gone.is_some() && (is_understood || !gone)).then_some((session.id, gone))
    });
    news.collect()
}

/// Whether a majority has heard of the host's guard lately.
fn is_heard(health: &SessionHealth) -> bool {
    health.lease_age.is_some() && !health.overdue
}

/// The sessions whose hosts are asked to let go: their agents have been gone for long, and another host, with an
/// agent, can take over. When more than half of all hosts are without an agent or lost, it is a bad rollout or
/// the network: everything is left running (LEASES.md, 'Agent gone').
fn to_release(state: &State, healths: &BTreeMap<SessionId, SessionHealth>) -> BTreeSet<SessionId> {
    let health = |node: &Node| node.session.and_then(|session| healths.get(&session));
    let is_noted =
        |node: &Node| state.session_of(node.id).is_some_and(|session| session.agent_gone.is_some());
    let is_well = |node: &&Node| health(node).is_some_and(has_agent) && !is_noted(node);
    let known = || state.nodes.values().filter(|n| n.lost.is_none_or(|l| l.cause != LostCause::Joining));
    let (all, well) = (known().count(), known().filter(is_well).count());
    let missing = all - well;
    let takes_over = |n: &Node| !n.cordoned && !n.maintenance && n.drain.is_none() && n.role != Role::Witness;
    if (missing >= 2 && 2 * missing > all) || !known().filter(is_well).any(takes_over) {
        return BTreeSet::new();
    }
    let is_due = |node: &&Node| {
        let absent = |h: &SessionHealth| matches!(h.agent, AgentHeard::Absent(time) if time >= AGENT_GRACE);
        !node.maintenance && health(node).is_some_and(|h| !h.overdue && absent(h))
    };
    known().filter(is_due).filter_map(|node| node.session).collect()
}

/// Whether the host's guard and agent are known to be there.
fn has_agent(health: &SessionHealth) -> bool {
    is_heard(health)
        && match health.agent {
            AgentHeard::Present => true,
            AgentHeard::Absent(time) => time < AGENT_MISSED,
            AgentHeard::Nothing => false,
        }
}

#[cfg(test)]
mod tests {
    use muster_core::command::{NodeDescription, SessionKey};
    use muster_core::id::{BootId, NodeId, NodeName, Reopens};
    use muster_core::spec::Enforcement;
    use muster_core::state::node::Lost;
    use muster_core::state::session::Session;
    use muster_core::time::{Stamp, Timing};

    use super::*;

    /// Nodes 1.. whose agents have been absent for so many seconds; none: the node is lost.
    fn cluster(absent_s: &[Option<u64>]) -> (State, BTreeMap<SessionId, SessionHealth>) {
        let (mut state, mut healths) = (State::default(), BTreeMap::new());
        for (number, absent_s) in (1..).zip(absent_s) {
            let (id, session) = (NodeId(number), SessionId(100 + number));
            let lost = Lost { since: Stamp(0), cause: LostCause::Fenced };
            let node = Node {
                id,
                name: NodeName::new(&format!("n{number}")).unwrap(),
                role: Role::Auto,
                description: NodeDescription { features: (1, FEATURE_NOTES), ..NodeDescription::default() },
                labels: muster_core::spec::Labels::new(),
                cordoned: false,
                maintenance: false,
                drain: None,
                session: absent_s.map(|_| session),
                lost: absent_s.is_none().then_some(lost),
                boot: None,
                joined: Stamp(0),
                certificates: muster_core::state::trust::Certificates::default(),
            };
            state.nodes.insert(id, node);
            if let Some(absent_s) = absent_s {
                let health = SessionHealth {
                    node: id,
                    lease_age: Some(Duration::from_millis(50)),
                    headroom: Duration::from_millis(950),
                    overdue: false,
                    agent: if *absent_s == 0 {
                        AgentHeard::Present
                    } else {
                        AgentHeard::Absent(Duration::from_secs(*absent_s))
                    },
                };
                healths.insert(session, health);
                let open = Session {
                    id: session,
                    node: id,
                    guard_boot: BootId(1),
                    key: SessionKey([0; 32]),
                    timing: Timing::LAN,
                    enforcement: Enforcement::Kernel,
                    reopens: Reopens(0),
                    opened: Stamp(0),
                    agent_gone: None,
                };
                state.sessions.insert(session, open);
            }
        }
        (state, healths)
    }

    fn released(absent_s: &[Option<u64>]) -> Vec<u64> {
        let (state, healths) = cluster(absent_s);
        to_release(&state, &healths).into_iter().map(|session| session.0 - 100).collect()
    }

    #[test]
    fn a_host_without_an_agent_is_released_after_the_grace() {
        assert_eq!(released(&[Some(0), Some(0), Some(59)]), [0; 0]);
        assert_eq!(released(&[Some(0), Some(0), Some(60)]), [3]);
        assert_eq!(released(&[Some(0), Some(60)]), [2]);
    }

    #[test]
    fn a_bad_rollout_of_agents_kills_nothing() {
        assert_eq!(released(&[Some(61), Some(61), Some(61)]), [0; 0]);
        assert_eq!(released(&[Some(0), Some(61), Some(5)]), [0; 0], "most of them are gone");
        assert_eq!(released(&[Some(0), None, Some(61)]), [0; 0], "one after the other, too");
        assert_eq!(released(&[Some(61)]), [0; 0]);
    }

    #[test]
    fn nobody_is_released_for_a_host_that_would_be_given_nothing() {
        let (mut state, healths) = cluster(&[Some(0), Some(61)]);
        state.sessions.get_mut(&SessionId(101)).unwrap().agent_gone = Some(Stamp(7));
        assert!(to_release(&state, &healths).is_empty());
    }

    #[test]
    fn nobody_is_released_when_no_host_may_take_over() {
        let (mut state, healths) = cluster(&[Some(0), Some(61)]);
        state.nodes.get_mut(&NodeId(1)).unwrap().cordoned = true;
        assert!(to_release(&state, &healths).is_empty());
    }

    #[test]
    fn a_host_in_maintenance_is_left_alone() {
        let (mut state, healths) = cluster(&[Some(0), Some(61)]);
        state.nodes.get_mut(&NodeId(2)).unwrap().maintenance = true;
        assert!(to_release(&state, &healths).is_empty());
    }

    #[test]
    fn what_is_heard_of_an_agent_is_noted_once() {
        let (mut state, mut healths) = cluster(&[Some(0), Some(1), None]);
        assert_eq!(to_note(&state, &healths), [(SessionId(102), true)]);
        state.sessions.get_mut(&SessionId(102)).unwrap().agent_gone = Some(Stamp(7));
        assert_eq!(to_note(&state, &healths), []);
        let mut heard = |agent| {
            healths.get_mut(&SessionId(102)).unwrap().agent = agent;
            to_note(&state, &healths)
        };
        assert_eq!(heard(AgentHeard::Nothing), [], "all voters have just started");
        assert_eq!(
            heard(AgentHeard::Absent(Duration::from_millis(200))),
            [],
            "one has, and heard no more yet"
        );
        assert_eq!(heard(AgentHeard::Present), [(SessionId(102), false)]);
    }

    #[test]
    fn nothing_is_noted_while_an_agent_would_not_understand_it() {
        let (mut state, healths) = cluster(&[Some(0), Some(9), None]);
        state.nodes.get_mut(&NodeId(3)).unwrap().description.features = (1, 1);
        assert_eq!(to_note(&state, &healths), []);
        state.sessions.get_mut(&SessionId(101)).unwrap().agent_gone = Some(Stamp(7));
        assert_eq!(to_note(&state, &healths), [(SessionId(101), false)], "but taken back");
    }

    #[test]
    fn a_note_is_repeated_at_a_measured_pace_and_never_waits_for_its_contrary() {
        let (gone, back) = ((SessionId(1), true), (SessionId(1), false));
        let (start, mut noted) = (clock::monotonic(), Noted::default());
        let mut due = |ms, note| !noted.now_due(start + Duration::from_millis(ms), vec![note]).is_empty();
        assert!(due(0, gone));
        // The agent is back at once, and what was proposed first is not applied, however often it is looked at.
        assert_eq!(
            [200, 250, 300, 350, 400, 450, 499].map(|ms| due(ms, back)),
            [true, false, false, false, false, false, false]
        );
        assert!(due(500, back), "it is proposed again");
    }

    #[test]
    fn nothing_is_noted_of_a_host_that_is_not_heard_itself() {
        let (mut state, mut healths) = cluster(&[Some(0), Some(2)]);
        let health = healths.get_mut(&SessionId(102)).unwrap();
        health.overdue = true;
        assert_eq!(to_note(&state, &healths), []);
        state.sessions.get_mut(&SessionId(102)).unwrap().agent_gone = Some(Stamp(7));
        *healths.get_mut(&SessionId(102)).unwrap() =
            SessionHealth { lease_age: None, ..healths[&SessionId(101)] };
        assert_eq!(to_note(&state, &healths), [], "a new leader has not heard of it yet");
    }
}
