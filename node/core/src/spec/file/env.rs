//! The value of an environment variable in a file: a text, or the name of a secret.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer};
use serde::{Serialize, Serializer};

use super::table::table;
use crate::id::SecretName;

table!(
    /// `{ secret = "NAME" }`.
    SecretEntry, "variable of env" {
        /// Must be there.
        secret: Option<SecretName>,
    }
);

/// One value of `env`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvEntry {
    /// It stands in the file.
    Text(String),
    /// It stands nowhere.
    Secret(SecretEntry),
}

impl Serialize for EnvEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Secret(secret) => secret.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for EnvEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value;
        impl<'de> de::Visitor<'de> for Value {
            type Value = EnvEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or { secret = \"NAME\" }")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<EnvEntry, E> {
                Ok(EnvEntry::Text(text.to_owned()))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<EnvEntry, A::Error> {
                SecretEntry::deserialize(MapAccessDeserializer::new(map)).map(EnvEntry::Secret)
            }
        }
        deserializer.deserialize_any(Value)
    }
}
