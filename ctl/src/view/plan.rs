//! The one shape of plan, simulate, explain, drain, rebalance and check.

use muster_proto::v1 as pb;
use serde::Serialize;

use super::some;
use crate::output::table::{Cell, wrap};
use crate::output::{COLUMNS, Paint, Screen, Table, View};

/// What would happen, or is the case, and why.
#[derive(Debug, Default, Serialize)]
pub struct Plan {
    /// One for each instance concerned.
    pub items: Vec<Item>,
    /// In one sentence.
    pub summary: String,
    /// What it was computed from.
    pub revision: u64,
    /// Whether anything would change, or needs attention.
    pub changes: bool,
    /// What would be accepted but looks like a mistake.
    pub warnings: Vec<String>,
    /// Whether the refusals of every node are shown to people too.
    #[serde(skip)]
    pub explains: bool,
}

/// One instance's fate.
#[derive(Debug, Default, Serialize)]
pub struct Item {
    /// The service.
    pub service: Option<String>,
    /// SERVICE/INDEX.
    pub instance: Option<String>,
    /// Where it is.
    pub node: Option<String>,
    /// Where it would go.
    pub to: Option<String>,
    /// keep, start, stop, move, restart, replace, unplaced, create, change, remove; attention (check).
    pub action: String,
    /// Why.
    pub reason: Option<String>,
    /// What each node says.
    pub refusals: Vec<Refusal>,
}

/// What one node says to an instance.
#[derive(Debug, Serialize)]
pub struct Refusal {
    /// The node.
    pub node: String,
    /// Why not there; empty: it could run there.
    pub reasons: Vec<String>,
    /// How well it fits.
    pub score: i64,
    /// How the score came about.
    pub scores: Vec<String>,
}

impl From<pb::PlanReply> for Plan {
    fn from(wire: pb::PlanReply) -> Self {
        Self {
            items: wire.items.into_iter().map(Item::from).collect(),
            summary: wire.summary,
            revision: wire.revision,
            changes: wire.changes,
            warnings: Vec::new(),
            explains: false,
        }
    }
}

impl From<pb::PlanItem> for Item {
    fn from(wire: pb::PlanItem) -> Self {
        let refusal = |r: pb::NodeRefusal| Refusal {
            node: r.node,
            reasons: r.reasons,
            score: r.score,
            scores: r.scores,
        };
        Self {
            service: some(&wire.service),
            instance: some(&wire.instance),
            node: some(&wire.node),
            to: some(&wire.to),
            action: wire.action,
            reason: some(&wire.reason),
            refusals: wire.refusals.into_iter().map(refusal).collect(),
        }
    }
}

impl Item {
    fn subject(&self) -> &str {
        self.instance.as_deref().or(self.service.as_deref()).unwrap_or_default()
    }

    fn path(&self) -> String {
        match (&self.node, &self.to) {
            (Some(from), Some(to)) if from != to => format!("{from} -> {to}"),
            (Some(node), _) => node.clone(),
            (None, Some(to)) => format!("-> {to}"),
            (None, None) => String::new(),
        }
    }

    fn action_cell(&self) -> Cell {
        let paint = match self.action.as_str() {
            "keep" => Paint::Dim,
            "start" | "create" => Paint::Good,
            "unplaced" | "remove" | "stop" => Paint::Bad,
            _ => Paint::Warn,
        };
        Cell::painted(self.action.as_str(), paint)
    }

    fn refusals_text(&self, screen: &Screen) -> String {
        let mut table = Table::new().indented(2).shrinks("NODE").right("SCORE").wraps("WHY");
        for refusal in &self.refusals {
            let here = Some(refusal.node.as_str()) == self.node.as_deref();
            let (score, why) = if refusal.reasons.is_empty() {
                let first: Vec<&str> = refusal.scores.iter().filter_map(|p| decisive(p)).collect();
                let fits = match (here, first.is_empty()) {
                    (true, false) => "stays",
                    (true, true) => "is there",
                    (false, _) => "could run there",
                };
                let others = refusal.scores.iter().map(String::as_str).filter(|p| decisive(p).is_none());
                let scores = first.iter().copied().chain(others).collect::<Vec<_>>().join(", ");
                let why = if scores.is_empty() { fits.to_owned() } else { format!("{fits}: {scores}") };
                let score = if first.is_empty() { refusal.score.to_string() } else { "first".to_owned() };
                (score, Cell::painted(why, Paint::Plain))
            } else {
                (String::new(), Cell::painted(refusal.reasons.join("; "), Paint::Bad))
            };
            table.row([refusal.node.as_str().into(), score.into(), why]);
        }
        table.draw(screen)
    }
}

/// From here on points are no matter of degree: whatever else counts, they decide.
const DECISIVE_POINTS: i64 = 1_000_000_000;

/// What a part of a score says when its points decide alone; their number would tell nobody anything.
fn decisive(part: &str) -> Option<&str> {
    let (points, why) = part.split_once(' ')?;
    (points.parse::<i64>().ok()? >= DECISIVE_POINTS).then_some(why)
}

impl View for Plan {
    fn table(&self, screen: &Screen) -> String {
        let mut text = String::new();
        let mut table = Table::new().shrinks("INSTANCE").fixed("ACTION").shrinks("NODE").wraps("REASON");
        for item in &self.items {
            let reason = item.reason.as_deref().unwrap_or_default();
            table.row([item.subject().into(), item.action_cell(), item.path().into(), reason.into()]);
        }
        if !table.is_empty() {
            text.push_str(&table.draw(screen));
        }
        for item in &self.items {
            let explains = self.explains || screen.wide || item.action == "unplaced";
            if explains && !item.refusals.is_empty() {
                text.push_str(&format!("\n{}\n", Paint::Bold.on(item.subject(), screen)));
                text.push_str(&item.refusals_text(screen));
            }
        }
        if !self.summary.is_empty() {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&wrap(&self.summary, COLUMNS).join("\n"));
            text.push('\n');
        }
        text
    }

    fn names(&self) -> Vec<String> {
        self.items.iter().map(|item| item.subject().to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_that_decide_alone_are_told_in_words() {
        assert_eq!(decisive("+10000000000 is there already"), Some("is there already"));
        assert_eq!(decisive("-100000000 other instances of the service there"), None);
        assert_eq!(decisive("+50000 prefers disk=ssd"), None);
    }
}
