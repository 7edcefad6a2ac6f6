//! One record of each table, both ways.

use std::sync::Arc;

use bytes::Bytes;
use muster_core::id::{BootId, Generation, NodeId, Reopens, Revision, SessionId, SlotId};
use muster_core::state::client::ClientRecord;
use muster_core::state::node::{Drain, Lost, LostCause, Node};
use muster_core::state::service::Service;
use muster_core::state::session::Session;
use muster_core::state::slot::{Failure, Observed, Phase, Placement, Slot};
use muster_core::time::Stamp;
use muster_proto::v1;

use super::SessionKeys;
use crate::error::{DecodeError, known, node_name, required};
use crate::node::{
    description_from_proto, description_to_proto, drain_wish_from_proto, drain_wish_to_proto,
    role_from_proto, role_to_proto, timing_from_proto, timing_to_proto,
};
use crate::plan::{target_from_proto, target_to_proto};
use crate::reply::{stored_from_proto, stored_to_proto};
use crate::session::{enforcement_from_proto, enforcement_to_proto, key_from_bytes, key_to_bytes};
use crate::slot::{instance_state_from_proto, instance_state_to_proto, slot_from_proto, slot_to_proto};
use crate::spec::{spec_from_proto, spec_to_proto};
use crate::trust::{certificates_from_proto, certificates_to_proto};

pub(super) fn node_to_proto(node: &Node) -> v1::StoredNode {
    v1::StoredNode {
        id: node.id.0,
        name: node.name.as_str().to_owned(),
        role: role_to_proto(node.role).into(),
        description: Some(description_to_proto(&node.description)),
        labels: node.labels.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        cordoned: node.cordoned,
        maintenance: node.maintenance,
        drain: node.drain.map(|drain| v1::StoredDrain {
            since_ms: drain.since.0,
            wish: Some(drain_wish_to_proto(drain.wish)),
        }),
        session: node.session.map(|id| id.0),
        lost: node.lost.map(lost_to_proto),
        boot: node.boot.map(|boot| boot.0),
        joined_ms: node.joined.0,
        certificates: Some(certificates_to_proto(node.certificates)),
    }
}

pub(super) fn node_from_proto(node: v1::StoredNode) -> Result<Node, DecodeError> {
    let drain = |drain: v1::StoredDrain| {
        let wish = drain_wish_from_proto(required(drain.wish, "node.drain.wish")?);
        Ok(Drain { since: Stamp(drain.since_ms), wish })
    };
    Ok(Node {
        id: NodeId(node.id),
        name: node_name(&node.name, "node.name")?,
        role: role_from_proto(node.role)?,
        description: description_from_proto(required(node.description, "node.description")?),
        labels: node.labels.into_iter().collect(),
        cordoned: node.cordoned,
        maintenance: node.maintenance,
        drain: node.drain.map(drain).transpose()?,
        session: node.session.map(SessionId),
        lost: node.lost.map(lost_from_proto).transpose()?,
        boot: node.boot.map(BootId),
        joined: Stamp(node.joined_ms),
        certificates: certificates_from_proto(node.certificates),
    })
}

fn lost_to_proto(lost: Lost) -> v1::StoredLost {
    use v1::stored_lost::Cause;
    let cause = match lost.cause {
        LostCause::Joining => Cause::Joining,
        LostCause::Silent => Cause::Silent,
        LostCause::Fenced => Cause::Fenced,
    };
    v1::StoredLost { since_ms: lost.since.0, cause: cause.into() }
}

fn lost_from_proto(lost: v1::StoredLost) -> Result<Lost, DecodeError> {
    use v1::stored_lost::Cause;
    let cause = match known::<Cause>(lost.cause, "node.lost.cause")? {
        Cause::Joining => LostCause::Joining,
        Cause::Silent => LostCause::Silent,
        Cause::Fenced => LostCause::Fenced,
    };
    Ok(Lost { since: Stamp(lost.since_ms), cause })
}

pub(super) fn session_to_proto(session: &Session, keys: SessionKeys) -> v1::StoredSession {
    v1::StoredSession {
        id: session.id.0,
        node: session.node.0,
        guard_boot: session.guard_boot.0,
        key: match keys {
            SessionKeys::Include => key_to_bytes(session.key),
            SessionKeys::Redact => Bytes::new(),
        },
        timing: Some(timing_to_proto(&session.timing)),
        enforcement: enforcement_to_proto(session.enforcement).into(),
        reopens: session.reopens.0,
        opened_ms: session.opened.0,
        agent_gone_since_ms: session.agent_gone.map(|since| since.0),
    }
}

pub(super) fn session_from_proto(session: v1::StoredSession) -> Result<Session, DecodeError> {
    Ok(Session {
        id: SessionId(session.id),
        node: NodeId(session.node),
        guard_boot: BootId(session.guard_boot),
        key: key_from_bytes(&session.key, "session.key")?,
        timing: timing_from_proto(&required(session.timing, "session.timing")?),
        enforcement: enforcement_from_proto(session.enforcement)?,
        reopens: Reopens(session.reopens),
        opened: Stamp(session.opened_ms),
        agent_gone: session.agent_gone_since_ms.map(Stamp),
    })
}

