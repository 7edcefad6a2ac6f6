//! Talks to the cluster through any agent: finds one that answers, and tries again with the same request id
//! until the time is over.

use std::cell::Cell;
use std::error::Error;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use muster_proto::v1::RequestId;
use muster_proto::v1::cluster_client::ClusterClient;
use muster_tls::{Expected, Live, SecureConnector};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use crate::context::Endpoint;
use crate::exit::Exit;
use crate::failure::Failure;

mod calls;
mod round;
mod stream;

use round::{Again, Round};
pub use stream::EventStream;

/// The generated client.
pub type Grpc = ClusterClient<Channel>;

/// An agent that accepts slowly is left for the next one on the first round through the endpoints; later
/// rounds give it longer.
const CONNECT_FIRST: Duration = Duration::from_millis(300);
const CONNECT_LATER: Duration = Duration::from_secs(2);
/// The waits between two rounds double from the first to the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(25);
const PAUSE_LONGEST: Duration = Duration::from_millis(400);
/// A try that had less time than this tells nothing by being cut off: what was said before it counts.
const FAIR_TRY: Duration = PAUSE_LONGEST;
/// An agent that answers no ping for this long is given up: its host may be frozen or cut off.
const PING_EVERY: Duration = Duration::from_secs(1);
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// A worker passes no changes on; another agent does.
const WORKER_CODE: &str = "MU2034";
/// The status of a large cluster is more than tonic's default of 4 MiB.
const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

/// How far this command's last write got; says what a Ctrl-C means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteState {
    /// Nothing was sent that changes anything.
    None,
    /// Sent, not yet answered.
    Sent,
    /// Acknowledged: it stays, whatever happens to this command.
    Acknowledged,
    /// The terminal is an editor's, and so is a Ctrl-C.
    Editing,
}

/// The connection to the cluster.
pub struct Client {
    endpoints: Vec<Endpoint>,
    /// Shown to agents on other hosts.
    live: Option<Live>,
    /// Which of `endpoints` is tried next.
    next: usize,
    connected: Option<Grpc>,
    /// Whether an agent has ever answered: then losing it means waiting, not giving up.
    answered: bool,
    /// Whether an agent that is not there yet is worth waiting for.
    patient: bool,
    limit: Duration,
    deadline: Instant,
    request: RequestId,
    writes: Rc<Cell<WriteState>>,
}

impl Client {
    /// A client of these agents (at least one) whose calls end `limit` from now. Connects when first used; without
    /// credentials only to agents of this host.
    pub fn new(
        endpoints: Vec<Endpoint>,
        live: Option<Live>,
        limit: Duration,
        writes: Rc<Cell<WriteState>>,
    ) -> Self {
        let request = RequestId { client: random_client(), seq: 0 };
        let deadline = Instant::now() + limit;
        Self {
            endpoints,
            live,
            next: 0,
            connected: None,
            answered: false,
            patient: false,
            limit,
            deadline,
            request,
            writes,
        }
    }

    /// Leaves Ctrl-C to an editor, or takes it back.
    pub fn set_editing(&self, editing: bool) {
        self.writes.set(if editing { WriteState::Editing } else { WriteState::None });
    }

