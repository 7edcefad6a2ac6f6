//! The wire format of Muster: code generated from `muster/v1/*.proto`, no logic.

#![forbid(unsafe_code)]

/// Protobuf package `muster.v1`: messages, clients and servers.
#[expect(missing_docs, reason = "generated code; the .proto files carry the comments")]
#[allow(clippy::all, clippy::pedantic, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("muster.v1");
}
