//! A cluster of real agents and guards, each host a network namespace, and what can befall it.
//!
//! ```text
//!   test process ── threads that enter a namespace ──▶ switch namespace (bridge; the operator's and clients' place)
//!                                                        │ veth     │ veth     │ veth
//!                                                      host n1    host n2    host n3     each: agent, guard, tasks
//! ```
//! Safety is judged from outside, by stamps of the services and answers of servers, never by what Muster says.
//! Only processes inside namespaces that this harness made are ever signalled; all of them end with the test, also
//! with one that is killed (`machine`).

pub mod api;
pub mod binaries;
pub mod client;
pub mod cluster;
pub mod control_group;
pub mod disk;
pub mod error;
pub mod host;
pub mod machine;
pub mod metronome;
pub mod network;
pub mod operator;
pub mod processes;
pub mod relay;
pub mod stamps;
pub mod sweep;
pub mod tool;
pub mod trust;
pub mod wait;

pub use api::Api;
pub use cluster::Cluster;
pub use error::HarnessError;
pub use host::Host;
pub use metronome::Metronome;
pub use network::Network;
pub use stamps::Stamps;
pub use trust::Operator;
