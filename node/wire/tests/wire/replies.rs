//! Answers and events.

use muster_core::event::{Event, EventKind};
use muster_core::id::{NodeId, NodeName, Revision, ServiceName, SessionId, SlotId};
use muster_core::refusal::{Refusal, RefusalClass};
use muster_core::state::apply::{Declared, Reply, ReplyValue};
use muster_core::time::Stamp;
use muster_proto::v1;
use muster_wire::{event_to_proto, reply_from_proto, reply_to_proto};

#[test]
fn answers_come_back_equal() {
    let service = ServiceName::new("db").unwrap();
    for value in [
        ReplyValue::Nothing,
        ReplyValue::Node(NodeId(3)),
        ReplyValue::Session(SessionId(0)),
        ReplyValue::Services(vec![(service, Declared::Unchanged)]),
    ] {
        let reply = Ok(Reply { revision: Revision(9), changed: true, value });
        assert_eq!(reply_from_proto(reply_to_proto(&reply)).unwrap(), reply);
    }
}

#[test]
fn a_refusal_keeps_its_code_text_and_class() {
    for (refusal, class) in [
        (Refusal::NoCluster, RefusalClass::Conflict),
        (Refusal::NoSuchNode("n9".to_owned()), RefusalClass::NotFound),
        (Refusal::TokenUnknown, RefusalClass::Denied),
        (Refusal::ClusterExists, RefusalClass::Exists),
        (Refusal::DuplicateService(ServiceName::new("db").unwrap()), RefusalClass::Invalid),
    ] {
        let told = reply_from_proto(reply_to_proto(&Err(refusal.clone()))).unwrap().unwrap_err();
        assert_eq!((told.code(), told.class()), (refusal.code(), class));
        assert_eq!(told.to_string(), refusal.to_string());
        // Told on, it stays the same.
        assert_eq!(reply_from_proto(reply_to_proto(&Err(told.clone()))).unwrap(), Err(told));
    }
}

#[test]
fn a_refusal_without_a_class_is_not_understood() {
    let refused = v1::stored_reply::Result::Refused(v1::Refused::default());
    assert!(reply_from_proto(v1::StoredReply { result: Some(refused) }).is_err());
    assert!(reply_from_proto(v1::StoredReply { result: None }).is_err());
}

#[test]
fn an_event_keeps_its_names() {
    let service = ServiceName::new("db").unwrap();
    let event = Event {
        revision: Revision(5),
        time: Stamp(7),
        kind: EventKind::InstanceLost,
        node: Some(NodeName::new("n1").unwrap()),
        service: Some(service.clone()),
        instance: Some(SlotId { service, index: 0 }),
        message: "gone".to_owned(),
    };
    let message = event_to_proto(&event, 2);
    assert_eq!((message.kind.as_str(), message.node.as_str()), ("InstanceLost", "n1"));
    assert_eq!((message.service.as_str(), message.instance.as_str()), ("db", "db/0"));
    assert_eq!((message.revision, message.time_ms, message.seq), (5, 7, 2));
}
