//! Streams: events that resume where they broke off, and the output of tasks.

use muster_proto::v1 as pb;
use muster_wire::{LogPositions, TAIL_LINES};
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

/// The output of tasks; who follows goes on at another agent when the connection is lost.
pub struct LogStream {
    request: pb::LogsRequest,
    stream: Streaming<pb::LogLine>,
    told: LogPositions,
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
        let stream = self.open_logs(&request).await?;
        Ok(LogStream { request, stream, told: LogPositions::default() })
    }

    async fn open_logs(&mut self, request: &pb::LogsRequest) -> Result<Streaming<pb::LogLine>, Failure> {
        self.call(request.clone(), |mut grpc, mut request| async move {
            request.metadata_mut().remove("grpc-timeout");
            grpc.logs(request).await
        })
        .await
    }

    /// Whoever is asked next is another agent, with the whole time limit anew.
    async fn turn_to_the_next(&mut self) {
        self.connected = None;
        self.next = (self.next + 1) % self.endpoints.len();
        self.set_limit(self.limit);
        sleep(PAUSE_LONGEST).await;
    }
}

impl LogStream {
    /// The next line; none when the stream is over.
    ///
    /// # Errors
    /// What the agent says, or that the connection was lost.
    pub async fn next(&mut self, client: &mut Client) -> Result<Option<pb::LogLine>, Failure> {
        loop {
            match self.stream.message().await {
                Ok(Some(line)) => {
                    self.told.record(&line);
                    return Ok(Some(line));
                }
                Ok(None) => return Ok(None),
                Err(status) if self.request.follow && is_broken_off(&status) => self.resume(client).await?,
                Err(status) if !is_transport(&status) => return Err(told(&status)),
                Err(status) => {
                    let hint = "ask again".to_owned();
                    let message = format!("the connection to the agent was lost: {}", innermost(&status));
                    return Err(Failure::Ended { message, hint: Some(hint) });
                }
            }
        }
    }

    async fn resume(&mut self, client: &mut Client) -> Result<(), Failure> {
        self.request.after = self.told.to_proto();
        self.request.tail = self.request.tail.max(TAIL_LINES);
        client.turn_to_the_next().await;
        self.stream = client.open_logs(&self.request).await?;
        Ok(())
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
                Err(status) if is_broken_off(&status) => self.resume(client).await?,
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
        client.turn_to_the_next().await;
        self.stream = client.open_watch(&self.request).await?;
        Ok(())
    }
}

/// Whether another agent may be able to go on.
fn is_broken_off(status: &tonic::Status) -> bool {
    is_transport(status) || told(status).is_unanswered()
}
