//! Looks at every replica, and at the end at what peace has brought.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_core::spec::Mode;
use muster_core::state::State;
use muster_core::state::slot::InstanceState;
use muster_proto::v1;
use muster_proto::v1::follow_item::Item;
use muster_proto::v1::node_link_client::NodeLinkClient;
use muster_tests::sim::rng::Rng;
use muster_wire::StateReader;
use prost::Message;

use super::{Agents, Agreement, Setting, now_ns, within};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// At peace it looks more often: there is a time limit to be met.
const LOOK_OFTEN: Duration = Duration::from_millis(100);

/// Looks until the run is over.
pub(super) async fn run(setting: Setting, agents: Agents, mut rng: Rng) {
    loop {
        let peace = Agreement::is(&setting.agreement.peace);
        let all: Vec<usize> = (0..agents.0.len()).collect();
        let chosen = if peace { all } else { rng.pick(&all).into_iter().collect() };
        let mut revisions = BTreeSet::new();
        let mut states = Vec::new();
        for index in &chosen {
            let Some((state, sum)) = look(&setting, &agents, *index).await else { continue };
            setting.checker.replica(now_ns(), &setting.names[*index], &state, sum);
            revisions.insert(state.revision);
            states.push(state);
        }
        if peace && states.len() == agents.0.len() {
            if let Some(what) = states.iter().find_map(what_is_missing) {
                tracing::debug!(what, "not yet");
            } else {
                Agreement::set(&setting.agreement.placed);
            }
            if Agreement::is(&setting.agreement.end) && revisions.len() == 1 {
                Agreement::set(&setting.agreement.equal);
            }
        }
        tokio::time::sleep(if peace { LOOK_OFTEN } else { LOOK_EVERY }).await;
    }
}

/// The state of one node as it tells it to those that follow, and a sum over its records.
async fn look(setting: &Setting, agents: &Agents, index: usize) -> Option<(State, u64)> {
    let sender = v1::Sender { cluster_id: setting.cluster.clone().into(), incarnation: 1, node: 1 };
    let mut link = NodeLinkClient::new(agents.channel(index)).max_decoding_message_size(8 << 20);
    let following = async {
        let request = v1::FollowRequest { sender: Some(sender), after_revision: 0 };
        let mut items = link.follow(request).await?.into_inner();
        let mut reader = StateReader::new();
        let mut sum = 0xCBF2_9CE4_8422_2325_u64;
        while let Some(item) = items.message().await? {
            match item.item {
                Some(Item::Record(record)) => {
                    for byte in record.encode_to_vec() {
                        sum = (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
                    }
                    reader.push(record).map_err(|e| tonic::Status::internal(e.to_string()))?;
                }
                Some(Item::SnapshotEnd(_)) => {
                    let state = reader.finish().map_err(|e| tonic::Status::internal(e.to_string()))?;
                    return Ok((state, sum));
                }
                Some(Item::Entry(_) | Item::Alive(_)) | None => {}
            }
        }
        Err(tonic::Status::unavailable("the stream ended"))
    };
    within(following).await.ok()
}

/// Promise 7: what is not placed or does not run.
fn what_is_missing(state: &State) -> Option<String> {
    if state.sessions.len() != state.nodes.len() {
        return Some(format!("{} of {} nodes have a session", state.sessions.len(), state.nodes.len()));
    }
    for (name, service) in &state.services {
        let wanted = match service.spec.mode {
            Mode::Exclusive => 1,
            Mode::Replicated { count } => usize::try_from(count).unwrap_or(usize::MAX),
            Mode::Everywhere => state.nodes.len(),
        };
        let slots = state.slots.iter().filter(|(id, _)| id.service == *name);
        let running = slots
            .filter(|(_, slot)| slot.current().is_some_and(|p| p.observed.state == InstanceState::Running))
            .count();
        if running != wanted {
            return Some(format!("{name}: {running} of {wanted} run"));
        }
    }
    None
}
