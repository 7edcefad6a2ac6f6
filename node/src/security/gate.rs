//! Before every handler: who calls, whether they are still admitted, and whether they may call this.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use muster_core::audit::Actor;
use muster_core::command::{Role, UserRole};
use muster_core::id::NodeId;
use muster_core::state::State;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::transport::server::UdsConnectInfo;
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::access::{self, Needs};
use super::admission::{admit, may_be_member};
use super::note::CallNote;
use super::principal::{Caller, Door, Principal};
use super::recorder::{AnsweredCall, Recorder};
use super::rejections::Rejections;
use crate::api::FORWARDED_KEY;
use crate::api::status::{ApiError, CODE_KEY, JUDGED_KEY};
use crate::clock;

/// How many calls a user may have under way on one agent; what is more waits for nobody and is refused.
const CALLS_OF_A_USER: usize = 1024;
/// How many calls all strangers together may have under way: each is a try to join.
const CALLS_OF_STRANGERS: usize = 16;
/// How the methods of Raft begin; they have no places to hold, as only other agents call them.
const RAFT: &str = "/muster.v1.Raft/";
/// The services whose calls agents pass on for others; in all else a node acts for itself.
const FOR_CALLERS: [&str; 2] = ["/muster.v1.Cluster/", "/muster.v1.Joining/"];
/// The header of an answer that is nothing but a status.
const GRPC_STATUS: &str = "grpc-status";

/// The table, the state, and this node. Cheap to clone.
#[derive(Clone)]
pub struct Gate {
    me: NodeId,
    state: watch::Receiver<Arc<State>>,
    rejections: Rejections,
    recorder: Recorder,
    /// The user that the agent runs as: it may do to itself what it likes.
    own_uid: u32,
    places: Arc<Mutex<HashMap<Principal, Arc<Semaphore>>>>,
}

impl Gate {
    /// The gate of this node.
    #[must_use]
    pub fn new(
        me: NodeId,
        state: watch::Receiver<Arc<State>>,
        rejections: Rejections,
        recorder: Recorder,
    ) -> Self {
        let own_uid = nix::unistd::geteuid().as_raw();
        Self { me, state, rejections, recorder, own_uid, places: Arc::default() }
    }

    /// Whoever is at the other end of the connection.
    fn caller<T>(&self, request: &Request<T>) -> Caller {
        if let Some(caller) = request.extensions().get::<Caller>() {
            return caller.clone();
        }
        let uid =
            request.extensions().get::<UdsConnectInfo>().and_then(|info| info.peer_cred).map(|c| c.uid());
        let principal = match uid.filter(|uid| *uid == 0 || *uid == self.own_uid) {
            Some(uid) => Principal::Local { uid },
            None => Principal::Stranger,
        };
        Caller { principal, remote: None, uid, door: Door::Any }
    }

    /// What goes with the call for the audit trail.
    fn note(&self, caller: &Caller, is_passed_on: bool) -> CallNote {
        let state = self.state.borrow();
        let (own, peer) = (state.name_of(self.me), caller.principal.node().map(|node| state.name_of(node)));
        let name = peer.as_ref().map_or_else(|| caller.principal.to_string(), |peer| format!("node {peer}"));
        let via = peer.filter(|_| is_passed_on).unwrap_or_else(|| own.clone());
        let actor = Actor { name, role: caller.principal.role(), from: caller.from(), via: own };
        let speaker = caller.principal.node().filter(|_| is_passed_on);
        let is_vouched_for = speaker.is_some_and(|node| may_be_member(&state, node));
        CallNote::new(actor, via, is_vouched_for)
    }

    fn record(&self, note: &CallNote, path: &str, refused: Option<(String, String)>) {
        let said = note.said();
        let verb = said.as_ref().map_or_else(|| access::verb_of(path), |said| said.verb).to_owned();
        let (actor, before) = (note.actor.clone(), self.state.borrow().revision);
        let target = said.map(|said| said.target).unwrap_or_default();
        self.recorder.take(AnsweredCall { actor, verb, target, refused, before });
    }

