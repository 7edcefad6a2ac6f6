//! Streams: events that resume where they broke off, and the output of tasks.

use muster_proto::v1 as pb;
use tokio::time::sleep;
use tonic::Streaming;

use super::{Client, PAUSE_LONGEST, innermost, is_transport, told};
use crate::failure::Failure;

/// Events, resumed at another agent when the connection is lost.
pub struct EventStream {
    request: pb::WatchRequest,
    stream: Streaming<pb::Event>,
    /// Revision and place of the last event that was handed out.
    last: Option<(u64, u32)>,
}

/// The output of tasks.
pub struct LogStream {
    stream: Streaming<pb::LogLine>,
}

impl Client {
    /// Opens a stream of events.
    ///
    /// # Errors
    /// As of any call.
    pub async fn watch(&mut self, request: pb::WatchRequest) -> Result<EventStream, Failure> {
        let stream = self.open_watch(&request).await?;
        Ok(EventStream { request, stream, last: None })
    }

    async fn open_watch(&mut self, request: &pb::WatchRequest) -> Result<Streaming<pb::Event>, Failure> {
        self.call(request.clone(), |mut grpc, mut request| async move {
            // A stream lives longer than the time limit of its opening.
            request.metadata_mut().remove("grpc-timeout");
            grpc.watch(request).await
        })
        .await
    }

    /// Opens a stream of the output of tasks.
    ///
    /// # Errors
    /// As of any call.
    pub async fn logs(&mut self, request: pb::LogsRequest) -> Result<LogStream, Failure> {
        let stream = self.call(request, |mut grpc, mut request| async move {
            request.metadata_mut().remove("grpc-timeout");
            grpc.logs(request).await
        });
        Ok(LogStream { stream: stream.await? })
    }
}

impl LogStream {
    /// The next line; none when the stream is over.
    ///
    /// # Errors
    /// What the agent says, or that the connection was lost.
    pub async fn next(&mut self) -> Result<Option<pb::LogLine>, Failure> {
        self.stream.message().await.map_err(|status| {
            if is_transport(&status) {
                let hint = "the output goes on; ask again".to_owned();
                let message = format!("the connection to the agent was lost: {}", innermost(&status));
                Failure::Ended { message, hint: Some(hint) }
            } else {
                told(&status)
            }
        })
    }
}

impl EventStream {
    /// The next event; none when the stream is over.
    ///
    /// # Errors
    /// What the agent says, or that no agent could be reached again within the time limit.
    pub async fn next(&mut self, client: &mut Client) -> Result<Option<pb::Event>, Failure> {
        loop {
            match self.stream.message().await {
                Ok(Some(event)) => {
                    let at = (event.revision, event.seq);
                    // After a resumption the last revision comes again as a whole.
                    if self.last.is_some_and(|last| at <= last) {
                        continue;
                    }
                    self.last = Some(at);
                    return Ok(Some(event));
                }
                Ok(None) if !self.request.follow => return Ok(None),
                Ok(None) => self.resume(client).await?,
                Err(status) if is_transport(&status) || told(&status).is_unanswered() => {
                    self.resume(client).await?;
                }
                Err(status) => return Err(told(&status)),
            }
        }
    }

    async fn resume(&mut self, client: &mut Client) -> Result<(), Failure> {
        if let Some((revision, _)) = self.last {
            // The last revision once more: the stream may have broken off amid its events. Revision 0 would
            // mean 'from now on'.
            self.request.since_revision = revision.saturating_sub(1);
            self.request.since_ms = (self.request.since_revision == 0).then_some(0);
            self.request.limit = 0;
        }
        client.connected = None;
        client.next = (client.next + 1) % client.endpoints.len();
        client.set_limit(client.limit);
        sleep(PAUSE_LONGEST).await;
        self.stream = client.open_watch(&self.request).await?;
        Ok(())
    }
}
