//! `apply`: one log entry's effect on the state. Total and pure: a bad command is a refusal, never a panic,
//! and a refused command changes nothing but time, the client's record and the audit trail.

mod certificates;
pub use certificates::{LONGEST_USER_LIFE, NODE_CERTIFICATE_LIFE};
mod calls;
mod nodes;
mod placements;
mod secrets;
pub use secrets::MAX_SECRETS;
mod services;
pub use services::{MAX_COUNT, MAX_SERVICES};
mod sessions;
mod tokens;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::audit::{Act, AuditRecord};
use crate::command::{Command, Proposal};
use crate::event::{Event, EventKind};
use crate::id::{MembershipId, NodeId, Revision, ServiceName, SessionId, SlotId};
use crate::lease::membership::Membership;
use crate::refusal::Refusal;
use crate::scheduler::plan::Plan;
use crate::state::State;

/// What an applied command answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// The entry's index.
    pub revision: Revision,
    /// Whether anything changed; a write that wishes what is already so changes nothing.
    pub changed: bool,
    /// What was made.
    pub value: ReplyValue,
}

/// What a command made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ReplyValue {
    /// Nothing to name.
    #[default]
    Nothing,
    /// A node.
    Node(NodeId),
    /// A session.
    Session(SessionId),
    /// What happened to each declared service.
    Services(Vec<(ServiceName, Declared)>),
}

/// What a declaration did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declared {
    /// It is new.
    Created,
    /// It changed.
    Changed,
    /// It was so already.
    Unchanged,
}

impl Declared {
    /// The stable name in output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
        }
    }
}

/// What an entry did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The answer to its proposer.
    pub reply: Result<Reply, Refusal>,
    /// What to tell the world.
    pub events: Vec<Event>,
    /// What it added to the audit trail.
    pub audit: Vec<Arc<AuditRecord>>,
}

/// What one kind of command hands back to [`State::apply`].
pub(crate) struct Effect {
    changed: bool,
    /// Whether the scheduler has something new to look at.
    topology: bool,
    value: ReplyValue,
}

impl Effect {
    const NONE: Self = Self { changed: false, topology: false, value: ReplyValue::Nothing };
    const CHANGED: Self = Self { changed: true, topology: false, value: ReplyValue::Nothing };
    const TOPOLOGY: Self = Self { changed: true, topology: true, value: ReplyValue::Nothing };

    fn with(self, value: ReplyValue) -> Self {
        Self { value, ..self }
    }
}

type Applied = Result<Effect, Refusal>;

impl State {
    /// Applies one command.
    pub fn apply(&mut self, at: Revision, proposal: &Proposal) -> Outcome {
        let before = std::mem::replace(&mut self.revision, at);
        self.now = self.now.max(proposal.stamp);
        if let Some(reply) = self.clients.answered(proposal.request) {
            return Outcome { reply, events: Vec::new(), audit: Vec::new() };
        }
        // Afterwards what it names may be gone.
        let act = Act::of(self, &proposal.actor, &proposal.command);
        let mut events = Vec::new();
        let applied = self.dispatch(&proposal.command, &mut events);
        let reply = applied.map(|effect| {
            if effect.topology {
                self.topology = at;
            }
            Reply { revision: at, changed: effect.changed, value: effect.value }
        });
        self.clients.remember(proposal.request, at, &reply);
        if let Some(act) = act {
            self.record(before, proposal, act, &reply);
        }
        Outcome { reply, events, audit: self.audit.of(at) }
    }

    /// Applies a membership entry: `configs` are the voters (two sets when joint), `standbys` the learners.
    pub fn apply_membership(
        &mut self,
        at: Revision,
        configs: Vec<BTreeSet<NodeId>>,
        standbys: BTreeSet<NodeId>,
    ) -> Vec<Event> {
        self.revision = at;
        self.topology = at;
        self.membership = Membership { id: MembershipId(at.0), configs };
        self.standbys = standbys.into_iter().collect();
        // The founder's own entry comes before `Bootstrap`: there is no time and no name to tell yet.
        if self.cluster.is_none() {
            return Vec::new();
        }
        let names =
            |set: &BTreeSet<NodeId>| set.iter().map(|id| self.name_of(*id)).collect::<Vec<_>>().join(", ");
        let voters = self.membership.configs.iter().map(names).collect::<Vec<_>>().join(" -> ");
        vec![self.event(EventKind::MembershipChanged, format!("voters: {voters}"))]
    }

