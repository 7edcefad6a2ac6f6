//! The audit trail, a record at a time.

use muster_proto::v1 as pb;
use serde::Serialize;

use super::some;
use crate::output::table::wrap;
use crate::output::{COLUMNS, Paint, Screen, View};
use crate::when;

/// One record.
#[derive(Debug, Serialize)]
pub struct Record {
    time: String,
    revision: u64,
    sequence: u32,
    revision_before: u64,
    actor: String,
    role: &'static str,
    from: Option<String>,
    via: Option<String>,
    verb: String,
    target: Option<String>,
    outcome: &'static str,
    code: Option<String>,
    message: Option<String>,
    count: u32,
}

/// The names of roles in output.
fn role_name(role: pb::ActorRole) -> &'static str {
    match role {
        pb::ActorRole::Muster => "muster",
        pb::ActorRole::Node => "node",
        pb::ActorRole::Viewer => "viewer",
        pb::ActorRole::Operator => "operator",
        pb::ActorRole::Admin => "admin",
        pb::ActorRole::Local => "local",
        pb::ActorRole::None => "none",
    }
}

impl From<pb::AuditRecord> for Record {
    fn from(wire: pb::AuditRecord) -> Self {
        let outcome = match wire.outcome() {
            pb::AuditOutcome::Applied => "applied",
            pb::AuditOutcome::Unchanged => "unchanged",
            pb::AuditOutcome::Refused => "refused",
        };
        let actor = wire.actor.unwrap_or_default();
        Self {
            time: when::iso(wire.time_ms),
            revision: wire.revision,
            sequence: wire.sequence,
            revision_before: wire.before,
            role: role_name(actor.role()),
            from: some(&actor.from),
            via: some(&actor.via),
            actor: actor.name,
            verb: wire.verb,
            target: some(&wire.target),
            outcome,
            code: some(&wire.code),
            message: some(&wire.message),
            count: wire.count,
        }
    }
}

impl Record {
    /// Who did what, as one sentence.
    fn sentence(&self, wide: bool) -> String {
        let mut text = self.actor.clone();
        let mut add = |word: &str, part: &Option<String>| {
            if let Some(part) = part {
                text.push_str(&format!(" {word} {part}"));
            }
        };
        add("from", &self.from);
        if wide {
            add("via", &self.via);
            text.push_str(&format!(
                " ({}, revision {} on {})",
                self.role, self.revision, self.revision_before
            ));
        }
        text.push_str(&format!(": {}", self.verb));
        for part in self.target.iter().chain(&self.code) {
            text.push_str(&format!(" {part}"));
        }
        if self.count > 1 {
            text.push_str(&format!(" ({} times)", self.count));
        }
        match &self.message {
            Some(message) => format!("{text}: {message}"),
            None => text,
        }
    }
}

impl View for Record {
    fn table(&self, screen: &Screen) -> String {
        let paint = match self.outcome {
            "refused" => Paint::Bad,
            "unchanged" => Paint::Dim,
            _ => Paint::Plain,
        };
        let head_columns = self.time.chars().count() + 2 + 9 + 2;
        let time = Paint::Dim.on(&self.time, screen);
        let head = format!("{time}  {}", paint.on(&format!("{:<9}", self.outcome), screen));
        let sentence = self.sentence(screen.wide);
        if screen.wide {
            return format!("{head}  {sentence}\n");
        }
        let mut out = String::new();
        for (at, line) in wrap(&sentence, COLUMNS - head_columns).iter().enumerate() {
            let before = if at == 0 { format!("{head}  ") } else { " ".repeat(head_columns) };
            out.push_str(&format!("{before}{line}\n"));
        }
        out
    }

    fn names(&self) -> Vec<String> {
        vec![self.revision.to_string()]
    }
}
