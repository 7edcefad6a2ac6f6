//! Replication to one peer: one gRPC stream carries requests one way and their answers the other, so that
//! the next batch is under way while the peer still syncs the last one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{Stream, StreamExt};
use muster_proto::v1;
use openraft::OptionalSend;
use openraft::base::BoxStream;
use openraft::errors::{RPCError, Timeout};
use openraft::network::{RPCOption, RPCTypes};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, StreamAppendResult};
use tokio::sync::Notify;
use tonic::Streaming;

use super::Client;
use crate::raft::types::TypeConfig;
use crate::raft::wire;

type Answer = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

/// Counts the requests that wait for their answers.
#[derive(Default)]
struct InFlight {
    count: AtomicU64,
    first: Notify,
}

impl InFlight {
    fn sent(&self) {
        if self.count.fetch_add(1, Ordering::AcqRel) == 0 {
            self.first.notify_one();
        }
    }

    fn answered(&self) {
        // An answer without a request would be the peer's error; the count must not wrap on it.
        let fewer = |count: u64| Some(count.saturating_sub(1));
        let _previous = self.count.fetch_update(Ordering::AcqRel, Ordering::Acquire, fewer);
    }
}

/// Opens the stream and passes the requests on.
pub(super) async fn stream<'s, S>(
    client: &'s Client,
    input: S,
    option: RPCOption,
) -> Result<BoxStream<'s, Answer>, RPCError<TypeConfig>>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
{
    let (number, mut rpc) = client.client()?;
    let in_flight = Arc::new(InFlight::default());
    let counted = Arc::clone(&in_flight);
    let requests = input.map(move |request| {
        counted.sent();
        wire::append_to_wire(request)
    });
    let opening = rpc.append(client.request(requests));
    match client.within(option.soft_ttl(), RPCTypes::AppendEntries, number, opening).await {
        Ok(response) => {
            let answers = Answers { client, number, in_flight, incoming: response.into_inner() };
            let answers = futures::stream::unfold(Some(answers), |answers| async move {
                let mut answers = answers?;
                let answer = answers.next().await?;
                // openraft ends the session at the first answer that is not a success.
                let rest = matches!(answer, Ok(Ok(_))).then_some(answers);
                Some((answer, rest))
            });
            Ok(Box::pin(answers))
        }
        Err(error) => {
            // openraft tries again at once.
            tokio::time::sleep(client.reconnect_pause).await;
            Err(error)
        }
    }
}

/// One request without a stream of its own.
pub(super) async fn once(
    client: &Client,
    request: AppendEntriesRequest<TypeConfig>,
    option: RPCOption,
) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
    let limit = option.soft_ttl();
    let timeout = || {
        let (id, target) = (client.id, client.target);
        RPCError::Timeout(Timeout { action: RPCTypes::AppendEntries, id, target, timeout: limit })
    };
    let mut answers = stream(client, futures::stream::iter([request]), option).await?;
    match tokio::time::timeout(limit, answers.next()).await {
        Ok(Some(answer)) => answer.map(AppendEntriesResponse::from),
        Ok(None) | Err(_) => Err(timeout()),
    }
}

/// The answers of a peer, in the order of the requests.
struct Answers<'s> {
    client: &'s Client,
    number: usize,
    in_flight: Arc<InFlight>,
    incoming: Streaming<v1::AppendResponse>,
}

impl Answers<'_> {
    async fn next(&mut self) -> Option<Answer> {
        let message = loop {
            if self.in_flight.count.load(Ordering::Acquire) > 0 {
                // The option's limit is meant for a round trip; a busy disk takes longer to sync, and
                // tearing the stream down at each such pause would stall replication for good.
                break match tokio::time::timeout(self.client.append_patience, self.incoming.message()).await {
                    Ok(message) => message,
                    Err(_) => return Some(Err(self.timed_out(self.client.append_patience))),
                };
            }
            // Nothing is due, so no timer runs: an idle stream costs nothing.
            tokio::select! {
                message = self.incoming.message() => break message,
                () = self.in_flight.first.notified() => {}
            }
        };
        match message {
            Ok(Some(response)) => {
                self.in_flight.answered();
                let outcome = wire::append_outcome_from_wire(response);
                Some(outcome.map_err(|error| self.client.malformed(&error)))
            }
            Ok(None) => None,
            Err(status) => {
                self.client.link.failed(self.number);
                Some(Err(RPCError::Unreachable(self.client.refused(&status))))
            }
        }
    }

    fn timed_out(&self, limit: Duration) -> RPCError<TypeConfig> {
        self.client.link.failed(self.number);
        let (id, target) = (self.client.id, self.client.target);
        RPCError::Timeout(Timeout { action: RPCTypes::AppendEntries, id, target, timeout: limit })
    }
}
