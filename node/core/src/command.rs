//! The replicated writes. A command in the log that an agent does not know stops that agent; none is skipped.

use std::sync::Arc;
use std::time::Duration;

use crate::audit::{Actor, RecordedCalls};
use crate::id::MembershipId;
use crate::id::{
    BootId, ClusterId, Generation, Incarnation, NodeId, NodeName, Reopens, RequestId, Revision, SecretKeyId,
    SecretName, ServiceName, SessionId, SlotId, UserName,
};
use crate::scheduler::plan::Plan;
use crate::spec::{Enforcement, Labels, Resources, ServiceSpec};
use crate::state::slot::InstanceState;
use crate::time::{Stamp, Timing};

/// One write as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The proposing leader's wall clock. `apply` never lets time run backwards.
    pub stamp: Stamp,
    /// For applying a retry once.
    pub request: RequestId,
    /// Who asked, for the audit trail.
    pub actor: Actor,
    /// What to do.
    pub command: Command,
}

/// What can be written.
#[allow(missing_docs, reason = "the variants say it; their fields are named for what they are")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// First entry of a cluster: names it and adds its first node.
    Bootstrap(Bootstrap),
    /// A host joins with a token.
    AddNode(AddNode),
    /// A node leaves for good. Refused while it has an open session or votes, unless it is the last step of a removal.
    RemoveNode { node: NodeId },
    /// An agent tells what its host has; sent at its start when it changed.
    DescribeNode { node: NodeId, description: NodeDescription },
    /// An operator's change to a node.
    ChangeNode { node: NodeId, change: NodeChange },

    /// A voter started (R8).
    VoterUp { voter: NodeId, boot: BootId, replaces: Option<BootId> },
    /// A guard asks for a session (R11).
    OpenSession(OpenSession),
    /// The leader closes a session with the promises of a majority (R7), and re-places what it held.
    CloseSession(CloseSession),
    /// The guard that held the session proved that nothing of it is left (R4).
    Fenced { session: SessionId, plan: Plan },
    /// Takes a node back that a minority gave up by mistake (R9).
    Reopen { session: SessionId, to: Reopens },
    /// The leader has heard that the agent of a session's host is gone while its guard goes on, or is back.
    NoteAgent { session: SessionId, gone: bool },

    /// Placements and revocations as the scheduler planned them.
    ApplyPlan(Plan),
    /// The guard ended an instance and remembers the generation as revoked (R10). Frees the slot, and places the
    /// target of a planned move in the same apply.
    Stopped(Stopped),
    /// What an agent observed of an instance.
    Observe(Observation),

    /// Declares services; all or none.
    PutServices { services: Vec<ServiceSpec>, if_revision: Option<Revision> },
    /// Removes a service once its instances are stopped.
    RemoveService { service: ServiceName },
    /// Starts or stops a service without removing it.
    SetServiceWanted { service: ServiceName, wanted: bool },
    /// Starts all instances of a service anew.
    RestartService { service: ServiceName },
    /// Changes the count of a replicated service.
    ScaleService { service: ServiceName, count: u32 },
    /// Goes back to the declaration before the current one.
    RollbackService { service: ServiceName },
    /// Sets or (`None`) removes an annotation of a service.
    AnnotateService { service: ServiceName, key: String, value: Option<String> },
    /// An operator's wish to have an instance elsewhere: revokes it with a target.
    MoveInstance { slot: SlotId, to: Option<NodeId> },
    /// Forgets a service's failures, so that nodes that it failed on are eligible again.
    ClearFailures { service: ServiceName },

    /// Adds a join token.
    CreateToken(TokenGrant),
    /// Removes a join token.
    RevokeToken { id: String },
    /// Changes the timing of sessions opened from now on.
    SetTiming(Timing),

    /// The cluster's first CA, or one that replaces it; both are trusted until the old one is retired.
    AddAuthority(NewAuthority),
    /// Ends the trust in the old CA. Refused while somebody has no certificate of the new one, unless `forced`.
    RetireAuthority { forced: bool },
    /// Notes that a certificate is issued; its id is this entry's index. The signature is made outside.
    IssueCertificate(NewCertificate),
    /// Ends all certificates that somebody has.
    RevokeCertificates(CertificateHolder),
    /// A user belongs no longer; its certificates end with it.
    RemoveUser { name: UserName },

    /// A member of Raft has made a key for secrets, which the others are to fetch. It counts once a majority has it.
    OfferSecretKey { key: SecretKeyId },
    /// A member has that key on its disk.
    HoldSecretKey { node: NodeId, key: SecretKeyId },
    /// Makes or changes a secret.
    PutSecret(PutSecret),
    /// Removes a secret. Refused while a service uses it, unless `forced`.
    RemoveSecret { name: SecretName, forced: bool },

    /// An agent hands in what it answered without a command: calls that it refused, above all.
    RecordCalls(RecordedCalls),
}

