//! What is written to.

use muster_proto::v1;
use muster_proto::v1::cluster_client::ClusterClient;
use tonic::Status;
use tonic::transport::Channel;

use super::{SERVICE, VALUE_BYTES};

/// A service holds at most 64 annotations: clients share keys, as they would when they report the same thing.
const KEYS: usize = 16;

/// Takes writes from one client.
pub(super) trait Target: Send + 'static {
    /// Writes a value that is different for every `number`, and waits until it is acknowledged.
    fn write(&mut self, client: usize, number: u64) -> impl Future<Output = Result<(), Status>> + Send;
}

/// The value of a write.
pub(super) fn value(number: u64) -> String {
    format!("{number:0>VALUE_BYTES$}")
}

/// Muster: an annotation of a service.
pub(super) struct Annotate(ClusterClient<Channel>);

impl Annotate {
    pub(super) fn new(channel: Channel) -> Self {
        Self(ClusterClient::new(channel))
    }
}

impl Target for Annotate {
    async fn write(&mut self, client: usize, number: u64) -> Result<(), Status> {
        let request = v1::AnnotateRequest {
            request: None,
            service: SERVICE.to_owned(),
            key: format!("k{}", client % KEYS),
            value: Some(value(number)),
        };
        self.0.annotate(request).await.map(|_| ())
    }
}
