//! The audit trail: what was done, what was refused, and what agents answered without asking anybody.

use crate::audit::{Act, AuditOutcome, AuditRecord, RecordedCalls};
use crate::command::{Proposal, Role};
use crate::id::Revision;
use crate::refusal::Refusal;
use crate::state::State;
use crate::state::apply::{Applied, Effect, Reply};

impl State {
    /// Keeps who caused the command that was just judged, on the state at `before`, and how it ended.
    pub(super) fn record(
        &mut self,
        before: Revision,
        proposal: &Proposal,
        act: Act,
        reply: &Result<Reply, Refusal>,
    ) {
        let (outcome, code, message) = match reply {
            Ok(Reply { changed: true, .. }) => (AuditOutcome::Applied, String::new(), String::new()),
            Ok(Reply { changed: false, .. }) => (AuditOutcome::Unchanged, String::new(), String::new()),
            Err(refusal) => (AuditOutcome::Refused, refusal.code().to_owned(), refusal.to_string()),
        };
        self.audit.push(AuditRecord {
            revision: self.revision,
            sequence: 0,
            time: self.now,
            before,
            actor: proposal.actor.clone(),
            verb: act.verb.to_owned(),
            target: act.target,
            outcome,
            code,
            message,
            count: 1,
        });
    }

    /// Keeps what an agent tells of its calls; a node that was removed has no say. A worker does nothing for others, so
    /// that nothing it tells is a change: it could push the true ones out.
    pub(super) fn record_calls(&mut self, told: &RecordedCalls) -> Applied {
        let node = self.nodes.get(&told.node);
        let node = node.ok_or_else(|| Refusal::NoSuchNode(format!("#{}", told.node)))?;
        let mut told = told.clone();
        if node.role == Role::Worker {
            told.calls.retain(|call| call.refused.is_some());
        }
        let via = node.name.clone();
        self.audit.push_calls(self.revision, self.now, via.as_str(), &told);
        Ok(Effect::CHANGED)
    }
}