    /// A handler has answered: what it refused is recorded, unless that stands in the log already.
    fn answered<B>(&self, note: &CallNote, path: &str, response: &Response<B>) {
        let text = |key: &str| response.headers().get(key).and_then(|value| value.to_str().ok());
        let Some(code) = text(CODE_KEY) else {
            // A status without our code is the transport's; a good answer has its status behind it.
            if access::is_without_command(path) && text(GRPC_STATUS).is_none() {
                self.record(note, path, None);
            }
            return;
        };
        let status = Status::from_header_map(response.headers());
        let is_refusal = status.as_ref().is_some_and(|status| is_refusal(status.code()));
        if is_refusal && text(JUDGED_KEY).is_none() {
            let message = status.map(|status| status.message().to_owned()).unwrap_or_default();
            self.record(note, path, Some((code.to_owned(), message)));
        }
    }

    fn judge(&self, caller: &Caller, path: &str) -> Result<(), ApiError> {
        let principal = &caller.principal;
        let needs =
            access::needs(path).ok_or_else(|| ApiError::Invalid(format!("there is no method {path}")))?;
        let state = self.state.borrow().clone();
        admit(&state, principal, clock::wall_now())?;
        let not_allowed = || ApiError::NotAllowed { who: principal.to_string(), needs: needs.in_words() };
        let wrong_door = match principal {
            Principal::User { .. } => caller.door == Door::Agents,
            Principal::Node { .. } | Principal::Stranger => caller.door == Door::Users,
            Principal::Local { .. } => false,
        };
        if wrong_door {
            return Err(ApiError::WrongDoor(principal.to_string()));
        }
        let allowed = match principal {
            Principal::Local { .. } => match needs {
                Needs::Operator | Needs::Admin if is_worker(&state, self.me) => {
                    return Err(ApiError::WorkerPassesNothingOn(state.name_of(self.me)));
                }
                Needs::Anybody
                | Needs::Viewer
                | Needs::Operator
                | Needs::OwnNode
                | Needs::Admin
                | Needs::Local => true,
                Needs::Node | Needs::Member | Needs::Voter => false,
            },
            Principal::User { role, .. } => match needs {
                Needs::Operator | Needs::OwnNode | Needs::Admin
                    if is_worker(&state, self.me) && *role > UserRole::Viewer =>
                {
                    return Err(ApiError::WorkerPassesNothingOn(state.name_of(self.me)));
                }
                Needs::Anybody | Needs::Viewer => true,
                Needs::Operator | Needs::OwnNode => *role >= UserRole::Operator,
                Needs::Admin => *role >= UserRole::Admin,
                Needs::Node | Needs::Member | Needs::Voter | Needs::Local => false,
            },
            Principal::Node { id, .. } => match needs {
                Needs::Anybody | Needs::Viewer | Needs::OwnNode | Needs::Node => true,
                Needs::Operator | Needs::Admin | Needs::Member => may_be_member(&state, *id),
                Needs::Voter => state.membership.contains(*id),
                Needs::Local => false,
            },
            Principal::Stranger => needs == Needs::Anybody,
        };
        if allowed { Ok(()) } else { Err(not_allowed()) }
    }

    /// A place among the calls of this caller; other agents are bound by their connections.
    fn place(&self, principal: &Principal) -> Result<Option<OwnedSemaphorePermit>, ApiError> {
        let limit = match principal {
            Principal::Local { .. } | Principal::Node { .. } => return Ok(None),
            Principal::User { .. } => CALLS_OF_A_USER,
            Principal::Stranger => CALLS_OF_STRANGERS,
        };
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody is remembered who calls no more.
        places.retain(|_, places| Arc::strong_count(places) > 1);
        let places = places.entry(principal.clone()).or_insert_with(|| Arc::new(Semaphore::new(limit)));
        let place = Arc::clone(places).try_acquire_owned();
        place.map(Some).map_err(|_| ApiError::TooManyCalls { who: principal.to_string(), limit })
    }
}

