//! Who calls, how long they wait, and whether another agent has passed the call on.

use std::time::Duration;

use tonic::Request;
use tonic::metadata::{MetadataMap, MetadataValue};

use muster_core::audit::{Actor, ActorRole};
use muster_core::id::NodeId;
use muster_core::state::State;

use super::status::ApiError;
use crate::security::admission::may_be_member;
use crate::security::note::CallNote;
use crate::security::principal::{self, Principal};

/// The metadata key that marks a call as passed on by an agent: it is not passed on again.
pub const FORWARDED_KEY: &str = "muster-forwarded";
/// The metadata key under which the agent that passes a call on names its caller.
const ACTOR_KEY: &str = "muster-actor";
/// The metadata key under which it tells from where that one calls.
const FROM_KEY: &str = "muster-from";
/// The metadata key under which it tells as what that one was let in.
const ROLE_KEY: &str = "muster-role";
/// How long a call is tried when the caller does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest time that a call is tried.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(600);
/// What is kept of the caller's time for the answer's way back.
const RESERVE: Duration = Duration::from_millis(100);

/// What the metadata and the connection say about a call.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// Who is on the other end of the connection.
    pub who: Principal,
    /// For the audit trail: who it is, or for whom an agent passes the call on.
    pub actor: Actor,
    /// How long the call may take.
    pub timeout: Duration,
    /// Another agent passed it on.
    pub forwarded: bool,
    /// What the gate wants to know.
    pub note: CallNote,
}

impl Caller {
    /// Reads them from a request.
    pub fn of<T>(request: &Request<T>) -> Self {
        let metadata = request.metadata();
        let text = |key: &str| metadata.get(key).and_then(|value| value.to_str().ok());
        let note = request.extensions().get::<CallNote>().cloned().unwrap_or_default();
        let caller = request.extensions().get::<principal::Caller>();
        let who = caller.map_or(Principal::Stranger, |caller| caller.principal.clone());
        let forwarded = who.node().is_some() && text(FORWARDED_KEY).is_some();
        // An agent that passes a call on names the caller; nobody else is asked who they are, nor is a worker.
        let mut actor = note.actor.clone();
        if forwarded
            && note.is_vouched_for
            && let Some(name) = text(ACTOR_KEY)
        {
            actor = Actor {
                name: name.to_owned(),
                role: text(ROLE_KEY).and_then(ActorRole::named).unwrap_or(ActorRole::Stranger),
                from: text(FROM_KEY).unwrap_or_default().to_owned(),
                via: note.via.clone(),
            };
        }
        Self { who, actor, timeout: timeout_of(metadata), forwarded, note }
    }

    /// The node that speaks.
    pub fn node(&self) -> Result<NodeId, ApiError> {
        let not_allowed =
            || ApiError::NotAllowed { who: self.who.to_string(), needs: "the certificate of a node" };
        self.who.node().ok_or_else(not_allowed)
    }

    /// Refuses a node that speaks as another one.
    pub fn check_is(&self, node: NodeId) -> Result<(), ApiError> {
        let speaker = self.node()?;
        if speaker == node {
            return Ok(());
        }
        Err(ApiError::SpeaksForAnother { who: format!("node #{speaker}"), whom: format!("node #{node}") })
    }

    /// Refuses a worker that acts on another node than its own.
    pub fn check_may_touch(&self, state: &State, node: NodeId) -> Result<(), ApiError> {
        match self.who.node() {
            Some(speaker) if speaker != node && !may_be_member(state, speaker) => {
                let (who, whom) = (state.name_of(speaker), format!("node {}", state.name_of(node)));
                Err(ApiError::SpeaksForAnother { who, whom })
            }
            _ => Ok(()),
        }
    }

    /// Whether nothing is known of the caller.
    pub fn is_stranger(&self) -> bool {
        self.who == Principal::Stranger
    }

    /// A request that passes a message of this caller on.
    pub fn forward<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        let metadata = request.metadata_mut();
        metadata.insert(FORWARDED_KEY, MetadataValue::from_static("1"));
        let Actor { name, role, from, .. } = &self.actor;
        for (key, text) in [(ACTOR_KEY, name.as_str()), (ROLE_KEY, role.as_str()), (FROM_KEY, from)] {
            if let Ok(text) = MetadataValue::try_from(text) {
                metadata.insert(key, text);
            }
        }
        request
    }
}

fn timeout_of(metadata: &MetadataMap) -> Duration {
    let asked = metadata.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(parse_timeout);
    asked.map_or(DEFAULT_TIMEOUT, |timeout| {
        let reserve = RESERVE.min(timeout / 4);
        timeout.min(LONGEST_TIMEOUT).saturating_sub(reserve)
    })
}

/// The value of `grpc-timeout`: up to eight digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(count.saturating_mul(3600)),
        "M" => Duration::from_secs(count.saturating_mul(60)),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_in_all_units() {
        assert_eq!(parse_timeout("5S"), Some(Duration::from_secs(5)));
        assert_eq!(parse_timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse_timeout("2M"), Some(Duration::from_secs(120)));
        assert_eq!((parse_timeout(""), parse_timeout("S"), parse_timeout("5x")), (None, None, None));
    }

    /// As the gate hands it on: a call of node n2.
    fn from_node(mut request: Request<()>) -> Request<()> {
        let principal = Principal::Node {
            id: NodeId(2),
            certificate: muster_core::id::CertificateId(2),
            ends: muster_core::time::Stamp(1),
        };
        let (remote, door) = (Some(std::net::IpAddr::from([10, 0, 0, 2])), principal::Door::Any);
        request.extensions_mut().insert(principal::Caller { principal, remote, uid: None, door });
        request.extensions_mut().insert(CallNote::new(Actor::agent("n2"), "n2".to_owned(), true));
        request
    }

    #[test]
    fn a_call_that_is_passed_on_keeps_its_caller() {
        let actor = Actor {
            name: "operator uid 0".into(),
            role: ActorRole::Local,
            from: "local socket uid 0".into(),
            via: "n2".into(),
        };
        let caller = Caller {
            who: Principal::Local { uid: 0 },
            actor: actor.clone(),
            timeout: Duration::from_secs(5),
            forwarded: false,
            note: CallNote::default(),
        };
        let there = Caller::of(&from_node(caller.forward(())));
        assert_eq!((&there.actor, there.forwarded, there.node()), (&actor, true, Ok(NodeId(2))));
        assert!(there.timeout < caller.timeout, "the answer needs some of the time");
    }

    #[test]
    fn nobody_but_an_agent_names_another_caller() {
        let mut request = Request::new(());
        request.metadata_mut().insert(FORWARDED_KEY, MetadataValue::from_static("1"));
        request.metadata_mut().insert(ACTOR_KEY, MetadataValue::from_static("root"));
        request.metadata_mut().insert(FROM_KEY, MetadataValue::from_static("10.0.0.1"));
        let alice = Actor { from: "10.0.0.9".into(), ..Actor::from("user alice") };
        request.extensions_mut().insert(CallNote::new(alice.clone(), "n1".to_owned(), false));
        let caller = Caller::of(&request);
        assert_eq!((&caller.actor, caller.forwarded), (&alice, false));
        assert!(caller.node().is_err());
    }

    #[test]
    fn a_node_speaks_as_itself_only() {
        let caller = Caller::of(&from_node(Request::new(())));
        assert_eq!(caller.check_is(NodeId(2)), Ok(()));
        assert!(matches!(caller.check_is(NodeId(3)), Err(ApiError::SpeaksForAnother { .. })));
    }
}
