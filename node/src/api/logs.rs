//! Output of tasks, fetched from the hosts that run them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt;
use muster_core::id::{NodeId, ServiceName, SlotId, TaskName};
use muster_core::refusal::Refusal;
use muster_core::state::State;
use muster_proto::v1;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};

use super::status::ApiError;
use super::{Answers, Api, convert};
use crate::agent::logs::LogQuery;
use crate::handles::Handles;

/// How many lines wait for a slow reader.
const LINES_AHEAD: usize = 256;
/// How many last lines of each task are told when the caller does not say.
const DEFAULT_TAIL: u32 = 100;
/// How long another agent may take to begin.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);

type Lines = mpsc::Sender<Result<v1::LogLine, Status>>;

impl Api {
    /// The logs of a service's instances, from all hosts that have or had them last, merged as they come.
    pub(super) fn logs_here(&self, request: v1::LogsRequest) -> Result<Answers<v1::LogLine>, Status> {
        let place = self.stream_place()?;
        let state = self.state();
        let service = convert::service_name(&request.service)?;
        if !state.services.contains_key(&service) {
            return Err(ApiError::from(Refusal::NoSuchService(service)).into());
        }
        let task = if request.task.is_empty() {
            None
        } else {
            Some(TaskName::new(&request.task).map_err(|error| ApiError::Invalid(error.to_string()))?)
        };
        let slots = slots_by_node(&state, &service, request.index);
        if let (Some(index), true) = (request.index, slots.is_empty()) {
            return Err(ApiError::from(Refusal::NoSuchInstance(SlotId { service, index })).into());
        }
        let (out, lines) = mpsc::channel(LINES_AHEAD);
        let reader = Reader { handles: self.handles.clone(), request, task, out: out.clone() };
        let stop = self.stop.clone();
        tokio::spawn(async move {
            let _place = place;
            tokio::select! {
                () = stop.cancelled() => {}
                () = out.closed() => {}
                () = reader.run(&state, slots) => {}
            }
        });
        Ok(Box::pin(ReceiverStream::new(lines)))
    }
}

/// Which nodes to ask for which instances: where they are now, and where they failed last.
fn slots_by_node(
    state: &State,
    service: &ServiceName,
    index: Option<u64>,
) -> BTreeMap<NodeId, BTreeSet<SlotId>> {
    let mut nodes: BTreeMap<NodeId, BTreeSet<SlotId>> = BTreeMap::new();
    for (id, slot) in state.slots_of(service).filter(|(id, _)| index.is_none_or(|wanted| wanted == id.index))
    {
        let placed = slot.placements.iter().map(|p| p.node);
        let failed = slot.failures.iter().map(|f| f.node).filter(|_| slot.placements.is_empty());
        for node in placed.chain(failed) {
            nodes.entry(node).or_default().insert(id.clone());
        }
    }
    nodes
}

#[derive(Clone)]
struct Reader {
    handles: Handles,
    request: v1::LogsRequest,
    task: Option<TaskName>,
    out: Lines,
}

impl Reader {
    async fn run(self, state: &State, slots: BTreeMap<NodeId, BTreeSet<SlotId>>) {
        let me = self.handles.me;
        let mut sources = JoinSet::new();
        for (node, slots) in slots {
            if node == me {
                for slot in slots {
                    sources.spawn(self.clone().read_here(slot));
                }
            } else if !self.request.local_only {
                let name = state.name_of(node);
                sources.spawn(self.clone().read_there(node, name));
            }
        }
        let mut failed = Vec::new();
        while let Some(ended) = sources.join_next().await {
            // A source that panicked has ended the process.
            if let Ok(Err(error)) = ended {
                failed.push(error);
            }
        }
        // What the other hosts had has been told; only now is it said which could not be asked.
        if let Some(error) = failed.into_iter().next() {
            let _gone = self.out.send(Err(error.into())).await;
        }
    }

    async fn read_here(self, slot: SlotId) -> Result<(), ApiError> {
        let tail = if self.request.tail == 0 { DEFAULT_TAIL } else { self.request.tail };
        let query = LogQuery {
            slot: slot.clone(),
            task: self.task.clone(),
            tail: usize::try_from(tail).ok(),
            follow: self.request.follow,
        };
        let mut lines = std::pin::pin!(self.handles.agent.read_logs(query));
        while let Some(line) = lines.next().await {
            let line = line.map_err(|error| {
                ApiError::Internal(format!(
                    "the logs of {slot} on {} can't be read: {error}",
                    self.handles.name
                ))
            })?;
            let message = v1::LogLine {
                node: self.handles.name.to_string(),
                instance: slot.to_string(),
                task: line.task.to_string(),
                line: line.line.into_bytes().into(),
            };
            if self.out.send(Ok(message)).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    async fn read_there(self, node: NodeId, name: String) -> Result<(), ApiError> {
        let unreachable = |why: &str| ApiError::Unreachable { node: name.clone(), why: why.to_owned() };
        let mut client = self.handles.peers.cluster(node).map_err(|e| unreachable(&e.to_string()))?;
        let request = Request::new(v1::LogsRequest { local_only: true, ..self.request.clone() });
        let mut lines = match tokio::time::timeout(ASK_TIMEOUT, client.logs(request)).await {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => return Err(unreachable(status.message())),
            Err(_) => return Err(unreachable("no answer")),
        };
        loop {
            match lines.message().await {
                Ok(Some(line)) => {
                    if self.out.send(Ok(line)).await.is_err() {
                        return Ok(());
                    }
                }
                Ok(None) => return Ok(()),
                Err(status) => return Err(unreachable(status.message())),
            }
        }
    }
}
