//! The scores: integers whose sum decides between eligible nodes. Their sizes are apart by design: an operator's
//! wish beats everything, then staying, then one instance a node, then the spread over a label, then preferences,
//! then load.

use std::fmt;

use super::desk::home;
use super::question::{Purpose, Question};
use crate::id::NodeId;
use crate::spec::Mode;

const WISHED: i64 = 1_000_000_000_000;
const STAYS: i64 = 10_000_000_000;
const SIBLING: i64 = 100_000_000;
const SPREAD: i64 = 1_000_000;
/// A preference's weight is −100 to 100.
const PREFER: i64 = 1_000;
/// What an instance on the node counts; a thousandth of its capacity in use counts 1.
pub(super) const INSTANCE: i64 = 100;

/// Where points come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Wished,
    Stays,
    Sibling,
    Spread(String),
    Prefer(String),
    Instances,
    Use,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wished => write!(f, "an operator asked for it"),
            Self::Stays => write!(f, "is there already"),
            Self::Sibling => write!(f, "other instances of the service there"),
            Self::Spread(label) => write!(f, "other instances in the same {label}"),
            Self::Prefer(what) => write!(f, "prefers {what}"),
            Self::Instances => write!(f, "instances there"),
            Self::Use => write!(f, "capacity in use there"),
        }
    }
}

impl Question<'_> {
    /// A node's points.
    pub(super) fn score(&self, node: NodeId) -> i64 {
        self.parts(node).iter().map(|(_, points)| points).sum()
    }

    /// How a node's points come about; parts without points are left out.
    pub(super) fn parts(&self, node: NodeId) -> Vec<(Part, i64)> {
        let mut parts = Vec::new();
        if self.entry.is_some_and(|e| e.wish == Some(node)) {
            parts.push((Part::Wished, WISHED));
        }
        if self.purpose == Purpose::Stay(node) {
            parts.push((Part::Stays, STAYS));
        }
        if matches!(self.spec().mode, Mode::Replicated { .. }) {
            let siblings = self.siblings.get(&node).copied().unwrap_or_default();
            parts.push((Part::Sibling, -SIBLING * i64::from(siblings)));
            parts.extend(self.spread(node));
        }
        parts.extend(self.preferences(node));
        parts.extend(self.load(node));
        parts.retain(|(_, points)| *points != 0);
        parts
    }

    fn spread(&self, node: NodeId) -> Option<(Part, i64)> {
        let label = self.spec().placement.spread.as_ref()?;
        let value = self.desk.hosts.get(&node).and_then(|h| h.labels.get(label).cloned());
        let there = self.by_value.get(&value).copied().unwrap_or_default();
        Some((Part::Spread(label.clone()), -SPREAD * i64::from(there)))
    }

    /// The points of all preferences.
    pub(super) fn preference(&self, node: NodeId) -> i64 {
        self.preferences(node).map(|(_, points)| points).sum()
    }

    fn preferences(&self, node: NodeId) -> impl Iterator<Item = (Part, i64)> {
        let name = self.desk.node(node).map_or("", |n| n.name.as_str());
        let host = self.desk.hosts.get(&node);
        let holds = move |p: &&crate::spec::Preference| host.is_some_and(|h| p.label.holds(name, &h.labels));
        let wishes = self.spec().placement.prefer.iter().filter(holds);
        wishes.map(|p| (Part::Prefer(p.label.to_string()), PREFER * i64::from(p.weight)))
    }

    /// The node's load with this instance on it.
    fn load(&self, node: NodeId) -> Vec<(Part, i64)> {
        let (Some(host), Some(record)) = (self.desk.hosts.get(&node), self.desk.node(node)) else {
            return Vec::new();
        };
        let (needs, has) = (self.spec().resources, record.capacity());
        let busy = host.settled;
        let is_home = self.entry.and_then(|e| e.current()).and_then(home) == Some(node);
        let new = u64::from(!is_home);
        let share = |used: u64, needs: u32, has: u32| {
            (used + new * u64::from(needs))
                .saturating_mul(1000)
                .checked_div(u64::from(has))
                .unwrap_or_default()
        };
        let used = share(busy.cpu_millis, needs.cpu_millis, has.cpu_millis).max(share(
            busy.memory_mib,
            needs.memory_mib,
            has.memory_mib,
        ));
        let instances = i64::try_from(busy.instances + new).unwrap_or(i64::MAX / INSTANCE);
        vec![
            (Part::Instances, -INSTANCE * instances.min(5_000)),
            (Part::Use, -i64::try_from(used.min(100_000)).unwrap_or(100_000)),
        ]
    }
}
