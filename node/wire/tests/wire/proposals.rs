//! Log entries.

use muster_core::command::{
    AuthorityKey, Command, NewAuthority, OpenSession, Proposal, PutSecret, SealedValue, SessionKey,
};
use muster_core::id::RequestId;
use muster_core::time::Stamp;
use muster_proto::v1;
use muster_wire::{
    DecodeError, MAX_SEALED_BYTES, carries_secret, decode_proposal, encode_proposal, proposal_to_proto,
    redact_proposal,
};
use proptest::prelude::*;
use prost::Message;

use crate::command_strategy::{frequent_proposal, new_authority, open_session, proposal, put_secret};

fn opening(open: OpenSession) -> Proposal {
    let command = Command::OpenSession(open);
    Proposal { stamp: Stamp(1), request: RequestId { client: 7, seq: 1 }, actor: "n1".into(), command }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn a_proposal_comes_back_equal(proposal in proposal()) {
        let bytes = encode_proposal(&proposal);
        prop_assert_eq!(decode_proposal(&bytes).unwrap(), proposal);
    }

    /// The direct way of the frequent commands writes what the generated code would write.
    #[test]
    fn both_ways_of_encoding_agree(proposal in frequent_proposal()) {
        prop_assert_eq!(encode_proposal(&proposal), proposal_to_proto(&proposal).encode_to_vec());
    }

    #[test]
    fn redaction_takes_the_key_and_nothing_else(open in open_session()) {
        let mut proposal = opening(open);
        let bytes = encode_proposal(&proposal);
        prop_assert!(carries_secret(&bytes));
        let redacted = redact_proposal(&bytes);
        let Command::OpenSession(open) = &mut proposal.command else { unreachable!("made so above") };
        open.key = SessionKey::default();
        prop_assert_eq!(decode_proposal(&redacted).unwrap(), proposal);
        prop_assert!(redacted.len() + 34 == bytes.len() || redacted.len() + 35 == bytes.len());
    }

    #[test]
    fn redaction_takes_the_key_of_a_ca_too(new in new_authority()) {
        let mut proposal = Proposal {
            stamp: Stamp(1),
            request: RequestId { client: 7, seq: 1 },
            actor: "n1".into(),
            command: Command::AddAuthority(new.clone()),
        };
        let bytes = encode_proposal(&proposal);
        prop_assert!(carries_secret(&bytes));
        let redacted = redact_proposal(&bytes);
        proposal.command =
            Command::AddAuthority(NewAuthority { key: AuthorityKey(std::sync::Arc::new([])), ..new });
        prop_assert_eq!(decode_proposal(&redacted).unwrap(), proposal);
    }

    #[test]
    fn redaction_takes_the_value_of_a_secret_too(put in put_secret()) {
        let command = Command::PutSecret(put.clone());
        let request = RequestId { client: 7, seq: 1 };
        let mut proposal = Proposal { stamp: Stamp(1), request, actor: "n1".into(), command };
        let bytes = encode_proposal(&proposal);
        prop_assert!(carries_secret(&bytes));
        proposal.command = Command::PutSecret(PutSecret { sealed: SealedValue::default(), ..put });
        prop_assert_eq!(decode_proposal(&redact_proposal(&bytes)).unwrap(), proposal);
    }

    #[test]
    fn redaction_leaves_other_commands_alone(proposal in proposal()) {
        if !matches!(
            proposal.command,
            Command::OpenSession(_) | Command::AddAuthority(_) | Command::PutSecret(_)
        ) {
            let bytes = encode_proposal(&proposal);
            prop_assert!(!carries_secret(&bytes));
            prop_assert_eq!(redact_proposal(&bytes), bytes);
        }
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        drop(decode_proposal(&bytes));
        prop_assert!(redact_proposal(&bytes).len() <= bytes.len());
    }

    /// Of an entry that was cut within the session's part nothing is left.
    #[test]
    fn a_cut_entry_gives_no_key_away(open in open_session(), cut in any::<prop::sample::Index>()) {
        let key = [0xa5; 32];
        let open = OpenSession { key: SessionKey(key), ..open };
        let bytes = encode_proposal(&opening(open));
        let redacted = redact_proposal(&bytes[..cut.index(bytes.len())]);
        prop_assert!(!redacted.windows(4).any(|part| part == &key[..4]));
    }
}

fn fails(message: &v1::Proposal) -> DecodeError {
    decode_proposal(&message.encode_to_vec()).expect_err("it is malformed")
}

fn message(command: v1::proposal::Command) -> v1::Proposal {
    v1::Proposal { request: Some(v1::RequestId::default()), command: Some(command), ..Default::default() }
}

#[test]
fn a_command_of_a_newer_version_stops_the_agent() {
    assert!(matches!(fails(&v1::Proposal::default()), DecodeError::UnknownCommand));
    // Field 99, length-delimited, empty: a command that does not exist yet.
    assert!(matches!(decode_proposal(&[0x9a, 0x06, 0x00]), Err(DecodeError::UnknownCommand)));
    assert!(matches!(decode_proposal(&[0xff]), Err(DecodeError::Malformed { .. })));
}

#[test]
fn what_is_malformed_is_named() {
    use v1::proposal::Command as Wire;
    let unknown_state = v1::Observe {
        slot: Some(v1::SlotId { service: "a".to_owned(), index: 0 }),
        state: 99,
        ..Default::default()
    };
    let short_key = v1::OpenSession { key: vec![1; 31].into(), ..Default::default() };
    let too_large = v1::PutSecret {
        name: "a".to_owned(),
        key: vec![1; 16].into(),
        sealed: vec![0; MAX_SEALED_BYTES + 1].into(),
        how: Some(v1::put_secret::How::Set(true)),
    };
    for (command, expected) in [
        (Wire::ChangeNode(v1::ChangeNode::default()), "change_node.change is missing"),
        (Wire::RemoveService(v1::ServiceName::default()), "remove_service.service is not legal"),
        (
            Wire::Observe(unknown_state),
            "instance state has the value 99, which this version of Muster does not know",
        ),
        (Wire::PutSecret(too_large), "secret.sealed has 32833 bytes instead of 32832"),
        (Wire::Observe(v1::Observe::default()), "observe.slot is missing"),
        (Wire::OpenSession(short_key), "open_session.key has 31 bytes instead of 32"),
        (
            Wire::ApplyPlan(v1::Plan { base: 1, actions: vec![v1::Action::default()] }),
            "action.kind is missing",
        ),
    ] {
        assert_eq!(fails(&message(command)).to_string(), expected);
    }
    let unasked = v1::Proposal { request: None, ..message(Wire::Reopen(v1::Reopen::default())) };
    assert_eq!(fails(&unasked).to_string(), "proposal.request is missing");
}

#[test]
fn redaction_keeps_what_a_newer_version_added() {
    let open = v1::OpenSession { node: 3, key: vec![9; 32].into(), ..Default::default() };
    let mut inner = open.encode_to_vec();
    // Field 50 of OpenSession, number 7.
    inner.extend([0x90, 0x03, 0x07]);
    let mut bytes = vec![0x08, 0x05, 0x82, 0x01, u8::try_from(inner.len()).unwrap()];
    bytes.extend(&inner);
    assert_eq!(
        redact_proposal(&bytes).as_ref(),
        [0x08, 0x05, 0x82, 0x01, 0x05, 0x08, 0x03, 0x90, 0x03, 0x07]
    );
}
