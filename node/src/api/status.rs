//! Errors of the API: a gRPC code, and as metadata the stable code, a remedy and the exit status that a command
//! should end with.

use muster_core::refusal::{Refusal, RefusalClass};
use tonic::metadata::{AsciiMetadataValue, MetadataMap, MetadataValue};
use tonic::{Code, Status};

use super::remedy;

/// The metadata key of the stable code.
pub const CODE_KEY: &str = "muster-code";
/// The metadata key of the remedy: printable ASCII.
pub const HINT_KEY: &str = "muster-hint";
/// The metadata key of the exit status that a command should end with.
pub const EXIT_KEY: &str = "muster-exit";
/// The metadata key under which an agent that is not the leader names the one that is, by its node id.
pub const LEADER_KEY: &str = "muster-leader";

/// The metadata key of a refusal that stands in the log, so that nobody records it again.
pub const JUDGED_KEY: &str = "muster-judged";

const NO_LEADER: &str = "MU2001";
const NO_QUORUM: &str = "MU2002";

/// Why a call was not answered, beyond what the replicated state refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The replicated state refuses it, or would.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The replicated state has refused it: that stands in the log.
    #[error(transparent)]
    Judged(Refusal),
    /// There is no leader yet; an election takes less than a second.
    #[error("there is no leader yet, try again: {0}")]
    NoLeader(String),
    /// Fewer than a majority of voters can be reached from here.
    #[error("no quorum: {reachable} of {voters} voters reachable from {from}")]
    NoQuorum {
        /// Voters that answered, this node included if it is one.
        reachable: usize,
        /// All voters.
        voters: usize,
        /// The node that says so.
        from: String,
    },
    /// A message that can't be right.
    #[error("{0}")]
    Invalid(String),
    /// A declaration that can't be one of a service.
    #[error("{0}")]
    BadDeclaration(String),
    /// No node is in that zone.
    #[error("no node has the label zone = {0}")]
    NoSuchZone(String),
    /// An agent of another cluster or of another incarnation.
    #[error("{0}")]
    OtherCluster(String),
    /// Only the leader can do this, and this node is not it.
    #[error("node {me} is not the leader")]
    NotLeader {
        /// This node's name.
        me: String,
        /// The leader's id, if it is known.
        leader: Option<u64>,
    },
    /// A service has several instances and the call names none.
    #[error("service {service} has {instances} instances: name one of them")]
    WhichInstance {
        /// The service.
        service: String,
        /// How many.
        instances: usize,
    },
    /// A voter can't be taken out of the control plane safely now.
    #[error("node {node} can't be taken out of the control plane now: {why}")]
    UnsafeRemoval {
        /// The voter.
        node: String,
        /// What stands against it.
        why: String,
    },
    /// Nobody can take the leadership over.
    #[error("the leadership can't be handed over: {0}")]
    NoSuccessor(String),
    /// A host asks to be let in under the name of a node that is lost: most likely the same host, installed anew.
    #[error("a node named {0} is in the cluster already, and it is lost")]
    NameOfLostNode(String),
    /// A move needs an instance that runs.
    #[error("instance {0} runs nowhere that could hand it over")]
    NothingToMove(String),
    /// An instance is to go anywhere else, and no other node can take it.
    #[error("no other node can take instance {0}")]
    NowhereToGo(String),
    /// Only from this host itself.
    #[error("{0} is accepted on the local socket only")]
    LocalOnly(&'static str),
    /// Too many streams are open.
    #[error("{limit} streams are open on this agent, more are not accepted")]
    TooManyStreams {
        /// The limit.
        limit: usize,
    },
    /// It took longer than the caller or this agent allows.
    #[error("timed out waiting for {0}")]
    TimedOut(String),
    /// Another agent could not be asked.
    #[error("node {node} could not be reached: {why}")]
    Unreachable {
        /// Whom.
        node: String,
        /// Why.
        why: String,
    },
    /// The caller may not do this.
    #[error("{who} may not do this: it needs {needs}")]
    NotAllowed {
        /// The caller.
        who: String,
        /// What is needed.
        needs: &'static str,
    },
    /// The caller's certificate does not count any more.
    #[error("{who} is not let in: {why}")]
    NotAdmitted {
        /// The caller.
        who: String,
        /// What is known against it.
        why: String,
    },
    /// The caller's certificate is younger than this agent's state.
    #[error("this agent has not heard of the certificate of {0} yet, try again")]
    NotHeardYet(String),
    /// A node says something that only another one may say.
    #[error("node {who} speaks for itself only, not for {whom}")]
    SpeaksForAnother {
        /// Who speaks.
        who: String,
        /// For whom.
        whom: String,
    },
    /// A worker is not trusted with its callers' wishes.
    #[error("node {0} is a worker, which passes no changes on: ask an agent that is not a worker")]
    WorkerPassesNothingOn(String),
    /// Users and agents have listeners of their own.
    #[error("{0} is not served on this address")]
    WrongDoor(String),
    /// Too many hosts ask to be let in.
    #[error("too many hosts ask to join at once, try again")]
    TooManyJoins,
    /// A caller has too many calls under way.
    #[error("{who} has {limit} calls under way on this agent, more are not accepted")]
    TooManyCalls {
        /// The caller.
        who: String,
        /// The limit.
        limit: usize,
    },
    /// A host can't come back as the node that it says it was.
    #[error("this host can't come back as node {name}: {why}")]
    NotReturned {
        /// The name.
        name: String,
        /// Why not.
        why: String,
    },
    /// This agent can't read or write secrets now.
    #[error("{0}")]
    NoSecretKey(String),
    /// This agent can't go on.
    #[error("{0}")]
    Internal(String),
}

