//! Events: those of the past from the history, then those that are applied, without a gap and without a double.
//!
//! The watcher subscribes before it reads the history. The replica hands each event to the history before it tells
//! the watchers, so whatever is in neither has not happened yet; what is in both is told apart by its place.

use std::sync::Arc;

use muster_core::event::Event;
use muster_proto::v1;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Answers, Api};
use crate::handles::Handles;
use crate::storage::history::{self, Query};

/// How many events wait for a slow reader; behind that it falls back on the history.
const EVENTS_AHEAD: usize = 256;
/// How many past events are told when the caller does not say.
const DEFAULT_LIMIT: usize = 1000;
/// The most past events that are told.
const MAX_LIMIT: usize = 100_000;

/// An event's place: its revision, and its number among the events of that revision.
type Place = (u64, u32);

impl Api {
    /// Past events, then, with `follow`, new ones.
    pub(super) fn watch_here(&self, request: v1::WatchRequest) -> Result<Answers<v1::Event>, Status> {
        let place = self.stream_place()?;
        let (out, events) = mpsc::channel(EVENTS_AHEAD);
        let live = self.handles.published.events.subscribe();
        let watcher = Watcher { handles: self.handles.clone(), request, told: None, out: out.clone() };
        let stop = self.stop.clone();
        tokio::spawn(async move {
            let _place = place;
            tokio::select! {
                () = stop.cancelled() => {}
                () = out.closed() => {}
                () = watcher.run(live) => {}
            }
        });
        Ok(Box::pin(ReceiverStream::new(events)))
    }
}

struct Watcher {
    handles: Handles,
    request: v1::WatchRequest,
    /// The place of the last event that was told or passed over.
    told: Option<Place>,
    out: mpsc::Sender<Result<v1::Event, Status>>,
}

/// The reader has gone.
struct Gone;

impl Watcher {
    async fn run(mut self, live: broadcast::Receiver<Arc<Vec<Event>>>) {
        if self.tell_past().await.is_ok() && self.request.follow {
            // It ends when the reader goes.
            let _gone = self.tell_live(live).await;
        }
    }

    async fn tell_past(&mut self) -> Result<(), Gone> {
        let request = &self.request;
        let from_now_on = request.follow && request.since_revision == 0 && request.since_ms.is_none();
        if from_now_on {
            self.told = Some((self.handles.published.state.borrow().revision.0, u32::MAX));
            return Ok(());
        }
        let limit = match usize::try_from(request.limit) {
            Ok(0) => DEFAULT_LIMIT,
            limit => limit.unwrap_or(MAX_LIMIT).min(MAX_LIMIT),
        };
        // The history filters by service only, so that the limit is applied here when a node is named.
        let query = Query {
            after_revision: (request.since_revision > 0).then_some(request.since_revision),
            since_ms: request.since_ms,
            service: request.service.clone(),
            limit: if request.node.is_some() { 0 } else { limit },
        };
        let mut events: Vec<_> =
            self.handles.history.query(query).await.into_iter().filter(|e| self.is_wanted_past(e)).collect();
        let surplus = events.len().saturating_sub(limit);
        for event in events.drain(surplus..) {
            self.tell(past_event(event)).await?;
        }
        Ok(())
    }

    async fn tell_live(&mut self, mut live: broadcast::Receiver<Arc<Vec<Event>>>) -> Result<(), Gone> {
        loop {
            match live.recv().await {
                Ok(batch) => {
                    for (seq, event) in (0u32..).zip(batch.iter()) {
                        let message = muster_wire::event_to_proto(event, seq);
                        if self.is_wanted(&message.node, &message.service) {
                            self.tell(message).await?;
                        }
                    }
                }
                Err(RecvError::Lagged(_)) => self.catch_up().await?,
                Err(RecvError::Closed) => return Ok(()),
            }
        }
    }

    /// This reader was too slow: what it missed is in the history.
    async fn catch_up(&mut self) -> Result<(), Gone> {
        let after_revision = self.told.map(|(revision, _)| revision.saturating_sub(1));
        let query = Query {
            after_revision,
            since_ms: self.request.since_ms,
            service: self.request.service.clone(),
            limit: 0,
        };
        for event in self.handles.history.query(query).await {
            if self.is_wanted_past(&event) {
                self.tell(past_event(event)).await?;
            }
        }
        Ok(())
    }

    /// Tells an event unless it was told before.
    async fn tell(&mut self, event: v1::Event) -> Result<(), Gone> {
        let place = (event.revision, event.seq);
        if self.told.is_some_and(|told| place <= told) {
            return Ok(());
        }
        self.told = Some(place);
        self.out.send(Ok(event)).await.map_err(|_| Gone)
    }

    fn is_wanted_past(&self, event: &history::Event) -> bool {
        self.is_wanted(event.node.as_deref().unwrap_or(""), event.service.as_deref().unwrap_or(""))
    }

    fn is_wanted(&self, node: &str, service: &str) -> bool {
        self.request.node.as_deref().is_none_or(|wanted| wanted == node)
            && self.request.service.as_deref().is_none_or(|wanted| wanted == service)
    }
}

/// An event as the history keeps it.
fn past_event(event: history::Event) -> v1::Event {
    let detail = |key: &str| event.detail.get(key).and_then(|v| v.as_str()).unwrap_or("").to_owned();
    v1::Event {
        revision: event.revision,
        time_ms: event.time_ms,
        instance: detail("instance"),
        message: detail("message"),
        kind: event.kind,
        node: event.node.unwrap_or_default(),
        service: event.service.unwrap_or_default(),
        seq: event.sequence,
    }
}
