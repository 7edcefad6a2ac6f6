//! Why a command was refused: typed, with a stable code and a remedy.

use crate::id::{NodeId, NodeName, Revision, SecretName, ServiceName, SessionId, SlotId, UserName};
use crate::lease::close::{CloseRefusal, ReopenRefusal, VoterUpRefusal};
use crate::time::TimingError;

/// A refused command. It changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `Bootstrap` on a cluster that exists.
    #[error("this cluster has been made already")]
    ClusterExists,
    /// Any other command before `Bootstrap`.
    #[error("there is no cluster yet")]
    NoCluster,
    /// No such node.
    #[error("there is no node {0}")]
    NoSuchNode(String),
    /// No such service.
    #[error("there is no service {0}")]
    NoSuchService(ServiceName),
    /// No such instance.
    #[error("there is no instance {0}")]
    NoSuchInstance(SlotId),
    /// No such user.
    #[error("there is no user {0}")]
    NoSuchUser(UserName),
    /// `AddAuthority` while there are two.
    #[error("the CA is being replaced already")]
    RotationUnderWay,
    /// `RetireAuthority` while there is one.
    #[error("the CA is not being replaced")]
    NoRotation,
    /// `RetireAuthority` too early.
    #[error("still with a certificate of the old CA: {holders}")]
    OldCertificates {
        /// Who.
        holders: String,
    },
    /// No such token.
    #[error("there is no token {0}")]
    NoSuchToken(String),
    /// Another node has that name.
    #[error("a node named {0} is in the cluster already")]
    NodeNameTaken(NodeName),
    /// The token is unknown: revoked, expired and dropped, or another cluster's.
    #[error(
        "the join token is not known here: it was revoked, expired some time ago, or is another cluster's"
    )]
    TokenUnknown,
    /// The token's time is over.
    #[error("the join token {0} has expired")]
    TokenExpired(String),
    /// The token has been used as often as it may.
    #[error("the join token {0} is used up")]
    TokenUsedUp(String),
    /// A token with that id exists.
    #[error("a token with the id {0} exists already")]
    TokenExists(String),
    /// The node still has a session.
    #[error("node {0} is still alive; stop its agent and guard, or drain it and run 'muster leave' there")]
    NodeAlive(NodeName),
    /// The node still votes or is a standby.
    #[error("node {0} is still part of the control plane")]
    NodeVotes(NodeName),
    /// It is the last voter.
    #[error("node {0} is the last voter: without it there is no cluster")]
    LastVoter(NodeName),
    /// R8: `replaces` is not the voter's current boot.
    #[error("VoterUp of node {voter} was refused: {why}")]
    StaleVoterUp {
        /// The voter.
        voter: NodeId,
        /// Which condition failed.
        why: VoterUpRefusal,
    },
    /// R9 was not satisfied.
    #[error("session {session} was not taken back: {why}")]
    ReopenRefused {
        /// Which.
        session: SessionId,
        /// Which condition failed.
        why: ReopenRefusal,
    },
    /// R11: the old session is not closed yet.
    #[error("session {session} of node {node} is still open")]
    SessionOpen {
        /// Whose.
        node: NodeId,
        /// Which.
        session: SessionId,
    },
    /// The session is not open.
    #[error("session {0} is not open")]
    NoSuchSession(SessionId),
    /// R7 was not satisfied.
    #[error("the close of session {session} was refused: {why}")]
    CloseRefused {
        /// Which.
        session: SessionId,
        /// Which condition of R7 failed.
        why: CloseRefusal,
    },
    /// The plan was computed from another topology.
    #[error("the plan was computed from revision {base}, but the cluster is at {topology}")]
    StalePlan {
        /// The plan's base.
        base: Revision,
        /// The state's.
        topology: Revision,
    },
    /// The report names a placement that is not there.
    #[error("instance {slot} has no such placement on node {node}")]
    StaleReport {
        /// The slot.
        slot: SlotId,
        /// The reporter.
        node: NodeId,
    },
    /// Compare-and-set failed.
    #[error("the services changed since revision {expected}: {service} is at {actual}")]
    RevisionMismatch {
        /// What was expected.
        expected: Revision,
        /// The newest declaration among those to be changed.
        actual: Revision,
        /// The service that changed.
        service: ServiceName,
    },
    /// The same service twice in one file.
    #[error("service {0} is declared twice")]
    DuplicateService(ServiceName),
    /// Only replicated services have a count.
    #[error("service {0} is not replicated: only a replicated service can be scaled")]
    NotReplicated(ServiceName),
    /// There is no former declaration.
    #[error("service {0} has no former declaration to go back to")]
    NothingToRollBack(ServiceName),
    /// The service is being removed.
    #[error("service {0} is being removed")]
    BeingRemoved(ServiceName),
    /// An annotation is too large, or there are too many.
    #[error("annotation {key} of service {service} is over the limit ({limit})")]
    AnnotationLimit {
        /// The service.
        service: ServiceName,
        /// The annotation.
        key: String,
        /// Which limit.
        limit: &'static str,
    },
    /// The instance cannot go there.
    #[error("instance {slot} cannot run on node {node}: {why}")]
    NotEligible {
        /// The instance.
        slot: SlotId,
        /// The node.
        node: NodeName,
        /// The first refusal of the scheduler.
        why: String,
    },
    /// The timing violates LEASES.md's inequality.
    #[error(transparent)]
    Timing(#[from] TimingError),
    /// Too many of something.
    #[error("the limit of {limit} {what} is reached")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many.
        limit: usize,
    },
    /// A refusal as it was told once: by another replica, or to an earlier try of the same write.
    #[error("{}", .0.message)]
    Told(RefusalText),
    /// An older write of the same client was retried after a newer one.
    #[error("this write was superseded by a later one of the same client")]
    SupersededRequest,
    /// The mode of a service cannot change while it has instances.
    #[error(
        "service {0} has instances: its mode cannot change; stop it, wait until it is stopped, and apply again"
    )]
    ModeOfPlaced(ServiceName),
    /// The service's declaration is not valid.
    #[error("service {service}: {why}")]
    InvalidService {
        /// The service.
        service: ServiceName,
        /// What is wrong, and where.
        why: String,
    },
    /// No such secret.
    #[error("there is no secret {0}")]
    NoSuchSecret(SecretName),
    /// A service names a secret that is not there.
    #[error("service {service} names the secret {secret}, which does not exist")]
    UnknownSecret {
        /// The service.
        service: ServiceName,
        /// What it names.
        secret: SecretName,
    },
    /// A secret with that name exists.
    #[error("a secret named {0} exists already")]
    SecretExists(SecretName),
    /// Services need it to start.
    #[error("secret {secret} is used by: {services}")]
    SecretInUse {
        /// The secret.
        secret: SecretName,
        /// By whom.
        services: String,
    },
    /// The value was encrypted with a key that was replaced meanwhile.
    #[error("the key that secrets are encrypted with has just been replaced")]
    StaleSecretKey,
    /// `OfferSecretKey` while values of the key before are still there.
    #[error("the secrets are being encrypted with a new key already")]
    SecretRotationUnderWay,
    /// A node asks for the secrets of a task that it is not to run.
    #[error("node {node} is not to run this placement of {slot}, and gets none of its secrets")]
    NotForThisNode {
        /// Who asks.
        node: String,
        /// For which instance.
        slot: SlotId,
    },
}