/// See [`Command::PutSecret`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutSecret {
    /// Its name.
    pub name: SecretName,
    /// The key that the value is encrypted with: the newest one that counts.
    pub key: SecretKeyId,
    /// The encrypted value.
    pub sealed: SealedValue,
    /// What it is to do.
    pub how: SecretWrite,
}

/// What a [`PutSecret`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretWrite {
    /// Makes it.
    Create,
    /// Gives one that exists another value.
    Set,
    /// The value of this revision with another key. Does nothing when the value has changed meanwhile.
    Reseal {
        /// See [`crate::state::secret::Secret::revision`].
        of: Revision,
    },
}

/// An encrypted value: for members of Raft only, empty elsewhere. The log, snapshots and the state hold no other.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SealedValue(pub Arc<[u8]>);

impl std::fmt::Debug for SealedValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealedValue(..)")
    }
}

/// See [`Command::AddAuthority`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAuthority {
    /// Its certificate (DER).
    pub certificate: Arc<[u8]>,
    /// Signed by the CA that it replaces (DER).
    pub introduction: Option<Arc<[u8]>>,
    /// Its key.
    pub key: AuthorityKey,
}

/// The private key of a CA (PKCS#8). Never shown; reaches members of Raft only, as any of them may have to sign.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthorityKey(pub Arc<[u8]>);

impl std::fmt::Debug for AuthorityKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AuthorityKey(..)")
    }
}

/// See [`Command::IssueCertificate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewCertificate {
    /// A node renews its own, or comes back with a token after it has expired.
    Node {
        /// Whose.
        node: NodeId,
        /// The hash of the token that it showed.
        token_hash: Option<[u8; 32]>,
    },
    /// A user, who is made if there is none of that name.
    User {
        /// Whose.
        name: UserName,
        /// What it may do. Another role than before ends the older certificates.
        role: UserRole,
        /// How long it holds.
        life: Duration,
    },
}

/// Somebody who has certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateHolder {
    /// An agent.
    Node(NodeId),
    /// A person or program.
    User(UserName),
}

/// See [`Command::Bootstrap`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// The cluster's identity.
    pub cluster: ClusterId,
    /// The cluster's name.
    pub name: String,
    /// 1 for a new cluster.
    pub incarnation: Incarnation,
    /// The timing of the cluster.
    pub timing: Timing,
    /// The first node; its id is 1.
    pub node: NodeDescription,
    /// Its name.
    pub node_name: NodeName,
}

/// See [`Command::AddNode`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddNode {
    /// The new node's name; refused while another node has it.
    pub name: NodeName,
    /// What the host has.
    pub description: NodeDescription,
    /// The role it asks for.
    pub role: Role,
    /// The hash of the token it showed.
    pub token_hash: [u8; 32],
}

/// What an agent says about its host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeDescription {
    /// HOST:PORT of its listeners; several are redundant links.
    pub addresses: Vec<String>,
    /// From its configuration.
    pub labels: Labels,
    /// What it has, or what its configuration says.
    pub capacity: Resources,
    /// The agent's version.
    pub version: String,
    /// The lowest and highest feature level it speaks.
    pub features: (u32, u32),
}

