//! The leader's heartbeats.
//!
//! openraft looks at its timers with a tick, five times a heartbeat, and each is two wakes of an idle agent. Only a node
//! that doesn't lead needs them, to notice that an election is due; a leader's one timer is that of the heartbeats. So
//! while this node leads, its ticks are off and openraft is told when to send
//! ([decision 25](../../../docs/decisions/0025-idle-processor.md)).
//!
//! Unlike a tick, such a request queues behind those of clients. The appends that these cause are signs of life as well.

use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::handle::OpenRaft;
use super::{LeadershipWatch, Role};

/// Sends heartbeats every `period` whenever this node leads. Ends when Raft has stopped.
pub(super) async fn send_while_leading(raft: OpenRaft, mut leadership: LeadershipWatch, period: Duration) {
    loop {
        if leadership.now().role == Role::Leader {
            let _without_ticks = WithoutTicks::begin(&raft);
            if !lead(&raft, &mut leadership, period).await {
                return;
            }
        } else if leadership.changed().await.is_none() {
            return;
        }
    }
}

/// Until this node no longer leads; false: Raft has stopped.
async fn lead(raft: &OpenRaft, leadership: &mut LeadershipWatch, period: Duration) -> bool {
    let mut due = tokio::time::interval(period);
    // After a stall the followers need one heartbeat, not all that were missed.
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            changed = leadership.changed() => match changed {
                Some(now) if now.role == Role::Leader => {}
                Some(_) => return true,
                None => return false,
            },
            _ = due.tick() => if raft.trigger().heartbeat().await.is_err() {
                return false;
            },
        }
    }
}

/// Ends with the ticks on again, however that comes about.
struct WithoutTicks<'a>(&'a OpenRaft);

impl<'a> WithoutTicks<'a> {
    fn begin(raft: &'a OpenRaft) -> Self {
        raft.runtime_config().tick(false);
        Self(raft)
    }
}

impl Drop for WithoutTicks<'_> {
    fn drop(&mut self) {
        self.0.runtime_config().tick(true);
    }
}
