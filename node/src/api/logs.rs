//! Output of tasks, fetched from the hosts that run them.
//!
//! Whoever follows hears all hosts from the beginning, so that nothing of an instance that moves is missed: each host
//! tells the past only of what is placed there, and from then on whatever is written. A host whose agent was away is gone
//! on with behind the last line that was told of each task.
//!
//! Where to ask is read from this node's copy of the state, once that is as new as the leader's; without a leader, from
//! what it has: output can be read as long as its host answers.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use muster_core::id::{NodeId, Revision, ServiceName, SlotId, TaskName};
use muster_core::refusal::Refusal;
use muster_core::state::State;
use muster_core::state::slot::Slot;
use muster_proto::v1;
use muster_wire::{LogPositions, TAIL_LINES};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};

use super::caller::Caller;
use super::route::{Answer, Client, Kind};
use super::status::{ApiError, is_without_leader};
use super::{Answers, Api, convert};
use crate::agent::logs::{LogQuery, Past, Position};
use crate::handles::Handles;

/// How many lines wait for a slow reader.
const LINES_AHEAD: usize = 256;
/// How long another agent may take to begin, and the leader to answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);
/// How long this node may take to apply what the leader has: one that has just started needs a heartbeat or two.
const APPLY_TIMEOUT: Duration = Duration::from_secs(1);
/// A host that could not be followed is tried again this often.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// What a service wrote last is on its way for so long when it is forgotten already.
const LAST_WORDS: Duration = Duration::from_millis(500);

type Lines = mpsc::Sender<Result<v1::LogLine, Status>>;

impl Api {
    /// The logs of a service's instances, from all hosts that have or had them last, merged as they come.
    pub(super) async fn logs_here(
        &self,
        caller: &Caller,
        mut request: v1::LogsRequest,
    ) -> Result<Answers<v1::LogLine>, Status> {
        let place = self.stream_place()?;
        let service = convert::service_name(&request.service)?;
        if !request.local_only {
            request.revision = self.learn_of(caller, &service).await?;
        } else if !self.has_applied(request.revision).await {
            tracing::info!(%service, "this node is behind: its logs are read as far as it knows of them");
        }
        let state = self.state();
        if !state.services.contains_key(&service) {
            return Err(ApiError::from(Refusal::NoSuchService(service)).into());
        }
        let task = if request.task.is_empty() {
            None
        } else {
            Some(TaskName::new(&request.task).map_err(|error| ApiError::Invalid(error.to_string()))?)
        };
        if let Some(index) = request.index {
            let slot = SlotId { service: service.clone(), index };
            // A stopped service has no slots, but logs.
            let is_unknown = !state.slots.contains_key(&slot) && state.slots_of(&service).next().is_some();
            if is_unknown && !request.all_hosts && !request.local_only {
                return Err(ApiError::from(Refusal::NoSuchInstance(slot)).into());
            }
        }
        let (out, lines) = mpsc::channel(LINES_AHEAD);
        let states = self.handles.published.state.clone();
        let reader = Reader::new(self.handles.clone(), request, (service, task), out.clone());
        let (stop, stopping) = (self.stop.clone(), reader.clone());
        tokio::spawn(async move {
            let _place = place;
            tokio::select! {
                () = stop.cancelled() => stopping.stops().await,
                () = out.closed() => {}
                () = reader.run(states) => {}
            }
        });
        Ok(Box::pin(ReceiverStream::new(lines)))
    }

    /// Waits until this node's state holds what the leader knows of the service, and says which revision that is. Without a
    /// leader, or far behind it, what is known here of the service must do.
    async fn learn_of(&self, caller: &Caller, service: &ServiceName) -> Result<u64, Status> {
        let caller = Caller { timeout: caller.timeout.min(ASK_TIMEOUT), ..caller.clone() };
        let asked = v1::ListServicesRequest { names: vec![service.to_string()], stale: false };
        let call = |mut c: Client, r| async move { c.list_services(r).await };
        let (obstacle, revision) =
            match self.at_leader(&caller, Kind::Read { stale: false }, &asked, call).await {
                Ok(Answer::Here(state)) => return Ok(state.revision.0),
                Ok(Answer::There(reply)) => {
                    let revision = reply.into_inner().revision;
                    if self.has_applied(revision).await {
                        return Ok(revision);
                    }
                    let behind =
                        ApiError::TimedOut(format!("{} to catch up with the leader", self.handles.name));
                    (Status::from(behind), revision)
                }
                Err(status) if is_without_leader(&status) => (status, 0),
                Err(status) => return Err(status),
            };
        if !self.state().services.contains_key(service) {
            return Err(obstacle);
        }
        tracing::info!(%service, why = %obstacle.message(), "its logs are read from where it is known to be");
        Ok(revision)
    }

