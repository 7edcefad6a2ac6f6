//! Why bytes or a message could not be understood, and the small steps that every conversion is made of.

use std::time::Duration;

use bytes::Bytes;
use muster_core::id::{NameError, NodeName, SecretName, ServiceName, TaskName, UserName};

/// Why a message could not be understood.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are no message of this kind.
    #[error("the bytes are not a valid {message}")]
    Malformed {
        /// Which message was expected.
        message: &'static str,
        /// What protobuf says.
        source: prost::DecodeError,
    },
    /// The entry holds a command that this version does not know. The agent stops: skipping it would make its
    /// state differ from the others'.
    #[error("the log holds a command that this version of Muster does not know; upgrade this agent")]
    UnknownCommand,
    /// A field that must be there is missing.
    #[error("{field} is missing")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// A name is not legal.
    #[error("{field} is not legal")]
    Name {
        /// The field.
        field: &'static str,
        /// Why.
        source: NameError,
    },
    /// An enumeration's value is not known to this version.
    #[error("{field} has the value {value}, which this version of Muster does not know")]
    UnknownValue {
        /// The field.
        field: &'static str,
        /// The value.
        value: i64,
    },
    /// A field of fixed size has another size.
    #[error("{field} has {actual} bytes instead of {expected}")]
    Length {
        /// The field.
        field: &'static str,
        /// How many bytes it must have.
        expected: usize,
        /// How many it has.
        actual: usize,
    },
}

/// The value of a field that must be there.
pub(crate) fn required<T>(value: Option<T>, field: &'static str) -> Result<T, DecodeError> {
    value.ok_or(DecodeError::Missing { field })
}

/// A known value of an enumeration.
pub(crate) fn known<E: TryFrom<i32>>(value: i32, field: &'static str) -> Result<E, DecodeError> {
    E::try_from(value).map_err(|_| DecodeError::UnknownValue { field, value: i64::from(value) })
}

/// Bytes of a fixed size.
pub(crate) fn fixed<const N: usize>(bytes: &Bytes, field: &'static str) -> Result<[u8; N], DecodeError> {
    bytes.as_ref().try_into().map_err(|_| DecodeError::Length { field, expected: N, actual: bytes.len() })
}

pub(crate) fn service_name(name: &str, field: &'static str) -> Result<ServiceName, DecodeError> {
    ServiceName::new(name).map_err(|source| DecodeError::Name { field, source })
}

pub(crate) fn service_names(names: &[String], field: &'static str) -> Result<Vec<ServiceName>, DecodeError> {
    names.iter().map(|name| service_name(name, field)).collect()
}

pub(crate) fn node_name(name: &str, field: &'static str) -> Result<NodeName, DecodeError> {
    NodeName::new(name).map_err(|source| DecodeError::Name { field, source })
}

pub(crate) fn user_name(name: &str, field: &'static str) -> Result<UserName, DecodeError> {
    UserName::new(name).map_err(|source| DecodeError::Name { field, source })
}

pub(crate) fn secret_name(name: &str, field: &'static str) -> Result<SecretName, DecodeError> {
    SecretName::new(name).map_err(|source| DecodeError::Name { field, source })
}

pub(crate) fn task_name(name: &str, field: &'static str) -> Result<TaskName, DecodeError> {
    TaskName::new(name).map_err(|source| DecodeError::Name { field, source })
}

/// Whole milliseconds; what no declaration can reach saturates.
pub(crate) fn to_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
