//! Snapshots.

use std::convert::Infallible;

use muster_core::command::SessionKey;
use muster_core::id::Revision;
use muster_core::state::State;
use muster_proto::v1::{self, StateRecord, state_record::Record};
use muster_wire::{STATE_VERSION, SessionKeys, SnapshotError, StateReader, write_state};
use proptest::prelude::*;
use prost::Message;

use crate::command_strategy::proposal;
use crate::golden;
use crate::state_strategy::state;

fn records(state: &State, keys: SessionKeys) -> Vec<StateRecord> {
    let mut records = Vec::new();
    let written = write_state(state, keys, |record| {
        // Through bytes, as on a disk.
        records.push(StateRecord::decode(record.encode_to_vec().as_slice()).expect("just written"));
        Ok::<(), Infallible>(())
    });
    written.expect("the sink takes all");
    records
}

fn read(records: impl IntoIterator<Item = StateRecord>) -> Result<State, SnapshotError> {
    let mut reader = StateReader::new();
    for record in records {
        reader.push(record)?;
    }
    reader.finish()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_state_comes_back_equal(state in state()) {
        prop_assert_eq!(read(records(&state, SessionKeys::Include)).unwrap(), state);
    }

    #[test]
    fn a_redacted_state_lacks_the_keys_and_nothing_else(state in state()) {
        let mut redacted = read(records(&state, SessionKeys::Redact)).unwrap();
        for (id, session) in &state.sessions {
            let lacking = redacted.sessions.get_mut(id).unwrap();
            prop_assert_eq!(lacking.key, SessionKey::default());
            lacking.key = session.key;
        }
        for (lacking, authority) in redacted.authorities.iter_mut().zip(&state.authorities) {
            prop_assert!(lacking.key.0.is_empty());
            *lacking = authority.clone();
        }
        for (name, secret) in &state.secrets {
            let lacking = redacted.secrets.insert(name.clone(), secret.clone()).unwrap();
            prop_assert!(lacking.sealed.0.is_empty());
        }
        prop_assert_eq!(redacted, state);
    }

    /// What `apply` makes is always whole: none of its states is refused by a reader.
    #[test]
    fn every_applied_state_comes_back_equal(proposals in prop::collection::vec(proposal(), 0..20)) {
        let mut state = State::default();
        for (at, proposal) in golden::life_of_a_service().iter().chain(&proposals).enumerate() {
            state.apply(Revision(at as u64 + 1), proposal);
        }
        prop_assert_eq!(read(records(&state, SessionKeys::Include)).unwrap(), state);
    }

    /// Whatever is left out of a snapshot's beginning or repeated within it, no record is taken twice or too late.
    #[test]
    fn no_record_is_taken_twice(state in state(), which in any::<prop::sample::Index>()) {
        let mut records = records(&state, SessionKeys::Include);
        let again = records[which.index(records.len())].clone();
        records.push(again);
        let refused = matches!(read(records), Err(SnapshotError::OutOfOrder { .. }));
        prop_assert!(refused);
    }
}

fn full_state() -> State {
    let mut state = State::default();
    for (at, proposal) in golden::life_of_a_service().iter().enumerate() {
        let outcome = state.apply(Revision(at as u64 + 1), proposal);
        assert!(outcome.reply.is_ok(), "{:?}", outcome.reply);
    }
    state
}

#[test]
fn a_snapshot_begins_with_its_header() {
    assert!(matches!(read([]), Err(SnapshotError::NoHeader)));
    let records = records(&full_state(), SessionKeys::Include);
    assert!(matches!(read(records.into_iter().skip(1)), Err(SnapshotError::NoHeader)));
}

#[test]
fn a_newer_version_is_refused() {
    let header = v1::StateHeader { version: STATE_VERSION + 1, ..Default::default() };
    let read = read([StateRecord { record: Some(Record::Header(header)) }]);
    assert!(matches!(read, Err(SnapshotError::NewerVersion { found: 2, known: 1 })));
}

#[test]
fn an_empty_record_is_refused() {
    let mut records = records(&full_state(), SessionKeys::Include);
    records.push(StateRecord { record: None });
    assert!(matches!(read(records), Err(SnapshotError::Record(_))));
}

#[test]
fn tables_in_another_order_are_refused() {
    let mut records = records(&full_state(), SessionKeys::Include);
    let last = records.len() - 1;
    records.swap(1, last);
    assert!(matches!(read(records), Err(SnapshotError::OutOfOrder { .. })));
}

#[test]
fn what_is_named_must_be_there() {
    let all = records(&full_state(), SessionKeys::Include);
    let without = |left_out: fn(&Record) -> bool| {
        let kept = all.iter().filter(|r| !r.record.as_ref().is_some_and(left_out)).cloned();
        read(kept).expect_err("something is missing").to_string()
    };
    let missing = "which the snapshot does not have";
    assert_eq!(without(|r| matches!(r, Record::Node(_))), format!("session 2 names node 1, {missing}"));
    assert_eq!(
        without(|r| matches!(r, Record::Session(_))),
        format!("node n1 names session 2 of node 1, {missing}")
    );
    assert_eq!(
        without(|r| matches!(r, Record::Service(_))),
        format!("slot db/0 names service db, {missing}")
    );
}