    /// Waits until this node has applied a revision; whether it has in time.
    async fn has_applied(&self, revision: u64) -> bool {
        until_applied(&mut self.handles.published.state.clone(), Revision(revision)).await
    }
}

async fn until_applied(states: &mut watch::Receiver<Arc<State>>, revision: Revision) -> bool {
    let applied = states.wait_for(|state| state.revision >= revision);
    matches!(tokio::time::timeout(APPLY_TIMEOUT, applied).await, Ok(Ok(_)))
}

/// Where a service's output may be.
struct Hosts {
    /// Where its instances are now, and where those without a place failed last.
    placed: BTreeSet<NodeId>,
    /// Where others may have been: whoever can be asked, which is this host, and those with a session.
    askable: BTreeSet<NodeId>,
}

impl Hosts {
    fn of(state: &State, me: NodeId, service: &ServiceName, index: Option<u64>) -> Self {
        let mut placed = BTreeSet::new();
        for (id, slot) in state.slots_of(service) {
            if index.is_some_and(|wanted| wanted != id.index) {
                continue;
            }
            placed.extend(slot.placements.iter().map(|p| p.node));
            placed.extend(slot.failures.iter().map(|f| f.node).filter(|_| slot.placements.is_empty()));
        }
        let askable = state.sessions.values().map(|session| session.node).chain([me]).collect();
        Self { placed, askable }
    }
}

#[derive(Clone)]
struct Reader {
    handles: Handles,
    request: v1::LogsRequest,
    service: ServiceName,
    task: Option<TaskName>,
    out: Lines,
    told: Arc<Mutex<LogPositions>>,
}

/// How reading from one host ended.
type Ended = (NodeId, Result<(), ApiError>);

impl Reader {
    fn new(
        handles: Handles,
        request: v1::LogsRequest,
        (service, task): (ServiceName, Option<TaskName>),
        out: Lines,
    ) -> Self {
        let told = Arc::new(Mutex::new(LogPositions::from(request.after.as_slice())));
        Self { handles, request, service, task, out, told }
    }

    async fn run(mut self, mut states: watch::Receiver<Arc<State>>) {
        // Of a stopped service there is nothing but its past. This is not asked again: who follows is not told amid a
        // failover, when nothing is placed, what was written long ago.
        let begins = self.request.after.is_empty() && !self.request.local_only;
        let state = states.borrow().clone();
        let Hosts { placed, .. } = Hosts::of(&state, self.handles.me, &self.service, self.request.index);
        self.request.all_hosts |= begins && placed.is_empty();
        if self.request.follow { self.follow(&mut states).await } else { self.read(&state).await }
    }

    /// Reads what there is.
    async fn read(self, state: &State) {
        let mut sources = JoinSet::new();
        for node in self.wanted(state) {
            self.begin(&mut sources, node, state);
        }
        let mut failed = None;
        while let Some(ended) = sources.join_next().await {
            // A source that panicked has ended the process.
            failed = failed.or(ended.ok().and_then(|(_, result)| result.err()));
        }
        // What the other hosts had has been told; only now is it said which could not be asked.
        if let Some(error) = failed {
            let _gone = self.out.send(Err(error.into())).await;
        }
    }

    /// Goes on until the service is forgotten.
    async fn follow(mut self, states: &mut watch::Receiver<Arc<State>>) {
        let mut sources = JoinSet::new();
        let (mut begun, mut complained) = (BTreeSet::new(), BTreeSet::new());
        loop {
            let state = states.borrow_and_update().clone();
            if !state.services.contains_key(&self.service) {
                tokio::time::sleep(LAST_WORDS).await;
                return;
            }
            for node in self.wanted(&state).difference(&begun.clone()) {
                begun.insert(*node);
                self.begin(&mut sources, *node, &state);
            }
            // Who comes later, or again, may have written more meanwhile than was asked for of the past.
            self.request.tail = self.request.tail.max(TAIL_LINES);
            tokio::select! {
                Some(Ok((node, result))) = sources.join_next() => {
                    begun.remove(&node);
                    if let Err(error) = result && complained.insert(node) {
                        tracing::info!(service = %self.service, %error, "logs can't be followed; it is tried again");
                    }
                }
                changed = states.changed() => if changed.is_err() { return self.stops().await },
            }
        }
    }

    /// The agent stops: who follows goes on elsewhere; an end without a word is that of the service.
    async fn stops(&self) {
        let stops =
            ApiError::Unreachable { node: self.handles.name.to_string(), why: "its agent stops".to_owned() };
        let _gone = self.out.send_timeout(Err(stops.into()), LAST_WORDS).await;
    }

