//! Tables of a file whose unknown keys are refused at their place, with the nearest known key. The list of a
//! table's keys is made here once, from its fields; files, messages and completion take it from there.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer};
use serde::{Serialize, Serializer};

/// Declares a table: a struct whose fields are its keys, its `KEYS`, and serde both ways. What equals the default
/// is not written.
macro_rules! table {
    ($(#[$doc:meta])* $name:ident, $what:literal { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
        pub struct $name {
            $($(#[$field_doc])* #[serde(skip_serializing_if = "crate::spec::file::table::is_default")]
            pub $field: $type,)*
        }

        impl $name {
            /// The keys of this table.
            pub const KEYS: &'static [&'static str] = &[$(stringify!($field)),*];
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Table;
                impl<'de> serde::de::Visitor<'de> for Table {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(concat!("the table of a ", $what))
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<$name, A::Error> {
                        let mut table = $name::default();
                        let mut seen: Vec<&str> = Vec::new();
                        let keys = $name::KEYS;
                        while let Some(key) = map.next_key_seed(crate::spec::file::table::Key { what: $what, keys })? {
                            if seen.contains(&key) {
                                return Err(serde::de::Error::duplicate_field(key));
                            }
                            seen.push(key);
                            $(if key == stringify!($field) {
                                table.$field = map.next_value()?;
                                continue;
                            })*
                        }
                        Ok(table)
                    }
                }
                deserializer.deserialize_map(Table)
            }
        }
    };
}
pub(super) use table;

pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Reads a key of a table, or refuses it.
#[derive(Clone, Copy)]
pub(super) struct Key {
    pub what: &'static str,
    pub keys: &'static [&'static str],
}

impl<'de> DeserializeSeed<'de> for Key {
    type Value = &'static str;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<&'static str, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl de::Visitor<'_> for Key {
    type Value = &'static str;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a key of a {}", self.what)
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<&'static str, E> {
        let known = self.keys.iter().find(|known| **known == key);
        known.copied().ok_or_else(|| E::custom(unknown("key", self.what, key, self.keys)))
    }
}

/// A value that has a name in files.
pub trait Named: Copy + PartialEq + 'static {
    /// The key whose values these are.
    const KEY: &'static str;
    /// The names, in the order in which messages list them.
    const NAMES: &'static [&'static str];
    /// The values, in the same order.
    const VALUES: &'static [Self];
}

/// One of a few named values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice<T>(pub T);

impl<T: Named> Serialize for Choice<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let named = T::VALUES.iter().zip(T::NAMES).find(|(value, _)| **value == self.0);
        serializer.serialize_str(named.map_or("", |(_, name)| name))
    }
}

impl<'de, T: Named> Deserialize<'de> for Choice<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name<T>(PhantomData<T>);
        impl<T: Named> de::Visitor<'_> for Name<T> {
            type Value = Choice<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "one of {}", T::NAMES.join(", "))
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Choice<T>, E> {
                let named = T::VALUES.iter().zip(T::NAMES).find(|(_, known)| **known == name);
                let value = named.map(|(value, _)| Choice(*value));
                value.ok_or_else(|| E::custom(unknown("value", T::KEY, name, T::NAMES)))
            }
        }
        deserializer.deserialize_str(Name(PhantomData))
    }
}

/// What is part of the file format but not of this version.
const LATER: &[(&str, &[&str], &str)] = &[
    ("task", &["systemd", "docker", "vip", "mount", "ocf"], "driver"),
    ("health", &["grpc"], "check"),
    ("mode", &["promotable"], "mode"),
];

fn unknown(kind: &str, of: &str, found: &str, known: &[&str]) -> String {
    if let Some((_, _, what)) = LATER.iter().find(|(table, later, _)| *table == of && later.contains(&found))
    {
        let available = match *what {
            "driver" => "exec".to_owned(),
            "check" => "tcp, http, exec".to_owned(),
            _ => known.join(", "),
        };
        return format!("the {what} '{found}' is not part of this version; available: {available}");
    }
    let list = known.join(", ");
    match nearest_known_key(found, known) {
        Some(near) => format!("unknown {kind} '{found}' of {of}: did you mean '{near}'? known are: {list}"),
        None => format!("unknown {kind} '{found}' of {of}; known are: {list}"),
    }
}

/// The known key that `unknown` most likely was meant to be: at most a third of its letters are wrong.
#[must_use]
pub fn nearest_known_key<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    let allowed = (unknown.chars().count() / 3).max(1);
    let near = known.iter().map(|key| (distance(unknown, key), *key)).min()?;
    (near.0 <= allowed).then_some(near.1)
}

/// How many letters must be added, removed, changed or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut previous = None;
    for (i, x) in a.chars().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let changed = last[j] + usize::from(x != *y);
            let mut best = changed.min(last[j + 1] + 1).min(row[j] + 1);
            if j > 0 && previous == Some(*y) && b[j - 1] == x {
                best = best.min(before_last[j - 1] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
        previous = Some(x);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_found() {
        let known = ["timeout", "interval", "failures", "tcp", "http"];
        assert_eq!(nearest_known_key("tiemout", &known), Some("timeout"));
        assert_eq!(nearest_known_key("intervall", &known), Some("interval"));
        assert_eq!(nearest_known_key("tpc", &known), Some("tcp"));
        assert_eq!(nearest_known_key("colour", &known), None);
        assert_eq!(nearest_known_key("x", &[]), None);
    }

    #[test]
    fn distances() {
        for (a, b, expected) in
            [("", "", 0), ("", "ab", 2), ("ab", "", 2), ("ab", "ba", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }
}
