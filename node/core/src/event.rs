//! What `apply` tells the world: events for people, in the order of the log.

use crate::id::ServiceName;
use crate::id::{NodeName, Revision, SlotId};
use crate::time::Stamp;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The entry that caused it.
    pub revision: Revision,
    /// When, by the entry's stamp.
    pub time: Stamp,
    /// What kind.
    pub kind: EventKind,
    /// The node it is about.
    pub node: Option<NodeName>,
    /// The service it is about.
    pub service: Option<ServiceName>,
    /// The instance it is about.
    pub instance: Option<SlotId>,
    /// One sentence.
    pub message: String,
}

macro_rules! event_kinds {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// The stable kinds of events.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum EventKind { $($(#[$doc])* $name),* }

        impl EventKind {
            /// All kinds.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The stable name.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),* }
            }
        }
    };
}

event_kinds! {
    /// The cluster was made.
    ClusterCreated,
    /// The control plane's membership changed.
    MembershipChanged,
    /// The cluster's timing changed.
    TimingChanged,
    /// A host joined.
    NodeJoined,
    /// A node left for good.
    NodeLeft,
    /// A node opened a session.
    NodeAlive,
    /// A node's session was closed.
    NodeLost,
    /// A node that a minority gave up was taken back.
    NodeTakenBack,
    /// A node's agent is gone while its guard goes on.
    AgentGone,
    /// A node's agent is there again.
    AgentBack,
    /// An agent described its host anew, or an operator changed the node.
    NodeChanged,
    /// A node is to be emptied.
    DrainStarted,
    /// A drain was ended.
    DrainEnded,
    /// A service was declared or changed.
    ServiceApplied,
    /// A service is gone, or on its way out.
    ServiceRemoved,
    /// A service is to run.
    ServiceStarted,
    /// A service is to stop.
    ServiceStopped,
    /// A service's instances are started anew.
    ServiceRestarted,
    /// A service's count changed.
    ServiceScaled,
    /// A service went back to a former declaration.
    ServiceRolledBack,
    /// An operator wants an instance elsewhere.
    MoveRequested,
    /// An instance was placed.
    InstancePlaced,
    /// An instance is to end.
    InstanceRevoked,
    /// An instance runs.
    InstanceRunning,
    /// An instance changed its state otherwise.
    InstanceChanged,
    /// An instance ended as asked.
    InstanceStopped,
    /// An instance failed.
    InstanceFailed,
    /// An instance was lost with its node.
    InstanceLost,
    /// A join token was made.
    TokenCreated,
    /// A join token was revoked.
    TokenRevoked,
    /// The cluster has a CA, or a new one.
    AuthorityAdded,
    /// An old CA is trusted no longer.
    AuthorityRetired,
    /// A node or user got a certificate.
    CertificateIssued,
    /// Certificates were ended before their time.
    CertificatesRevoked,
    /// A user belongs no longer.
    UserRemoved,
    /// Part of a plan was refused at apply.
    PlanRefused,
    /// A secret was made.
    SecretCreated,
    /// A secret has another value.
    SecretChanged,
    /// A secret was removed.
    SecretRemoved,
    /// Secrets are encrypted with another key.
    SecretKeyChanged,
}