/// Whether somebody was refused, rather than not served for the moment.
fn is_refusal(code: Code) -> bool {
    !matches!(
        code,
        Code::Unavailable | Code::DeadlineExceeded | Code::Internal | Code::Unknown | Code::Cancelled
    )
}

/// Whether a node was let in as a worker.
fn is_worker(state: &State, id: NodeId) -> bool {
    state.nodes.get(&id).is_some_and(|node| node.role == Role::Worker)
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { gate: self.clone(), inner }
    }
}

/// A service behind the gate.
#[derive(Clone)]
pub struct Gated<S> {
    gate: Gate,
    inner: S,
}

impl<S, B> Service<Request<B>> for Gated<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let caller = self.gate.caller(&request);
        let path = request.uri().path().to_owned();
        let is_passed_on = is_for_callers(&path) && request.headers().contains_key(FORWARDED_KEY);
        let judged = self.gate.judge(&caller, &path).and_then(|()| self.gate.place(&caller.principal));
        match judged {
            // Raft calls all the time, as itself: there is nothing to note.
            Ok(_) if path.starts_with(RAFT) => {
                request.extensions_mut().insert(caller);
                Box::pin(self.inner.call(request))
            }
            Ok(place) => {
                let note = self.gate.note(&caller, is_passed_on);
                let is_watched = access::is_recorded(&path) && !note.is_vouched_for;
                request.extensions_mut().insert(caller);
                request.extensions_mut().insert(note.clone());
                let answer = self.inner.call(request);
                let gate = self.gate.clone();
                Box::pin(async move {
                    let _place = place;
                    let answer = answer.await;
                    if is_watched && let Ok(response) = &answer {
                        gate.answered(&note, &path, response);
                    }
                    answer
                })
            }
            Err(error) => {
                let note = self.gate.note(&caller, is_passed_on);
                self.gate.rejections.call(&caller.principal, &note.actor.from, &path, &error);
                let status = Status::from(error.clone());
                if is_refusal(status.code()) {
                    let refused = (error.code().to_owned(), error.to_string());
                    self.gate.record(&note, &path, Some(refused));
                }
                Box::pin(std::future::ready(Ok(status.into_http())))
            }
        }
    }
}

fn is_for_callers(path: &str) -> bool {
    FOR_CALLERS.iter().any(|service| path.starts_with(service))
}

#[cfg(test)]
mod tests {
    use muster_core::command::{Bootstrap, Command, NewCertificate, NodeDescription, Proposal};
    use muster_core::id::{CertificateId, ClusterId, Incarnation, NodeName, RequestId, Revision, UserName};
    use muster_core::time::{Stamp, Timing};
    use std::time::Duration;

    use super::*;

    const ME: NodeId = NodeId(1);

    /// A cluster of this node with the admin `root`; the gate, and the admin.
    fn gate(role: Role) -> (Gate, Principal) {
        let mut state = State::default();
        let now = clock::wall_now();
        let bootstrap = Command::Bootstrap(Bootstrap {
            cluster: ClusterId(1),
            name: "test".into(),
            incarnation: Incarnation(1),
            timing: Timing::LAN,
            node: NodeDescription::default(),
            node_name: NodeName::new("n1").unwrap(),
        });
        let (name, life) = (UserName::new("root").unwrap(), Duration::from_secs(60));
        let user = NewCertificate::User { name: name.clone(), role: UserRole::Admin, life };
        for (at, command) in [bootstrap, Command::IssueCertificate(user)].into_iter().enumerate() {
            let proposal =
                Proposal { stamp: now, request: RequestId::default(), actor: "test".into(), command };
            state.apply(Revision(at as u64 + 1), &proposal).reply.unwrap();
        }
        if let Some(node) = state.nodes.get_mut(&ME) {
            node.role = role;
        }
        let (certificate, ends) = (CertificateId(2), now.plus(life));
        let admin = Principal::User { name, role: UserRole::Admin, certificate, ends };
        let (_, state) = watch::channel(Arc::new(state));
        (Gate::new(ME, state, Rejections::default(), Recorder::default()), admin)
    }