pub(super) fn service_to_proto(service: &Service) -> v1::StoredService {
    v1::StoredService {
        spec: Some(spec_to_proto(&service.spec)),
        declared: service.declared.0,
        rollout: service.rollout.0,
        wanted: service.wanted,
        removing: service.removing,
        former: service.former.iter().map(|spec| spec_to_proto(spec)).collect(),
        annotations: service.annotations.iter().map(|(k, v)| (k.clone(), v.as_ref().to_owned())).collect(),
        created_ms: service.created.0,
    }
}

pub(super) fn service_from_proto(service: v1::StoredService) -> Result<Service, DecodeError> {
    Ok(Service {
        spec: Arc::new(spec_from_proto(required(service.spec, "service.spec")?)?),
        declared: Revision(service.declared),
        rollout: Revision(service.rollout),
        wanted: service.wanted,
        removing: service.removing,
        former: service
            .former
            .into_iter()
            .map(|spec| spec_from_proto(spec).map(Arc::new))
            .collect::<Result<_, _>>()?,
        annotations: service.annotations.into_iter().map(|(k, v)| (k, Arc::from(v))).collect(),
        created: Stamp(service.created_ms),
    })
}

pub(super) fn slot_record_to_proto(id: &SlotId, slot: &Slot) -> v1::StoredSlot {
    let failure =
        |f: &Failure| v1::StoredFailure { node: f.node.0, at_ms: f.at.0, message: f.message.clone() };
    v1::StoredSlot {
        slot: Some(slot_to_proto(id)),
        placements: slot.placements.iter().map(placement_to_proto).collect(),
        failures: slot.failures.iter().map(failure).collect(),
        wish: slot.wish.map(|node| node.0),
        vacant_since_ms: slot.vacant_since.map(|stamp| stamp.0),
    }
}

pub(super) fn slot_record_from_proto(slot: v1::StoredSlot) -> Result<(SlotId, Slot), DecodeError> {
    let id = slot_from_proto(slot.slot, "slot.slot")?;
    let failure =
        |f: v1::StoredFailure| Failure { node: NodeId(f.node), at: Stamp(f.at_ms), message: f.message };
    let slot = Slot {
        placements: slot.placements.into_iter().map(placement_from_proto).collect::<Result<_, _>>()?,
        failures: slot.failures.into_iter().map(failure).collect(),
        wish: slot.wish.map(NodeId),
        vacant_since: slot.vacant_since_ms.map(Stamp),
    };
    Ok((id, slot))
}

fn placement_to_proto(placement: &Placement) -> v1::StoredPlacement {
    use v1::stored_placement::Phase as Wire;
    let phase = match placement.phase {
        Phase::Active => Wire::Active(v1::Active {}),
        Phase::Revoking { target, since } => {
            Wire::Revoking(v1::Revoking { target: target.map(target_to_proto), since_ms: since.0 })
        }
        Phase::Adrift { since } => Wire::AdriftSinceMs(since.0),
    };
    v1::StoredPlacement {
        node: placement.node.0,
        session: placement.session.map(|id| id.0),
        generation: placement.generation.0,
        phase: Some(phase),
        state: instance_state_to_proto(placement.observed.state).into(),
        state_since_ms: placement.observed.since.0,
        restarts: placement.observed.restarts,
        message: placement.observed.message.clone(),
        reason: placement.reason.clone(),
        since_ms: placement.since.0,
    }
}

fn placement_from_proto(placement: v1::StoredPlacement) -> Result<Placement, DecodeError> {
    use v1::stored_placement::Phase as Wire;
    let phase = match required(placement.phase, "placement.phase")? {
        Wire::Active(v1::Active {}) => Phase::Active,
        Wire::Revoking(revoking) => Phase::Revoking {
            target: revoking.target.map(target_from_proto),
            since: Stamp(revoking.since_ms),
        },
        Wire::AdriftSinceMs(since) => Phase::Adrift { since: Stamp(since) },
    };
    Ok(Placement {
        node: NodeId(placement.node),
        session: placement.session.map(SessionId),
        generation: Generation(placement.generation),
        phase,
        observed: Observed {
            state: instance_state_from_proto(placement.state)?,
            since: Stamp(placement.state_since_ms),
            restarts: placement.restarts,
            message: placement.message,
        },
        reason: placement.reason,
        since: Stamp(placement.since_ms),
    })
}

pub(super) fn client_to_proto(client: u64, record: &ClientRecord) -> v1::StoredClient {
    let reply = Some(stored_to_proto(&record.reply));
    v1::StoredClient { client, seq: record.seq, at: record.at.0, reply }
}

pub(super) fn client_from_proto(client: v1::StoredClient) -> Result<(u64, ClientRecord), DecodeError> {
    let reply = stored_from_proto(required(client.reply, "client.reply")?)?;
    Ok((client.client, ClientRecord { seq: client.seq, at: Revision(client.at), reply }))
}