impl From<crate::secrets::SecretError> for ApiError {
    fn from(error: crate::secrets::SecretError) -> Self {
        use crate::secrets::SecretError;
        match error {
            SecretError::NoCluster => Self::Refused(Refusal::NoCluster),
            SecretError::NoKey(_) | SecretError::Seal { .. } => Self::NoSecretKey(error.to_string()),
        }
    }
}

impl From<crate::security::issue::IssueError> for ApiError {
    fn from(error: crate::security::issue::IssueError) -> Self {
        match error {
            crate::security::issue::IssueError::NoKey => Self::NoLeader(error.to_string()),
            crate::security::issue::IssueError::Certificate(_) => Self::Invalid(error.to_string()),
        }
    }
}

/// What is told about one kind of error.
pub(super) struct Facts {
    pub code: String,
    pub grpc: Code,
    pub exit: u8,
    pub hint: String,
}

impl ApiError {
    /// The stable code; `docs/errors` has a page for each.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Refused(refusal) | Self::Judged(refusal) => refusal.code(),
            Self::NoLeader(_) => NO_LEADER,
            Self::NoQuorum { .. } => NO_QUORUM,
            Self::Invalid(_) => "MU2003",
            Self::OtherCluster(_) => "MU2004",
            Self::NotLeader { .. } => "MU2005",
            Self::WhichInstance { .. } => "MU2006",
            Self::UnsafeRemoval { .. } => "MU2007",
            Self::NoSuccessor(_) => "MU2008",
            Self::TooManyStreams { .. } => "MU2009",
            Self::TimedOut(_) => "MU2010",
            Self::Unreachable { .. } => "MU2011",
            Self::Internal(_) => "MU2012",
            Self::NothingToMove(_) => "MU2013",
            Self::NameOfLostNode(_) => "MU1007",
            Self::LocalOnly(_) => "MU2014",
            Self::NowhereToGo(_) => "MU2015",
            Self::NoSuchZone(_) => "MU2016",
            Self::BadDeclaration(_) => "MU1031",
            Self::NotAllowed { .. } => "MU2030",
            Self::NotAdmitted { .. } => "MU2031",
            Self::NotHeardYet(_) => "MU2032",
            Self::SpeaksForAnother { .. } => "MU2033",
            Self::WorkerPassesNothingOn(_) => "MU2034",
            Self::WrongDoor(_) => "MU2035",
            Self::TooManyJoins => "MU2036",
            Self::TooManyCalls { .. } => "MU2037",
            Self::NotReturned { .. } => "MU2038",
            Self::NoSecretKey(_) => "MU2060",
        }
    }

    pub(super) fn facts(&self) -> Facts {
        let (grpc, exit) = match self {
            Self::Refused(refusal) | Self::Judged(refusal) => of_class(refusal.class()),
            Self::NoLeader(_) | Self::NotLeader { .. } | Self::NotHeardYet(_) | Self::NoSecretKey(_) => {
                (Code::Unavailable, 75)
            }
            Self::NoQuorum { .. } => (Code::Unavailable, 106),
            Self::Invalid(_) | Self::WhichInstance { .. } => (Code::InvalidArgument, 64),
            Self::NoSuchZone(_) => (Code::NotFound, 105),
            Self::BadDeclaration(_) => (Code::InvalidArgument, 78),
            Self::OtherCluster(_)
            | Self::UnsafeRemoval { .. }
            | Self::NoSuccessor(_)
            | Self::NothingToMove(_)
            | Self::NowhereToGo(_) => (Code::FailedPrecondition, 107),
            Self::LocalOnly(_)
            | Self::NotAllowed { .. }
            | Self::NotAdmitted { .. }
            | Self::SpeaksForAnother { .. }
            | Self::WorkerPassesNothingOn(_)
            | Self::WrongDoor(_)
            | Self::NotReturned { .. } => (Code::PermissionDenied, 77),
            Self::NameOfLostNode(_) => (Code::AlreadyExists, 108),
            Self::TooManyStreams { .. } | Self::TooManyJoins | Self::TooManyCalls { .. } => {
                (Code::ResourceExhausted, 75)
            }
            Self::TimedOut(_) => (Code::DeadlineExceeded, 124),
            Self::Unreachable { .. } => (Code::Unavailable, 69),
            Self::Internal(_) => (Code::Internal, 1),
        };
        let hint = match self {
            Self::Refused(refusal) | Self::Judged(refusal) => remedy::of_refusal(refusal),
            Self::NameOfLostNode(name) => format!(
                "if this is that host, installed anew, run 'musterctl node remove {name}' first; else set another [node] name"
            ),
            other => remedy::of_code(other.code()).to_owned(),
        };
        Facts { code: self.code().to_owned(), grpc, exit, hint }
    }
}