    /// How long the command may take, from its start.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// When the command's time is over.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Gives the command another limit, counted from now.
    pub fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
        self.deadline = Instant::now() + limit;
    }

    /// From now on, waits for an agent to come up too.
    pub fn be_patient(&mut self) {
        self.patient = true;
    }

    /// Whether the cluster may still answer, because an agent has, or because that is what is waited for.
    pub fn is_worth_waiting(&self) -> bool {
        self.answered || self.patient
    }

    /// Whether an act of this command was acknowledged.
    pub fn has_acted(&self) -> bool {
        self.writes.get() == WriteState::Acknowledged
    }

    /// The id of the next write. Retries of one write share it.
    fn next_request(&mut self) -> Option<RequestId> {
        self.request.seq += 1;
        Some(self.request)
    }

    /// Makes a write and remembers how far it got.
    async fn write<Req, Rep, F, Fut>(&mut self, request: Req, rpc: F) -> Result<Rep, Failure>
    where
        Req: Clone,
        F: Fn(Grpc, Request<Req>) -> Fut,
        Fut: Future<Output = Result<Response<Rep>, Status>>,
    {
        self.writes.set(WriteState::Sent);
        let result = self.call(request, rpc).await;
        // A refused write changed nothing; one without an answer may still be applied.
        match &result {
            Ok(_) => self.writes.set(WriteState::Acknowledged),
            Err(Failure::Told { .. }) => self.writes.set(WriteState::None),
            Err(_) => {}
        }
        result
    }

    /// Makes a call, with retries.
    async fn call<Req, Rep, F, Fut>(&mut self, request: Req, rpc: F) -> Result<Rep, Failure>
    where
        Req: Clone,
        F: Fn(Grpc, Request<Req>) -> Fut,
        Fut: Future<Output = Result<Response<Rep>, Status>>,
    {
        let mut round = Round::new(self.endpoints.len());
        loop {
            let failed = match self.connect(&round).await {
                Ok(grpc) => match self.try_once(grpc, request.clone(), &rpc).await {
                    Ok(reply) => return Ok(reply),
                    Err(Try::Final(failure)) => return Err(failure),
                    Err(Try::CutShort) => return Err(round.told_last().unwrap_or_else(|| self.no_answer())),
                    Err(Try::Again(why)) => why,
                },
                Err(why) => Again::Unreachable(why),
            };
            let endpoint = self.endpoints[self.next].to_string();
            self.connected = None;
            self.next = (self.next + 1) % self.endpoints.len();
            let round_is_over = round.add(endpoint, failed);
            if round_is_over {
                if round.is_in_vain()
                    || round.has_no_quorum()
                    || (!round.worth_waiting() && !self.is_worth_waiting())
                {
                    return Err(round.into_failure());
                }
                if Instant::now() + round.pause >= self.deadline {
                    return Err(round.into_failure());
                }
                sleep(round.pause).await;
                round.start_next();
            }
        }
    }

    async fn connect(&mut self, round: &Round) -> Result<Grpc, String> {
        if let Some(grpc) = &self.connected {
            return Ok(grpc.clone());
        }
        let limit = if round.number == 0 && self.endpoints.len() > 1 { CONNECT_FIRST } else { CONNECT_LATER };
        let left = self.deadline.saturating_duration_since(Instant::now());
        let connecting = connect_to(&self.endpoints[self.next], self.live.as_ref())?;
        match timeout(limit.min(left), connecting).await {
            Err(_) => Err("does not answer".to_owned()),
            Ok(Err(error)) => Err(innermost(&error)),
            Ok(Ok(channel)) => {
                let grpc = ClusterClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
                self.connected = Some(grpc.clone());
                Ok(grpc)
            }
        }
    }

    async fn try_once<Req, Rep, F, Fut>(&mut self, grpc: Grpc, request: Req, rpc: &F) -> Result<Rep, Try>
    where
        F: Fn(Grpc, Request<Req>) -> Fut,
        Fut: Future<Output = Result<Response<Rep>, Status>>,
    {
        let mut request = Request::new(request);
        // The agent should not go on for a client that has left.
        request.set_timeout(self.deadline.saturating_duration_since(Instant::now()) + PAUSE_LONGEST);
        let is_fair = Instant::now() + FAIR_TRY <= self.deadline;
        match timeout_at(self.deadline, rpc(grpc, request)).await {
            Err(_) if is_fair => Err(Try::Final(self.no_answer())),
            Err(_) => Err(Try::CutShort),
            Ok(Ok(reply)) => {
                self.answered = true;
                Ok(reply.into_inner())
            }
            Ok(Err(status)) => Err(self.judge(&status)),
        }
    }

    fn judge(&mut self, status: &Status) -> Try {
        if is_transport(status) {
            return Try::Again(Again::Unreachable(innermost(status)));
        }
        self.answered = true;
        let failure = told(status);
        if metadata(status, "muster-code") == Some(WORKER_CODE) {
            return Try::Again(Again::Elsewhere(failure));
        }
        let retry = failure.exit() == Exit::TryAgain
            || (status.code() == Code::Unavailable && metadata(status, "muster-exit").is_none());
        if failure.exit() == Exit::NoQuorum {
            Try::Again(Again::CutOff(failure))
        } else if retry {
            Try::Again(Again::Told(failure))
        } else if status.code() == Code::DeadlineExceeded && metadata(status, "muster-code").is_none() {
            Try::Final(self.no_answer())
        } else {
            Try::Final(failure)
        }
    }

    fn no_answer(&self) -> Failure {
        let waiting_for = vec![format!("an answer of {}", self.endpoints[self.next])];
        Failure::TimedOut { limit: self.limit, waiting_for, goes_on: false }
    }
}

