//! Short texts that people and programs hand over: tokens, conditions on labels, times, names.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use muster_core::id::{NodeName, ServiceName, TaskName, UserName};
use muster_core::spec::Labels;
use muster_core::spec::duration::{Time, TimeRange};
use muster_core::spec::selector::Requirement;
use muster_guard::key::SessionKey;
use muster_tls::Pin;

pub(super) fn body(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let text = text.as_ref();
    comes_back::<Requirement>(text);
    comes_back::<Time>(text);
    comes_back::<TimeRange>(text);
    if let Ok(requirement) = text.parse::<Requirement>() {
        let labels: Labels = [("zone".to_owned(), "a".to_owned())].into();
        let _either = requirement.holds("n1", &labels);
    }
    if let Some(pin) = muster::token::pin(text) {
        assert_eq!(Pin::parse(&pin.to_string()), Some(pin));
        assert!(muster::token::is_well_formed(text));
    }
    if let Some(key) = SessionKey::from_hex(text) {
        assert!(key.to_hex().eq_ignore_ascii_case(text));
    }
    let names = [
        NodeName::new(text).map(String::from),
        ServiceName::new(text).map(String::from),
        TaskName::new(text).map(String::from),
        UserName::new(text).map(String::from),
    ];
    for name in names.into_iter().flatten() {
        assert!(name == text && name.len() <= 63 && !name.contains(['/', '\0', ' ']), "{name:?}");
        assert!(name != "." && name != "..", "a name that is a way out of its directory");
    }
}

/// What was understood says the same when it is written and read again.
fn comes_back<T>(text: &str)
where
    T: FromStr + Display + PartialEq + Debug,
    T::Err: Debug + Display,
{
    match text.parse::<T>() {
        Ok(value) => {
            let written = value.to_string();
            let again = written.parse::<T>().unwrap_or_else(|error| panic!("{written:?}: {error}"));
            assert_eq!(again, value, "from {text:?} by {written:?}");
        }
        Err(error) => drop(error.to_string()),
    }
}

pub(super) fn seeds() -> Vec<(String, Vec<u8>)> {
    [
        ("token", "muster1.abcdefgh.abcdefghijkmnpqrstuvwxyz23456789.00112233445566778899aabbccddeeff"),
        ("equal", "zone == 'a b'"),
        ("unequal", "node != n1"),
        ("in", "zone in (a, \"b\", c)"),
        ("not-in", "zone not in (a,b)"),
        ("has", "has disk"),
        ("not-has", "not has 'in'"),
        ("escaped", "zone == 'a\\'b\\\\'"),
        ("time", "1d2h3m4s5ms"),
        ("range", "1s..30s"),
        ("name", "web-1.a_b"),
        ("key", "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF"),
    ]
    .map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()))
    .into()
}
