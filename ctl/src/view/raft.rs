//! The control plane.

use muster_proto::v1 as pb;
use serde::Serialize;

use super::some;
use crate::output::table::Cell;
use crate::output::{Paint, Screen, Table, View};

/// `raft status`: as one agent sees it.
#[derive(Debug, Serialize)]
pub struct Raft {
    node: String,
    state: String,
    leader: Option<String>,
    term: u64,
    last_log_index: u64,
    committed_index: u64,
    applied_index: u64,
    snapshot_index: u64,
    membership_id: u64,
    joint: bool,
    members: Vec<Member>,
}

#[derive(Debug, Serialize)]
struct Member {
    name: String,
    id: u64,
    voter: bool,
    addresses: Vec<String>,
    matched_index: Option<u64>,
}

impl From<pb::RaftView> for Raft {
    fn from(wire: pb::RaftView) -> Self {
        let member = |m: pb::RaftMemberView| Member {
            name: m.name,
            id: m.id,
            voter: m.voter,
            addresses: m.addresses,
            matched_index: m.matched_index,
        };
        Self {
            node: wire.node,
            state: wire.state,
            leader: some(&wire.leader),
            term: wire.term,
            last_log_index: wire.last_log_index,
            committed_index: wire.committed_index,
            applied_index: wire.applied_index,
            snapshot_index: wire.snapshot_index,
            membership_id: wire.membership_id,
            joint: wire.joint,
            members: wire.members.into_iter().map(member).collect(),
        }
    }
}

impl View for Raft {
    fn table(&self, screen: &Screen) -> String {
        let leader = self.leader.as_deref().unwrap_or("none");
        let joint = if self.joint { ", between two memberships" } else { "" };
        let head = format!(
            "as {} ({}) sees it: leader {leader}, term {}\nlog {}, committed {}, applied {}, snapshot {}, membership {}{joint}\n\n",
            self.node,
            self.state,
            self.term,
            self.last_log_index,
            self.committed_index,
            self.applied_index,
            self.snapshot_index,
            self.membership_id,
        );
        let mut table = Table::new()
            .shrinks("MEMBER")
            .right("ID")
            .fixed("ROLE")
            .right("LOG")
            .right("BEHIND")
            .wraps("ADDRESSES");
        for member in &self.members {
            let behind = member.matched_index.map(|at| self.last_log_index.saturating_sub(at));
            let role = match (member.voter, Some(&member.name) == self.leader.as_ref()) {
                (true, true) => "voter, leader",
                (true, false) => "voter",
                (false, _) => "standby",
            };
            table.row([
                member.name.as_str().into(),
                member.id.to_string().into(),
                role.into(),
                member.matched_index.map(|at| at.to_string()).unwrap_or_default().into(),
                Cell::painted(behind.map(|n| n.to_string()).unwrap_or_default(), Paint::Plain),
                member.addresses.join(", ").into(),
            ]);
        }
        head + &table.draw(screen)
    }

    fn names(&self) -> Vec<String> {
        self.members.iter().map(|member| member.name.clone()).collect()
    }
}
