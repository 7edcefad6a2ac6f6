//! Sending a snapshot to a peer that is too far behind for the log.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use muster_proto::v1;
use muster_proto::v1::snapshot_part::Part;
use openraft::errors::{NetworkError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{RPCOption, RPCTypes};
use openraft::raft::SnapshotResponse;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Client;
use crate::blocking;
use crate::raft::types::{TypeConfig, Vote};
use crate::raft::wire;
use crate::storage::snapshot::SnapshotFile;

/// How much of the file a message carries: small enough to let other messages pass in between.
const PART_BYTES: usize = 256 << 10;
/// How many messages wait for the network; the file is read no faster than it is sent.
const PARTS_QUEUED: usize = 4;

/// Streams the file. Gives up when the peer takes nothing more for the option's time.
pub(super) async fn send(
    client: &Client,
    vote: Vote,
    file: Arc<SnapshotFile>,
    cancel: impl Future<Output = ReplicationClosed>,
    option: RPCOption,
) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
    let (number, mut rpc) = client.client()?;
    let progress = Arc::new(AtomicU64::new(0));
    let (parts, queue) = mpsc::channel(PARTS_QUEUED);
    let reader = tokio::spawn(read_parts(vote, file, parts, Arc::clone(&progress)));
    let call = rpc.install_snapshot(client.request(ReceiverStream::new(queue)));
    let stalled = async {
        let mut seen = u64::MAX;
        loop {
            let now = progress.load(Ordering::Relaxed);
            if now == seen {
                return;
            }
            seen = now;
            tokio::time::sleep(option.soft_ttl()).await;
        }
    };
    let outcome = tokio::select! {
        response = call => match response {
            Ok(response) => response
                .into_inner()
                .vote
                .map(|vote| SnapshotResponse::new(wire::vote_from_wire(vote)))
                .ok_or_else(|| StreamingError::Network(NetworkError::from_string("the answer has no vote"))),
            Err(status) => Err(StreamingError::Unreachable(client.refused(&status))),
        },
        closed = cancel => Err(StreamingError::Closed(closed)),
        () = stalled => Err(StreamingError::Timeout(Timeout {
            action: RPCTypes::InstallSnapshot,
            id: client.id,
            target: client.target,
            timeout: option.soft_ttl(),
        })),
    };
    if outcome.is_err() {
        client.link.failed(number);
    }
    // The queue is closed by now, so the reader is at its end, or fails at its next part.
    match reader.await {
        Ok(Ok(())) => outcome,
        // The file's own trouble explains the peer's answer, not the other way round.
        Ok(Err(error)) => Err(StreamingError::Unreachable(Unreachable::from_string(format!(
            "the snapshot cannot be read: {error}"
        )))),
        Err(panic) => Err(StreamingError::Unreachable(Unreachable::from_string(panic))),
    }
}

/// Reads the file part by part. No thread is held while the peer takes its time.
async fn read_parts(
    vote: Vote,
    file: Arc<SnapshotFile>,
    parts: mpsc::Sender<v1::SnapshotPart>,
    progress: Arc<AtomicU64>,
) -> io::Result<()> {
    let opening =
        v1::SnapshotOpening { vote: Some(wire::vote_to_wire(&vote)), size_bytes: file.size_bytes() };
    let mut next = Some(Part::Opening(opening));
    let mut offset = 0;
    while let Some(part) = next.take() {
        if parts.send(v1::SnapshotPart { part: Some(part) }).await.is_err() {
            // The call has ended; it knows why.
            return Ok(());
        }
        progress.fetch_add(1, Ordering::Relaxed);
        let from = Arc::clone(&file);
        let data =
            blocking::run(move || from.read_part(offset, PART_BYTES)).await.map_err(io::Error::other)??;
        offset += data.len() as u64;
        next = (!data.is_empty()).then_some(Part::Data(data));
    }
    Ok(())
}
