//! Slots and what agents say about instances.

use muster_core::command::{Observation, StopCause, Stopped};
use muster_core::id::{Generation, NodeId, SessionId, SlotId};
use muster_core::state::slot::InstanceState;
use muster_proto::v1;

use crate::error::{DecodeError, known, required, service_name};

/// A slot's name as a message.
#[must_use]
pub fn slot_to_proto(slot: &SlotId) -> v1::SlotId {
    v1::SlotId { service: slot.service.as_str().to_owned(), index: slot.index }
}

/// A slot's name of a message.
///
/// # Errors
/// [`DecodeError`] when it is missing or its service's name is not legal.
pub fn slot_from_proto(slot: Option<v1::SlotId>, field: &'static str) -> Result<SlotId, DecodeError> {
    let slot = required(slot, field)?;
    Ok(SlotId { service: service_name(&slot.service, field)?, index: slot.index })
}

/// An instance's state as a message.
#[must_use]
pub fn instance_state_to_proto(state: InstanceState) -> v1::InstanceState {
    match state {
        InstanceState::Placed => v1::InstanceState::Placed,
        InstanceState::Starting => v1::InstanceState::Starting,
        InstanceState::Running => v1::InstanceState::Running,
        InstanceState::Unhealthy => v1::InstanceState::Unhealthy,
        InstanceState::Stopping => v1::InstanceState::Stopping,
        InstanceState::Stopped => v1::InstanceState::Stopped,
        InstanceState::Failed => v1::InstanceState::Failed,
        InstanceState::Lost => v1::InstanceState::Lost,
    }
}

/// An instance's state of a message.
///
/// # Errors
/// [`DecodeError::UnknownValue`].
pub fn instance_state_from_proto(state: i32) -> Result<InstanceState, DecodeError> {
    Ok(match known::<v1::InstanceState>(state, "instance state")? {
        v1::InstanceState::Placed => InstanceState::Placed,
        v1::InstanceState::Starting => InstanceState::Starting,
        v1::InstanceState::Running => InstanceState::Running,
        v1::InstanceState::Unhealthy => InstanceState::Unhealthy,
        v1::InstanceState::Stopping => InstanceState::Stopping,
        v1::InstanceState::Stopped => InstanceState::Stopped,
        v1::InstanceState::Failed => InstanceState::Failed,
        v1::InstanceState::Lost => InstanceState::Lost,
    })
}

pub(crate) fn stopped_to_proto(stopped: &Stopped) -> v1::Stopped {
    v1::Stopped {
        slot: Some(slot_to_proto(&stopped.slot)),
        node: stopped.node.0,
        session: stopped.session.map(|id| id.0),
        generation: stopped.generation.0,
        failure: match &stopped.why {
            StopCause::Revoked => None,
            StopCause::Failed { message } => Some(message.clone()),
        },
    }
}

pub(crate) fn stopped_from_proto(stopped: v1::Stopped) -> Result<Stopped, DecodeError> {
    Ok(Stopped {
        slot: slot_from_proto(stopped.slot, "stopped.slot")?,
        node: NodeId(stopped.node),
        session: stopped.session.map(SessionId),
        generation: Generation(stopped.generation),
        why: stopped.failure.map_or(StopCause::Revoked, |message| StopCause::Failed { message }),
    })
}

pub(crate) fn observation_to_proto(seen: &Observation) -> v1::Observe {
    v1::Observe {
        slot: Some(slot_to_proto(&seen.slot)),
        node: seen.node.0,
        generation: seen.generation.0,
        state: instance_state_to_proto(seen.state).into(),
        restarts: seen.restarts,
        message: seen.message.clone(),
    }
}

pub(crate) fn observation_from_proto(seen: v1::Observe) -> Result<Observation, DecodeError> {
    Ok(Observation {
        slot: slot_from_proto(seen.slot, "observe.slot")?,
        node: NodeId(seen.node),
        generation: Generation(seen.generation),
        state: instance_state_from_proto(seen.state)?,
        restarts: seen.restarts,
        message: seen.message,
    })
}
