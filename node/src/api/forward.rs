//! Commands that other agents pass on: who may send which.
//!
//! An agent speaks for its own node: its session, its reports, its description. What its callers want it may pass on only
//! if it could be a member of Raft, for members hold the CA's key and are trusted anyway. What the leader decides, only
//! the leader proposes.

use muster_core::audit::Actor;
use muster_core::command::{Command, NewCertificate};
use muster_core::id::NodeId;

use super::Api;
use super::caller::Caller;
use super::status::ApiError;
use crate::security::admission::may_be_member;

/// Whose words a command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaker {
    /// This node's own.
    Node(NodeId),
    /// A user's, or a host's that joins.
    Caller,
    /// The leader's.
    Leader,
}

fn speaker(command: &Command) -> Speaker {
    match command {
        Command::DescribeNode { node, .. } => Speaker::Node(*node),
        Command::VoterUp { voter, .. } => Speaker::Node(*voter),
        Command::OpenSession(open) => Speaker::Node(open.node),
        Command::Stopped(stopped) => Speaker::Node(stopped.node),
        Command::Observe(seen) => Speaker::Node(seen.node),
        Command::HoldSecretKey { node, .. } => Speaker::Node(*node),
        Command::RecordCalls(told) => Speaker::Node(told.node),
        // A member of Raft asks for another node too, when that one has asked it.
        Command::IssueCertificate(NewCertificate::Node { .. } | NewCertificate::User { .. })
        | Command::AddNode(_)
        | Command::RemoveNode { .. }
        | Command::ChangeNode { .. }
        | Command::PutServices { .. }
        | Command::RemoveService { .. }
        | Command::SetServiceWanted { .. }
        | Command::RestartService { .. }
        | Command::ScaleService { .. }
        | Command::RollbackService { .. }
        | Command::AnnotateService { .. }
        | Command::MoveInstance { .. }
        | Command::ClearFailures { .. }
        | Command::CreateToken(_)
        | Command::RevokeToken { .. }
        | Command::SetTiming(_)
        | Command::AddAuthority(_)
        | Command::RetireAuthority { .. }
        | Command::RevokeCertificates(_)
        | Command::RemoveUser { .. }
        | Command::OfferSecretKey { .. }
        | Command::PutSecret(_)
        | Command::RemoveSecret { .. } => Speaker::Caller,
        Command::Bootstrap(_)
        | Command::CloseSession(_)
        | Command::Fenced { .. }
        | Command::Reopen { .. }
        | Command::NoteAgent { .. }
        | Command::ApplyPlan(_) => Speaker::Leader,
    }
}

impl Api {
    /// Whether a node may pass this command on. For its own ones, who is on record as the actor.
    pub(super) fn check_forwarded(
        &self,
        caller: &Caller,
        command: &Command,
    ) -> Result<Option<Actor>, ApiError> {
        let state = self.state();
        let sender = caller.node()?;
        let about = |whom: String| ApiError::SpeaksForAnother { who: state.name_of(sender), whom };
        match speaker(command) {
            Speaker::Node(node) if node == sender => Ok(Some(Actor::agent(&state.name_of(sender)))),
            Speaker::Node(node) => Err(about(format!("node {}", state.name_of(node)))),
            Speaker::Caller if may_be_member(&state, sender) => Ok(None),
            Speaker::Caller => Err(about("its callers".to_owned())),
            Speaker::Leader => Err(about("the leader".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use muster_core::id::{Reopens, SessionId};
    use muster_core::scheduler::plan::Plan;

    use super::*;

    #[test]
    fn a_node_s_own_commands_name_it_and_the_leader_s_own_are_nobody_else_s() {
        let up = Command::VoterUp { voter: NodeId(7), boot: muster_core::id::BootId(1), replaces: None };
        assert_eq!(speaker(&up), Speaker::Node(NodeId(7)));
        assert_eq!(speaker(&Command::RevokeToken { id: String::new() }), Speaker::Caller);
        let plan = Plan { base: muster_core::id::Revision(1), actions: Vec::new() };
        for command in [
            Command::ApplyPlan(plan.clone()),
            Command::Fenced { session: SessionId(1), plan },
            Command::Reopen { session: SessionId(1), to: Reopens(1) },
        ] {
            assert_eq!(speaker(&command), Speaker::Leader);
        }
    }
}