/// A refusal without its typed fields: what crosses the wire and what snapshots keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusalText {
    /// The stable code.
    pub code: std::sync::Arc<str>,
    /// The message.
    pub message: std::sync::Arc<str>,
    /// The class.
    pub class: RefusalClass,
}

/// How the refusal is to be understood; the shell maps it to gRPC codes and exit statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalClass {
    /// No such item (exit 105).
    NotFound,
    /// Exists already (exit 108).
    Exists,
    /// Unsafe or in conflict (exit 107).
    Conflict,
    /// Wrong input (exit 78).
    Invalid,
    /// Not allowed (exit 77).
    Denied,
}

impl Refusal {
    /// The stable code; `docs/errors` has a page for each.
    #[must_use]
    pub fn code(&self) -> &str {
        self.facts().0
    }

    /// The refusal as text.
    #[must_use]
    pub fn to_text(&self) -> RefusalText {
        let (code, class) = self.facts();
        RefusalText { code: code.into(), message: self.to_string().into(), class }
    }

    /// Its class.
    #[must_use]
    pub fn class(&self) -> RefusalClass {
        self.facts().1
    }

    fn facts(&self) -> (&str, RefusalClass) {
        use RefusalClass::{Conflict, Denied, Exists, Invalid, NotFound};
        match self {
            Self::ClusterExists => ("MU1001", Exists),
            Self::NoCluster => ("MU1002", Conflict),
            Self::NoSuchNode(_) => ("MU1003", NotFound),
            Self::NoSuchService(_) => ("MU1004", NotFound),
            Self::NoSuchInstance(_) => ("MU1005", NotFound),
            Self::NoSuchToken(_) => ("MU1006", NotFound),
            Self::NodeNameTaken(_) => ("MU1007", Exists),
            Self::TokenUnknown => ("MU1008", Denied),
            Self::TokenExpired(_) => ("MU1009", Denied),
            Self::TokenUsedUp(_) => ("MU1010", Denied),
            Self::TokenExists(_) => ("MU1011", Exists),
            Self::NodeAlive(_) => ("MU1012", Conflict),
            Self::NodeVotes(_) => ("MU1013", Conflict),
            Self::LastVoter(_) => ("MU1014", Conflict),
            Self::StaleVoterUp { .. } => ("MU1015", Conflict),
            Self::SessionOpen { .. } => ("MU1016", Conflict),
            Self::NoSuchSession(_) => ("MU1017", NotFound),
            Self::CloseRefused { .. } => ("MU1018", Conflict),
            Self::StalePlan { .. } => ("MU1019", Conflict),
            Self::StaleReport { .. } => ("MU1020", Conflict),
            Self::RevisionMismatch { .. } => ("MU1021", Conflict),
            Self::DuplicateService(_) => ("MU1022", Invalid),
            Self::NotReplicated(_) => ("MU1023", Conflict),
            Self::NothingToRollBack(_) => ("MU1024", Conflict),
            Self::BeingRemoved(_) => ("MU1025", Conflict),
            Self::AnnotationLimit { .. } => ("MU1026", Invalid),
            Self::NotEligible { .. } => ("MU1027", Conflict),
            Self::Timing(_) => ("MU1028", Invalid),
            Self::Limit { .. } => ("MU1029", Conflict),
            Self::Told(text) => (&text.code, text.class),
            Self::SupersededRequest => ("MU1030", Conflict),
            Self::ReopenRefused { .. } => ("MU1032", Conflict),
            Self::InvalidService { .. } => ("MU1031", Invalid),
            Self::ModeOfPlaced(_) => ("MU1033", Conflict),
            Self::NoSuchUser(_) => ("MU1040", NotFound),
            Self::RotationUnderWay => ("MU1041", Conflict),
            Self::NoRotation => ("MU1042", Conflict),
            Self::OldCertificates { .. } => ("MU1043", Conflict),
            Self::NoSuchSecret(_) => ("MU1060", NotFound),
            Self::UnknownSecret { .. } => ("MU1061", Invalid),
            Self::SecretExists(_) => ("MU1062", Exists),
            Self::SecretInUse { .. } => ("MU1063", Conflict),
            Self::StaleSecretKey => ("MU1064", Conflict),
            Self::SecretRotationUnderWay => ("MU1065", Conflict),
            Self::NotForThisNode { .. } => ("MU1066", Denied),
        }
    }
}
