//! Who calls, how long they wait, and whether another agent has passed the call on.

use std::time::Duration;

use tonic::Request;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::server::{TcpConnectInfo, UdsConnectInfo};

/// The metadata key that marks a call as passed on by an agent: it is not passed on again.
const FORWARDED_KEY: &str = "muster-forwarded";
/// The metadata key under which the agent that passes a call on names its caller.
const ACTOR_KEY: &str = "muster-actor";
/// How long a call is tried when the caller does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest time that a call is tried.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(600);
/// What is kept of the caller's time for the answer's way back.
const RESERVE: Duration = Duration::from_millis(100);

/// What the metadata and the connection say about a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    /// For the audit trail.
    pub actor: String,
    /// How long the call may take.
    pub timeout: Duration,
    /// Another agent passed it on.
    pub forwarded: bool,
}

impl Caller {
    /// Reads them from a request.
    pub fn of<T>(request: &Request<T>) -> Self {
        let metadata = request.metadata();
        let text = |key: &str| metadata.get(key).and_then(|value| value.to_str().ok());
        let forwarded = text(FORWARDED_KEY).is_some();
        // An agent that passes a call on names the caller; nobody else is asked who they are.
        let told = text(ACTOR_KEY).filter(|_| forwarded).map(str::to_owned);
        Self { actor: told.unwrap_or_else(|| peer_of(request)), timeout: timeout_of(metadata), forwarded }
    }

    /// A request that passes a message of this caller on.
    pub fn forward<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        let metadata = request.metadata_mut();
        metadata.insert(FORWARDED_KEY, MetadataValue::from_static("1"));
        if let Ok(actor) = MetadataValue::try_from(self.actor.as_str()) {
            metadata.insert(ACTOR_KEY, actor);
        }
        request
    }
}

fn peer_of<T>(request: &Request<T>) -> String {
    if let Some(unix) = request.extensions().get::<UdsConnectInfo>() {
        let uid = unix.peer_cred.map(|cred| cred.uid());
        return uid.map_or_else(|| "operator".to_owned(), |uid| format!("operator uid {uid}"));
    }
    let tcp = request.extensions().get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
    tcp.map_or_else(|| "operator".to_owned(), |address| format!("operator at {}", address.ip()))
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

    #[test]
    fn a_call_that_is_passed_on_keeps_its_caller() {
        let caller =
            Caller { actor: "operator uid 0".into(), timeout: Duration::from_secs(5), forwarded: false };
        let there = Caller::of(&caller.forward(()));
        assert_eq!((there.actor.as_str(), there.forwarded), ("operator uid 0", true));
        assert!(there.timeout < caller.timeout, "the answer needs some of the time");
    }

    #[test]
    fn nobody_but_an_agent_names_another_caller() {
        let mut request = Request::new(());
        request.metadata_mut().insert(ACTOR_KEY, MetadataValue::from_static("root"));
        assert_eq!(Caller::of(&request).actor, "operator");
    }
}
