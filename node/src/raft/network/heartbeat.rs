//! Heartbeats to one peer: a stream that stays open, with one request under way at a time. openraft asks for
//! a new stream at every heartbeat; opening one each time would be most of an idle agent's work.

use futures::{Stream, StreamExt};
use muster_proto::v1;
use openraft::base::BoxStream;
use openraft::errors::RPCError;
use openraft::network::{RPCOption, RPCTypes};
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::Client;
use crate::raft::types::TypeConfig;
use crate::raft::wire;

type Answer = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

/// One request is under way at a time.
const REQUESTS_QUEUED: usize = 1;

/// The open stream.
pub(super) struct Line {
    number: usize,
    requests: mpsc::Sender<v1::AppendRequest>,
    answers: Streaming<v1::AppendResponse>,
}

/// Sends the only request of `input` and returns its answer as a stream.
pub(super) async fn beat<'s, S>(
    client: &mut Client,
    mut input: S,
    option: RPCOption,
) -> Result<BoxStream<'s, Answer>, RPCError<TypeConfig>>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin,
{
    let Some(request) = input.next().await else { return Ok(Box::pin(futures::stream::empty())) };
    let message = wire::append_to_wire(request);
    let limit = option.soft_ttl();
    // Taken out for the time of the call: when openraft gives the call up, the line goes with it, and no late
    // answer is taken for that of a later heartbeat.
    let kept = client.line.take().filter(|line| client.link.is_current(line.number));
    let (line, response) = match kept {
        Some(line) => {
            let number = line.number;
            match client.within(limit, RPCTypes::AppendEntries, number, exchange(line, message.clone())).await
            {
                // The peer may have been restarted since the last heartbeat.
                Err(RPCError::Unreachable(_)) => fresh(client, message, &option).await?,
                other => other?,
            }
        }
        None => fresh(client, message, &option).await?,
    };
    let outcome = wire::append_outcome_from_wire(response).map_err(|error| client.malformed(&error));
    // The peer ends the stream after an answer that is not a success.
    if matches!(outcome, Ok(Ok(_))) {
        client.line = Some(line);
    }
    Ok(Box::pin(futures::stream::once(std::future::ready(outcome))))
}

/// The same on a new stream.
async fn fresh(
    client: &Client,
    message: v1::AppendRequest,
    option: &RPCOption,
) -> Result<(Line, v1::AppendResponse), RPCError<TypeConfig>> {
    let (number, mut rpc) = client.client()?;
    let call = async {
        let (requests, queue) = mpsc::channel(REQUESTS_QUEUED);
        let answers = rpc.append(client.request(ReceiverStream::new(queue))).await?.into_inner();
        exchange(Line { number, requests, answers }, message).await
    };
    client.within(option.soft_ttl(), RPCTypes::AppendEntries, number, call).await
}

async fn exchange(mut line: Line, message: v1::AppendRequest) -> Result<(Line, v1::AppendResponse), Status> {
    let ended = || Status::unavailable("the stream has ended");
    line.requests.send(message).await.map_err(|_| ended())?;
    let response = line.answers.message().await?.ok_or_else(ended)?;
    Ok((line, response))
}
