//! Events, as watchers get them.

use muster_core::event::Event;
use muster_proto::v1;

/// An event as a message; `seq` is its place among the events of one revision. Absent names become empty.
#[must_use]
pub fn event_to_proto(event: &Event, seq: u32) -> v1::Event {
    v1::Event {
        revision: event.revision.0,
        time_ms: event.time.0,
        kind: event.kind.as_str().to_owned(),
        node: event.node.as_ref().map(ToString::to_string).unwrap_or_default(),
        service: event.service.as_ref().map(ToString::to_string).unwrap_or_default(),
        instance: event.instance.as_ref().map(ToString::to_string).unwrap_or_default(),
        message: event.message.clone(),
        seq,
    }
}
