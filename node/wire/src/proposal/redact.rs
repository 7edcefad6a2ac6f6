//! Leaves the keys of sessions and CAs and the encrypted values of secrets out of a log entry, for readers outside Raft. Works on the fields' bytes, so
//! that what a newer version added stays as it is.

use bytes::Bytes;
use prost::encoding::{
    DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, skip_field,
};

/// `Proposal.open_session`, `add_authority` and `put_secret`: the commands that hold a key, or what one opens.
const WITH_KEY: [u32; 3] = [16, 40, 57];
/// `OpenSession.key`, `NewAuthority.key` and `PutSecret.sealed`.
const KEY: u32 = 3;

/// Whether the bytes of a log entry hold a key (or cannot be read, which [`redact_proposal`] also needs
/// to see). Looks at the outermost fields only.
#[must_use]
pub fn carries_secret(proposal: &[u8]) -> bool {
    let mut rest = proposal;
    while !rest.is_empty() {
        match next_field(&mut rest) {
            Some(field) if !WITH_KEY.contains(&field.number) => {}
            Some(_) | None => return true,
        }
    }
    false
}

/// The bytes of a log entry without its key; any other entry is copied unchanged. Of bytes
/// that are no message nothing is left: whoever reads them fails instead of seeing a key.
#[must_use]
pub fn redact_proposal(proposal: &[u8]) -> Bytes {
    if !carries_secret(proposal) {
        return Bytes::copy_from_slice(proposal);
    }
    without_key(proposal).map(Bytes::from).unwrap_or_default()
}

fn without_key(proposal: &[u8]) -> Option<Vec<u8>> {
    let mut kept = Vec::with_capacity(proposal.len());
    let mut rest = proposal;
    while !rest.is_empty() {
        let field = next_field(&mut rest)?;
        if !WITH_KEY.contains(&field.number) {
            kept.extend_from_slice(field.whole);
            continue;
        }
        let open = without_field(field.content?, KEY)?;
        encode_key(field.number, WireType::LengthDelimited, &mut kept);
        encode_varint(open.len() as u64, &mut kept);
        kept.extend_from_slice(&open);
    }
    Some(kept)
}

fn without_field(message: &[u8], number: u32) -> Option<Vec<u8>> {
    let mut kept = Vec::with_capacity(message.len());
    let mut rest = message;
    while !rest.is_empty() {
        let field = next_field(&mut rest)?;
        if field.number != number {
            kept.extend_from_slice(field.whole);
        }
    }
    Some(kept)
}

/// One field as it stands in the bytes.
struct Field<'a> {
    number: u32,
    /// Key and value.
    whole: &'a [u8],
    /// The value of a length-delimited field.
    content: Option<&'a [u8]>,
}

/// Takes the next field; `None` when the bytes are no message.
fn next_field<'a>(rest: &mut &'a [u8]) -> Option<Field<'a>> {
    let start = *rest;
    let (number, wire_type) = decode_key(rest).ok()?;
    let content = if wire_type == WireType::LengthDelimited {
        let length = usize::try_from(decode_varint(rest).ok()?).ok()?;
        let (content, after) = rest.split_at_checked(length)?;
        *rest = after;
        Some(content)
    } else {
        skip_field(wire_type, number, rest, DecodeContext::default()).ok()?;
        None
    };
    Some(Field { number, whole: start.get(..start.len() - rest.len())?, content })
}