/// The gRPC code and the exit status of a class of refusals.
fn of_class(class: RefusalClass) -> (Code, u8) {
    match class {
        RefusalClass::NotFound => (Code::NotFound, 105),
        RefusalClass::Exists => (Code::AlreadyExists, 108),
        RefusalClass::Conflict => (Code::FailedPrecondition, 107),
        RefusalClass::Invalid => (Code::InvalidArgument, 78),
        RefusalClass::Denied => (Code::PermissionDenied, 77),
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let facts = error.facts();
        let mut metadata = MetadataMap::new();
        let mut put = |key: &'static str, value: &str| {
            if let Ok(value) = ascii(value) {
                metadata.insert(key, value);
            }
        };
        put(CODE_KEY, &facts.code);
        put(HINT_KEY, &facts.hint);
        put(EXIT_KEY, &facts.exit.to_string());
        if matches!(error, ApiError::Judged(_) | ApiError::NameOfLostNode(_)) {
            put(JUDGED_KEY, "1");
        }
        if let ApiError::NotLeader { leader: Some(leader), .. } = &error {
            put(LEADER_KEY, &leader.to_string());
        }
        Self::with_metadata(facts.grpc, error.to_string(), metadata)
    }
}

impl From<muster_wire::DecodeError> for ApiError {
    fn from(error: muster_wire::DecodeError) -> Self {
        Self::Invalid(with_causes(&error))
    }
}

impl ApiError {
    /// A service that can't be read.
    pub(super) fn of_declaration(error: &muster_wire::DecodeError) -> Self {
        Self::BadDeclaration(with_causes(error))
    }
}

fn with_causes(error: &muster_wire::DecodeError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Metadata is printable ASCII; what is not is replaced, never dropped with the rest.
fn ascii(text: &str) -> Result<AsciiMetadataValue, tonic::metadata::errors::InvalidMetadataValue> {
    let printable = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    MetadataValue::try_from(text.chars().map(printable).collect::<String>())
}

/// The leader that a status names.
pub(super) fn leader_of(status: &Status) -> Option<u64> {
    status.metadata().get(LEADER_KEY)?.to_str().ok()?.parse().ok()
}

/// Whether an agent of Muster said this, rather than the transport on the way to it.
pub(super) fn is_ours(status: &Status) -> bool {
    status.metadata().contains_key(CODE_KEY)
}

/// Whether nobody could be found who leads and has a quorum.
pub(super) fn is_without_leader(status: &Status) -> bool {
    let code = status.metadata().get(CODE_KEY);
    [NO_LEADER, NO_QUORUM].into_iter().any(|none| code.is_some_and(|code| code == none))
}

#[cfg(test)]
mod tests {
    use muster_core::time::Timing;

    use super::*;

    fn meta(status: &Status, key: &str) -> String {
        status.metadata().get(key).unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn a_refusal_carries_code_hint_and_exit_status() {
        let status = Status::from(ApiError::from(Refusal::NoSuchNode("n9".into())));
        assert_eq!(status.code(), Code::NotFound);
        assert_eq!(meta(&status, CODE_KEY), "MU1003");
        assert_eq!(meta(&status, EXIT_KEY), "105");
        assert!(meta(&status, HINT_KEY).contains("node list"));
        assert_eq!(status.message(), "there is no node n9");
    }

    #[test]
    fn an_unsafe_timing_is_bad_input_and_no_wrong_usage() {
        let unsafe_timing = Timing { lease_ttl_ms: 500, ..Timing::LAN }.validated().unwrap_err();
        let status = Status::from(ApiError::from(Refusal::from(unsafe_timing)));
        assert_eq!((meta(&status, CODE_KEY), meta(&status, EXIT_KEY)), ("MU1028".into(), "78".into()));
    }

    #[test]
    fn a_lost_quorum_is_told_apart_from_an_election() {
        let lost = ApiError::NoQuorum { reachable: 1, voters: 3, from: "n1".into() };
        let status = Status::from(lost);
        assert_eq!((status.code(), meta(&status, EXIT_KEY)), (Code::Unavailable, "106".into()));
        assert_eq!(status.message(), "no quorum: 1 of 3 voters reachable from n1");
        let none = Status::from(ApiError::NoLeader("an election is under way".into()));
        assert_eq!((none.code(), meta(&none, EXIT_KEY)), (Code::Unavailable, "75".into()));
        assert!(is_without_leader(&status) && is_without_leader(&none));
        let node = Status::from(ApiError::Unreachable { node: "n1".into(), why: "no answer".into() });
        assert!(!is_without_leader(&node) && !is_without_leader(&Status::unavailable("connect")));
    }

    #[test]
    fn the_leader_travels_with_the_refusal_of_a_follower() {
        let status = Status::from(ApiError::NotLeader { me: "n1".into(), leader: Some(7) });
        assert_eq!(leader_of(&status), Some(7));
        assert!(is_ours(&status) && !is_ours(&Status::unavailable("connect")));
    }
}
