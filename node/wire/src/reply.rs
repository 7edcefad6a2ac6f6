//! Answers to writes, as followers forward them and snapshots keep them.

use muster_core::id::{NodeId, Revision, ServiceName, SessionId};
use muster_core::refusal::{Refusal, RefusalClass, RefusalText};
use muster_core::state::apply::{Declared, Reply, ReplyValue};
use muster_proto::v1;

use crate::error::{DecodeError, known, required, service_name};

/// An answer as a message. A refusal crosses by its stable code, text and class.
#[must_use]
pub fn reply_to_proto(reply: &Result<Reply, Refusal>) -> v1::StoredReply {
    let result = match reply {
        Ok(reply) => accepted_to_proto(reply),
        Err(Refusal::Told(text)) => refused_to_proto(text),
        Err(refusal) => refused_to_proto(&refusal.to_text()),
    };
    v1::StoredReply { result: Some(result) }
}

/// An answer of a message; a refusal becomes [`Refusal::Told`].
///
/// # Errors
/// [`DecodeError`] names the field.
pub fn reply_from_proto(reply: v1::StoredReply) -> Result<Result<Reply, Refusal>, DecodeError> {
    stored_from_proto(reply).map(|reply| reply.map_err(Refusal::Told))
}

pub(crate) fn stored_to_proto(reply: &Result<Reply, RefusalText>) -> v1::StoredReply {
    let result = match reply {
        Ok(reply) => accepted_to_proto(reply),
        Err(text) => refused_to_proto(text),
    };
    v1::StoredReply { result: Some(result) }
}

pub(crate) fn stored_from_proto(reply: v1::StoredReply) -> Result<Result<Reply, RefusalText>, DecodeError> {
    use v1::stored_reply::Result::{Accepted, Refused};
    Ok(match required(reply.result, "reply.result")? {
        Accepted(accepted) => Ok(accepted_from_proto(accepted)?),
        Refused(refused) => Err(RefusalText {
            code: refused.code.into(),
            message: refused.message.into(),
            class: class_from_proto(refused.class)?,
        }),
    })
}

fn accepted_to_proto(reply: &Reply) -> v1::stored_reply::Result {
    let mut accepted =
        v1::Accepted { revision: reply.revision.0, changed: reply.changed, ..Default::default() };
    match &reply.value {
        ReplyValue::Nothing => {}
        ReplyValue::Node(id) => accepted.node = Some(id.0),
        ReplyValue::Session(id) => accepted.session = Some(id.0),
        ReplyValue::Services(services) => {
            accepted.services = services.iter().map(|(name, what)| declared_to_proto(name, *what)).collect();
        }
    }
    v1::stored_reply::Result::Accepted(accepted)
}

fn accepted_from_proto(accepted: v1::Accepted) -> Result<Reply, DecodeError> {
    let value = match (accepted.node, accepted.session) {
        (Some(id), _) => ReplyValue::Node(NodeId(id)),
        (None, Some(id)) => ReplyValue::Session(SessionId(id)),
        (None, None) if accepted.services.is_empty() => ReplyValue::Nothing,
        (None, None) => {
            let services = accepted.services.into_iter().map(declared_from_proto);
            ReplyValue::Services(services.collect::<Result<_, _>>()?)
        }
    };
    Ok(Reply { revision: Revision(accepted.revision), changed: accepted.changed, value })
}

fn refused_to_proto(text: &RefusalText) -> v1::stored_reply::Result {
    v1::stored_reply::Result::Refused(v1::Refused {
        code: text.code.to_string(),
        message: text.message.to_string(),
        class: class_to_proto(text.class),
    })
}

/// From 1, so that a class that was left out is not mistaken for one.
fn class_to_proto(class: RefusalClass) -> u32 {
    match class {
        RefusalClass::NotFound => 1,
        RefusalClass::Exists => 2,
        RefusalClass::Conflict => 3,
        RefusalClass::Invalid => 4,
        RefusalClass::Denied => 5,
    }
}

fn class_from_proto(class: u32) -> Result<RefusalClass, DecodeError> {
    Ok(match class {
        1 => RefusalClass::NotFound,
        2 => RefusalClass::Exists,
        3 => RefusalClass::Conflict,
        4 => RefusalClass::Invalid,
        5 => RefusalClass::Denied,
        other => {
            return Err(DecodeError::UnknownValue { field: "refused.class", value: i64::from(other) });
        }
    })
}

/// What a declaration did, as a message.
#[must_use]
pub fn declared_to_proto(service: &ServiceName, what: Declared) -> v1::DeclaredService {
    use v1::declared_service::What;
    let what = match what {
        Declared::Created => What::Created,
        Declared::Changed => What::Changed,
        Declared::Unchanged => What::Unchanged,
    };
    v1::DeclaredService { service: service.as_str().to_owned(), what: what.into() }
}

/// What a declaration did, of a message.
///
/// # Errors
/// [`DecodeError`] names the field.
pub fn declared_from_proto(declared: v1::DeclaredService) -> Result<(ServiceName, Declared), DecodeError> {
    use v1::declared_service::What;
    let what = match known::<What>(declared.what, "declared.what")? {
        What::Created => Declared::Created,
        What::Changed => Declared::Changed,
        What::Unchanged => Declared::Unchanged,
    };
    Ok((service_name(&declared.service, "declared.service")?, what))
}