/// What one try led to.
enum Try {
    Again(Again),
    /// The caller's time was over before the agent could be expected to answer.
    CutShort,
    Final(Failure),
}

fn random_client() -> u64 {
    // Client 0 would mean that retries may be applied twice.
    getrandom::u64().unwrap_or(1).max(1)
}

/// Connects: encrypted, and with both sides known, to other hosts; as it is to the socket of this one.
fn connect_to<'a>(
    endpoint: &'a Endpoint,
    live: Option<&Live>,
) -> Result<impl Future<Output = Result<Channel, tonic::transport::Error>> + use<'a>, String> {
    let (uri, connector) = match endpoint {
        Endpoint::Tcp(address) => {
            let live = live.ok_or_else(|| "there is no certificate to show".to_owned())?;
            let connector = SecureConnector::new(live.clone(), address, Expected::AnyNode);
            (format!("http://{address}"), Some(connector))
        }
        Endpoint::Unix(path) => (format!("unix:{}", path.display()), None),
    };
    let endpoint = tonic::transport::Endpoint::from_shared(uri).map_err(|error| innermost(&error))?;
    let endpoint = endpoint
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true);
    Ok(async move {
        match connector {
            Some(connector) => endpoint.connect_with_connector(connector).await,
            None => endpoint.connect().await,
        }
    })
}

/// The last cause of an error: 'connection refused', not 'transport error'.
fn innermost(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((text, _)) => text.to_lowercase(),
        None => text,
    }
}

fn metadata<'a>(status: &'a Status, key: &str) -> Option<&'a str> {
    status.metadata().get(key).and_then(|value| value.to_str().ok()).filter(|value| !value.is_empty())
}

/// Whether the status was made here because the connection failed, not sent by an agent.
fn is_transport(status: &Status) -> bool {
    let lost = matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal);
    lost && metadata(status, "muster-code").is_none()
        && (status.source().is_some() || status.message().starts_with("h2 protocol error"))
}

/// An agent's error with its code, hint and exit status.
fn told(status: &Status) -> Failure {
    let exit = match (metadata(status, "muster-exit"), status.code()) {
        (Some(exit), _) => Exit::from_agent(exit),
        (None, Code::Unavailable) => Exit::TryAgain,
        (None, Code::DeadlineExceeded) => Exit::TimedOut,
        (None, Code::PermissionDenied | Code::Unauthenticated) => Exit::Denied,
        (None, Code::NotFound) => Exit::NotFound,
        (None, Code::AlreadyExists) => Exit::Exists,
        (None, Code::FailedPrecondition | Code::Aborted) => Exit::Refused,
        (None, _) => Exit::Failed,
    };
    let message = match status.message() {
        "" => format!("the agent answered '{}'", status.code()),
        text if status.code() == Code::Unimplemented => {
            format!("the agent does not know this request; it may be of an older version ({text})")
        }
        text => text.to_owned(),
    };
    Failure::Told {
        code: metadata(status, "muster-code").unwrap_or("MU9000").to_owned(),
        message,
        hint: metadata(status, "muster-hint").map(str::to_owned),
        exit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::metadata::MetadataMap;

    #[test]
    fn an_agents_error_keeps_its_code_hint_and_status() {
        let mut extra = MetadataMap::new();
        extra.insert("muster-code", "MU1004".parse().unwrap());
        extra.insert("muster-hint", "look at the list".parse().unwrap());
        extra.insert("muster-exit", "105".parse().unwrap());
        let failure = told(&Status::with_metadata(Code::NotFound, "there is no service x", extra));
        assert_eq!(failure.exit(), Exit::NotFound);
        assert_eq!(failure.code(), "MU1004");
        assert_eq!(failure.hint().as_deref(), Some("look at the list"));
        assert_eq!(failure.to_string(), "there is no service x");
    }

    #[test]
    fn codes_alone_have_a_status_too() {
        assert_eq!(told(&Status::unavailable("no leader")).exit(), Exit::TryAgain);
        assert_eq!(told(&Status::deadline_exceeded("slow")).exit(), Exit::TimedOut);
        assert_eq!(told(&Status::permission_denied("no")).exit(), Exit::Denied);
        assert_eq!(told(&Status::internal("")).exit(), Exit::Failed);
    }
}
