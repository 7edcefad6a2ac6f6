//! From messages to the core's types, where `muster_wire` has nothing ready: names that must exist, requests
//! that must be complete.

use muster_core::id::{NodeName, RequestId, ServiceName, SlotId};
use muster_core::refusal::Refusal;
use muster_core::state::State;
use muster_core::state::node::Node;
use muster_proto::v1;

use super::status::ApiError;

/// The request id of a write; without one a write that the caller repeats is another write, which is their choice.
pub(super) fn request_id(request: Option<v1::RequestId>) -> RequestId {
    request.map(muster_wire::request_from_proto).unwrap_or_default()
}

/// A service's name.
pub(super) fn service_name(name: &str) -> Result<ServiceName, ApiError> {
    ServiceName::new(name).map_err(|error| ApiError::Invalid(error.to_string()))
}

/// A node's name.
pub(super) fn node_name(name: &str) -> Result<NodeName, ApiError> {
    NodeName::new(name).map_err(|error| ApiError::Invalid(error.to_string()))
}

/// The node of that name.
pub(super) fn node<'a>(state: &'a State, name: &str) -> Result<&'a Node, ApiError> {
    state.node_named(name).ok_or_else(|| Refusal::NoSuchNode(name.to_owned()).into())
}

/// The node that a caller may have left open.
pub(super) fn optional_node<'a>(state: &'a State, name: &str) -> Result<Option<&'a Node>, ApiError> {
    if name.is_empty() { Ok(None) } else { node(state, name).map(Some) }
}

/// The slot that a caller means; the index may be left out when there is only one.
pub(super) fn slot(state: &State, service: &str, index: Option<u64>) -> Result<SlotId, ApiError> {
    let name = service_name(service)?;
    if !state.services.contains_key(&name) {
        return Err(Refusal::NoSuchService(name).into());
    }
    let slots: Vec<SlotId> = state.slots_of(&name).map(|(id, _)| id.clone()).collect();
    match (index, slots.as_slice()) {
        (Some(index), all) => {
            let wanted = SlotId { service: name, index };
            if all.contains(&wanted) { Ok(wanted) } else { Err(Refusal::NoSuchInstance(wanted).into()) }
        }
        (None, [only]) => Ok(only.clone()),
        (None, []) => Err(Refusal::NoSuchInstance(SlotId { service: name, index: 0 }).into()),
        (None, all) => Err(ApiError::WhichInstance { service: service.to_owned(), instances: all.len() }),
    }
}

/// A field that must be there.
pub(super) fn required<T>(value: Option<T>, field: &str) -> Result<T, ApiError> {
    value.ok_or_else(|| ApiError::Invalid(format!("{field} is missing")))
}

/// A request id of this agent's own.
pub(super) fn own_request() -> Result<RequestId, ApiError> {
    let client = getrandom::u64().map_err(|error| ApiError::Internal(error.to_string()))?;
    Ok(RequestId { client: client.max(1), seq: 1 })
}