    /// The hosts to read from.
    fn wanted(&self, state: &State) -> BTreeSet<NodeId> {
        if self.request.local_only {
            return [self.handles.me].into();
        }
        let Hosts { placed, askable } = Hosts::of(state, self.handles.me, &self.service, self.request.index);
        let asks_all = self.request.follow || self.request.all_hosts;
        if asks_all { placed.union(&askable).copied().collect() } else { placed }
    }

    /// Begins to read from a host, or goes on with it.
    fn begin(&self, sources: &mut JoinSet<Ended>, node: NodeId, state: &State) {
        let mut reader = self.clone();
        let name = state.name_of(node);
        reader.request.after = self.told_of(&name);
        sources.spawn(async move {
            let (is_here, follows) = (node == reader.handles.me, reader.request.follow);
            let ended = if is_here { reader.read_here().await } else { reader.read_there(node, name).await };
            if follows {
                tokio::time::sleep(AGAIN_AFTER).await;
            }
            (node, ended)
        });
    }

    /// Whose past is told of this host.
    fn past_here(&self) -> Past {
        if self.request.all_hosts {
            return Past::All;
        }
        let state = self.handles.published.state.borrow().clone();
        let me = self.handles.me;
        let is_here = |slot: &Slot| {
            let failed = slot.placements.is_empty() && slot.failures.iter().any(|f| f.node == me);
            failed || slot.placements.iter().any(|p| p.node == me)
        };
        let here = state.slots_of(&self.service).filter(|(_, slot)| is_here(slot));
        Past::Of(here.map(|(id, _)| id.index).collect())
    }

    fn told_of(&self, node: &str) -> Vec<v1::LogPosition> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).of_node(node)
    }

    /// Hands a line on; whether anybody still listens.
    async fn tell(&self, line: v1::LogLine) -> bool {
        let Ok(place) = self.out.reserve().await else { return false };
        if self.request.follow {
            self.told.lock().unwrap_or_else(PoisonError::into_inner).record(&line);
        }
        place.send(Ok(line));
        true
    }

    async fn read_here(self) -> Result<(), ApiError> {
        let tail = if self.request.tail == 0 { TAIL_LINES } else { self.request.tail };
        let query = LogQuery {
            service: self.service.clone(),
            index: self.request.index,
            task: self.task.clone(),
            after: self.request.after.iter().filter_map(position_here).collect(),
            tail: usize::try_from(tail).ok(),
            follow: self.request.follow,
        };
        let reader = self.clone();
        let mut lines = std::pin::pin!(self.handles.agent.read_logs(query, move || reader.past_here()));
        while let Some(line) = lines.next().await {
            let line = line.map_err(|error| {
                let (service, name) = (&self.service, &self.handles.name);
                ApiError::Internal(format!("the logs of {service} on {name} can't be read: {error}"))
            })?;
            let message = v1::LogLine {
                node: self.handles.name.to_string(),
                instance: line.slot.to_string(),
                task: line.task.to_string(),
                line: line.line.into_bytes().into(),
                file: line.end.file,
                offset: line.end.offset,
            };
            if !self.tell(message).await {
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
                    if !self.tell(line).await {
                        return Ok(());
                    }
                }
                Ok(None) => return Ok(()),
                Err(status) => return Err(unreachable(status.message())),
            }
        }
    }
}

/// Which instance's which task goes on where; nothing when that can't be read.
fn position_here(at: &v1::LogPosition) -> Option<((u64, TaskName), Position)> {
    let index = at.instance.rsplit_once('/')?.1.parse().ok()?;
    // An agent that does not tell positions leaves them out.
    let is_known = at.file != 0;
    is_known
        .then_some(((index, TaskName::new(&at.task).ok()?), Position { file: at.file, offset: at.offset }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(revision: u64) -> Arc<State> {
        Arc::new(State { revision: Revision(revision), ..State::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_leader_has_is_waited_for_and_not_for_ever() {
        let (publish, mut states) = watch::channel(at(6));
        assert!(!until_applied(&mut states, Revision(7)).await);

        let mut later = states.clone();
        let waiting = tokio::spawn(async move { until_applied(&mut later, Revision(7)).await });
        tokio::time::sleep(APPLY_TIMEOUT / 2).await;
        assert!(!waiting.is_finished());
        publish.send_replace(at(8));
        assert!(waiting.await.unwrap());
    }

    #[test]
    fn an_agent_that_has_just_started_reads_its_own_files_too() {
        let service = ServiceName::new("talker").unwrap();
        let hosts = Hosts::of(&State::default(), NodeId(1), &service, None);
        assert_eq!(hosts.askable, BTreeSet::from([NodeId(1)]), "it may have no session yet");
        assert!(hosts.placed.is_empty());
    }
}
