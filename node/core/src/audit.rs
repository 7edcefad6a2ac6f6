//! Who did what: what `apply` keeps of every change that somebody caused, and of every call that was refused.
//!
//! ```text
//!   command of somebody ──▶ apply ──▶ record (applied, unchanged, refused) ┐
//!   calls that never became one ──▶ RecordCalls, in batches ──▶ records ───┴▶ AuditTrail, a bounded ring each
//! ```
//! Changes and refusals have rings of their own: no flood of refused calls pushes a change out.

mod describe;
mod trail;

pub use describe::Act;
pub use trail::{AuditTrail, KEPT_CHANGES, KEPT_REFUSALS};

use crate::command::UserRole;
use crate::id::{NodeId, Revision};
use crate::time::Stamp;

/// The longest name, address or verb in a record, in bytes; the longest user name is far shorter.
pub const MAX_NAME_BYTES: usize = 128;
/// The longest list of arguments and the longest message, in bytes: two or three lines on a screen.
pub const MAX_TEXT_BYTES: usize = 512;
/// The most calls in one [`RecordedCalls`].
pub const MAX_CALLS: usize = 64;

/// Who caused a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actor {
    /// In words: `user alice`, `node n1`, `operator uid 0`, `muster`.
    pub name: String,
    /// As what it was let in.
    pub role: ActorRole,
    /// From where it called; empty for what agents do by themselves.
    pub from: String,
    /// The agent that it called; empty for what agents do by themselves.
    pub via: String,
}

/// As what somebody was let in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ActorRole {
    /// The control plane, or the simulation: nobody called.
    #[default]
    Muster,
    /// A node's agent.
    Node,
    /// A user.
    User(UserRole),
    /// A process of root or of the agent's own user, on the agent's socket.
    Local,
    /// Nobody knows: no certificate.
    Stranger,
}

impl ActorRole {
    /// The stable name in output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Muster => "muster",
            Self::Node => "node",
            Self::User(role) => role.as_str(),
            Self::Local => "local",
            Self::Stranger => "none",
        }
    }

    /// The role of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let fixed = [Self::Muster, Self::Node, Self::Local, Self::Stranger].into_iter();
        fixed.chain(UserRole::ALL.map(Self::User)).find(|role| role.as_str() == name)
    }
}

impl Actor {
    /// An agent, for what it does by itself.
    #[must_use]
    pub fn agent(name: &str) -> Self {
        Self { role: ActorRole::Node, ..format!("node {name}").into() }
    }

    fn clipped(self) -> Self {
        Self {
            name: clipped(self.name, MAX_NAME_BYTES),
            role: self.role,
            from: clipped(self.from, MAX_NAME_BYTES),
            via: clipped(self.via, MAX_NAME_BYTES),
        }
    }
}

impl<T: Into<String>> From<T> for Actor {
    fn from(name: T) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditOutcome {
    /// It was done.
    Applied,
    /// It wished what was so already.
    Unchanged,
    /// It was refused.
    Refused,
}

impl AuditOutcome {
    /// The stable name in output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
        }
    }
}

/// One line of the audit trail. `(revision, sequence)` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// The entry that it stands in.
    pub revision: Revision,
    /// Its number among the records of that entry.
    pub sequence: u32,
    /// When: the entry's stamp, or when the first of these calls was refused.
    pub time: Stamp,
    /// The state on which it was judged.
    pub before: Revision,
    /// Who.
    pub actor: Actor,
    /// What, in the words of the operator's command.
    pub verb: String,
    /// Of what, with the arguments that are no secret.
    pub target: String,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// The stable code of a refusal; empty otherwise.
    pub code: String,
    /// Why it was refused, in words.
    pub message: String,
    /// How many equal calls this line stands for.
    pub count: u32,
}

/// See [`crate::command::Command::RecordCalls`]: what one agent answered without a command of its own in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedCalls {
    /// The agent that was called.
    pub node: NodeId,
    /// At most [`MAX_CALLS`].
    pub calls: Vec<RecordedCall>,
}

/// Equal calls that an agent answered without a command of their own in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedCall {
    /// When the first one came, by the agent's clock.
    pub time: Stamp,
    /// What the agent knew then.
    pub before: Revision,
    /// Who; [`Actor::via`] is not believed but filled in at apply.
    pub actor: Actor,
    /// See [`AuditRecord::verb`].
    pub verb: String,
    /// See [`AuditRecord::target`].
    pub target: String,
    /// The code and the message of a refusal; none for what was done.
    pub refused: Option<(String, String)>,
    /// How many there were.
    pub count: u32,
}

/// The beginning of a text: whatever somebody calls himself or gets wrong, a record stays small.
fn clipped(text: String, most_bytes: usize) -> String {
    const MARK: &str = "…";
    if text.len() <= most_bytes {
        return text;
    }
    let room = most_bytes.saturating_sub(MARK.len());
    let end = (0..=room).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    format!("{}{MARK}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_have_names_and_names_have_roles() {
        for role in ["muster", "node", "viewer", "operator", "admin", "local", "none"] {
            assert_eq!(ActorRole::named(role).map(ActorRole::as_str), Some(role));
        }
        assert_eq!(ActorRole::named("root"), None);
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(clipped("short".to_owned(), 5), "short");
        assert_eq!(clipped("äöü".to_owned(), 5), "ä…");
        assert!(clipped("ü".repeat(1000), MAX_TEXT_BYTES).len() <= MAX_TEXT_BYTES);
    }
}