    /// Applies an entry without content: a new leader's first.
    pub fn apply_blank(&mut self, at: Revision) {
        self.revision = at;
    }

    fn dispatch(&mut self, command: &Command, events: &mut Vec<Event>) -> Applied {
        if self.cluster.is_none() && !matches!(command, Command::Bootstrap(_)) {
            return Err(Refusal::NoCluster);
        }
        match command {
            Command::Bootstrap(bootstrap) => self.bootstrap(bootstrap, events),
            Command::AddNode(add) => self.add_node(add, events),
            Command::RemoveNode { node } => self.remove_node(*node, events),
            Command::DescribeNode { node, description } => self.describe_node(*node, description, events),
            Command::ChangeNode { node, change } => self.change_node(*node, change, events),
            Command::VoterUp { voter, boot, replaces } => self.voter_up(*voter, *boot, *replaces),
            Command::OpenSession(open) => self.open_session(open, events),
            Command::CloseSession(close) => self.close_by_promises(close, events),
            Command::Fenced { session, plan } => self.close_by_fenced(*session, plan, events),
            Command::Reopen { session, to } => self.reopen(*session, *to, events),
            Command::NoteAgent { session, gone } => self.note_agent(*session, *gone, events),
            Command::ApplyPlan(plan) => self.apply_plan(plan, events),
            Command::Stopped(stopped) => self.stopped(stopped, events),
            Command::Observe(observation) => self.observe(observation, events),
            Command::PutServices { services, if_revision } => {
                self.put_services(services, *if_revision, events)
            }
            Command::RemoveService { service } => self.remove_service(service, events),
            Command::SetServiceWanted { service, wanted } => self.set_wanted(service, *wanted, events),
            Command::RestartService { service } => self.restart_service(service, events),
            Command::ScaleService { service, count } => self.scale_service(service, *count, events),
            Command::RollbackService { service } => self.rollback_service(service, events),
            Command::AnnotateService { service, key, value } => {
                self.annotate_service(service, key, value.as_deref())
            }
            Command::MoveInstance { slot, to } => self.move_instance(slot, *to, events),
            Command::ClearFailures { service } => self.clear_failures(service),
            Command::CreateToken(grant) => self.create_token(grant, events),
            Command::RevokeToken { id } => self.revoke_token(id, events),
            Command::SetTiming(timing) => self.set_timing(*timing, events),
            Command::AddAuthority(new) => self.add_authority(new, events),
            Command::RetireAuthority { forced } => self.retire_authority(*forced, events),
            Command::IssueCertificate(new) => self.issue_certificate(new, events),
            Command::RevokeCertificates(holder) => self.revoke_certificates(holder, events),
            Command::RemoveUser { name } => self.remove_user(name, events),
            Command::OfferSecretKey { key } => self.offer_secret_key(*key),
            Command::HoldSecretKey { node, key } => self.hold_secret_key(*node, *key, events),
            Command::PutSecret(put) => self.put_secret(put, events),
            Command::RemoveSecret { name, forced } => self.remove_secret(name, *forced, events),
            Command::RecordCalls(told) => self.record_calls(told),
        }
    }

    fn event(&self, kind: EventKind, message: String) -> Event {
        Event {
            revision: self.revision,
            time: self.now,
            kind,
            node: None,
            service: None,
            instance: None,
            message,
        }
    }

    fn node_event(&self, kind: EventKind, node: NodeId, message: String) -> Event {
        Event { node: self.node_name(node), ..self.event(kind, message) }
    }

    fn service_event(&self, kind: EventKind, service: &ServiceName, message: String) -> Event {
        Event { service: Some(service.clone()), ..self.event(kind, message) }
    }

    fn instance_event(&self, kind: EventKind, slot: &SlotId, node: NodeId, message: String) -> Event {
        let service = Some(slot.service.clone());
        Event { service, instance: Some(slot.clone()), ..self.node_event(kind, node, message) }
    }

    /// The state as it would be with a session closed: what the leader plans a failover on.
    #[must_use]
    pub fn without_session(&self, session: SessionId) -> Self {
        let mut state = self.clone();
        let mut events = Vec::new();
        state.close_session(session, crate::state::node::LostCause::Silent, &mut events);
        state
    }

    /// The state after a plan, judged as `apply` would: what `simulate` shows.
    #[must_use]
    pub fn with_plan(&self, plan: &Plan) -> Self {
        let mut state = self.clone();
        let mut events = Vec::new();
        state.revision = Revision(state.revision.0 + 1);
        state.run_actions(plan, &mut events);
        state
    }
}