/// What a node may become in the control plane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Muster decides whether it votes.
    #[default]
    Auto,
    /// Never in Raft.
    Worker,
    /// Votes, runs no services.
    Witness,
}

impl Role {
    /// The name in files and output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Worker => "worker",
            Self::Witness => "witness",
        }
    }
}

/// What a user may do; each role includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UserRole {
    /// Looks at everything that is no secret.
    Viewer,
    /// Runs services and looks after nodes.
    Operator,
    /// Also decides who belongs: tokens, users, certificates, the cluster's settings.
    Admin,
}

impl UserRole {
    /// All roles, ascending.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// The name in certificates, commands and output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// The role of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

/// See [`Command::ChangeNode`].
#[allow(missing_docs, reason = "the variants say it; their fields are named for what they are")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeChange {
    /// Place nothing new there, or again.
    Cordon(bool),
    /// Leave running what runs, touch nothing.
    Maintenance(bool),
    /// Move everything away.
    Drain(DrainWish),
    /// End of the drain.
    Undrain,
    /// Sets or (`None`) removes a label; operators' labels win over the configuration's.
    Label { key: String, value: Option<String> },
}

/// How a node is drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainWish {
    /// After that, what could not be moved is stopped. None: it keeps running.
    pub deadline: Option<Duration>,
    /// At most so many instances move at once; 0: no limit.
    pub max_parallel: u32,
}

/// See [`Command::OpenSession`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSession {
    /// Whose.
    pub node: NodeId,
    /// The guard's start.
    pub guard_boot: BootId,
    /// Made by the guard in memory; voters check datagrams with it.
    pub key: SessionKey,
    /// What the guard runs already (R13).
    pub inventory: Vec<(SlotId, Generation)>,
    /// The best that this guard can give.
    pub enforcement: Enforcement,
}

/// The secret of a session. Never shown.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct SessionKey(pub [u8; 32]);

impl std::fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionKey(..)")
    }
}

/// See [`Command::CloseSession`] and LEASES.md R7.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseSession {
    /// E.
    pub session: SessionId,
    /// C: the membership under which the promises were made.
    pub membership: MembershipId,
    /// gen.
    pub reopens: Reopens,
    /// Who promised, in which boot.
    pub promises: Vec<(NodeId, BootId)>,
    /// Where its instances go, as planned on the state with E closed.
    pub plan: Plan,
}

impl CloseSession {
    /// What R7 judges: the close without its plan.
    #[must_use]
    pub fn proof(&self) -> crate::lease::close::CloseSession {
        crate::lease::close::CloseSession {
            session: self.session,
            membership: self.membership,
            reopens: self.reopens,
            promises: self.promises.clone(),
        }
    }
}

/// See [`Command::Stopped`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// The slot.
    pub slot: SlotId,
    /// The node that ended it.
    pub node: NodeId,
    /// Under which session (exclusive slots).
    pub session: Option<SessionId>,
    /// Which placement.
    pub generation: Generation,
    /// Why it ended.
    pub why: StopCause,
}

/// Why an instance ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// As revoked.
    Revoked,
    /// It failed too often here, or could not be started.
    Failed {
        /// In words, with the cause: exit status, signal, missing program.
        message: String,
    },
}

/// See [`Command::Observe`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The slot.
    pub slot: SlotId,
    /// Who observed it.
    pub node: NodeId,
    /// Which placement.
    pub generation: Generation,
    /// Its state.
    pub state: InstanceState,
    /// Restarts on this node under this placement.
    pub restarts: u32,
    /// In words, when there is something to say.
    pub message: Option<String>,
}

/// A join token's terms. The token itself is never stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenGrant {
    /// The public half of the token, by which it is listed and revoked.
    pub id: String,
    /// BLAKE3 of the whole token.
    pub hash: [u8; 32],
    /// What joins with it.
    pub role: Role,
    /// No use after that.
    pub expires: Stamp,
    /// How often it can still be used.
    pub uses: u32,
}