    fn node(id: NodeId) -> Principal {
        Principal::Node { id, certificate: CertificateId(id.0), ends: Stamp(u64::MAX) }
    }

    fn judged(gate: &Gate, principal: &Principal, door: Door, path: &str) -> Result<(), String> {
        let caller = Caller { principal: principal.clone(), remote: None, uid: None, door };
        gate.judge(&caller, path).map_err(|error| error.code().to_owned())
    }

    const STATUS: &str = "/muster.v1.Cluster/GetStatus";
    const JOIN: &str = "/muster.v1.Joining/Join";

    #[test]
    fn users_and_agents_have_doors_of_their_own_where_that_is_wished() {
        let (gate, admin) = gate(Role::Auto);
        let wrong = Err("MU2035".to_owned());
        for (principal, path) in [(&node(ME), STATUS), (&Principal::Stranger, JOIN)] {
            assert_eq!(judged(&gate, principal, Door::Any, path), Ok(()));
            assert_eq!(judged(&gate, principal, Door::Agents, path), Ok(()));
            assert_eq!(judged(&gate, principal, Door::Users, path), wrong);
        }
        assert_eq!(judged(&gate, &admin, Door::Users, STATUS), Ok(()));
        assert_eq!(judged(&gate, &admin, Door::Agents, STATUS), wrong);
    }

    #[test]
    fn what_is_not_in_the_table_is_refused_to_everybody() {
        let (gate, admin) = gate(Role::Auto);
        for principal in [&admin, &node(ME), &Principal::Local { uid: 0 }] {
            assert!(judged(&gate, principal, Door::Any, "/muster.v1.Cluster/Unheard").is_err());
        }
    }

    #[test]
    fn root_on_a_worker_looks_and_acts_on_that_node_only() {
        let root = Principal::Local { uid: 0 };
        let (worker, admin) = gate(Role::Worker);
        let passes_nothing_on = Err("MU2034".to_owned());
        for principal in [&root, &admin] {
            assert_eq!(judged(&worker, principal, Door::Any, STATUS), Ok(()));
            let apply = judged(&worker, principal, Door::Any, "/muster.v1.Cluster/Apply");
            assert_eq!(apply, passes_nothing_on);
        }
        assert_eq!(judged(&worker, &root, Door::Any, "/muster.v1.Cluster/Drain"), Ok(()));
        assert_eq!(judged(&worker, &root, Door::Any, "/muster.v1.NodeLink/Leave"), Ok(()));
        let (member, _) = gate(Role::Auto);
        assert_eq!(judged(&member, &root, Door::Any, "/muster.v1.Cluster/Apply"), Ok(()));
        // Not even root speaks as an agent.
        assert!(judged(&member, &root, Door::Any, "/muster.v1.NodeLink/Forward").is_err());
    }

    #[test]
    fn calls_at_once_are_limited_for_each_user_and_for_all_strangers() {
        let (gate, admin) = gate(Role::Auto);
        let held: Vec<_> =
            (0..CALLS_OF_STRANGERS).map(|_| gate.place(&Principal::Stranger).unwrap()).collect();
        assert!(matches!(gate.place(&Principal::Stranger), Err(ApiError::TooManyCalls { .. })));
        assert!(gate.place(&admin).is_ok() && gate.place(&node(ME)).unwrap().is_none());
        drop(held);
        assert!(gate.place(&Principal::Stranger).is_ok());
        drop(gate.place(&admin));
        assert!(gate.places.lock().unwrap().len() <= 2, "who calls no more is forgotten");
    }
}
