//! What agent and guard say to each other over `run_dir/guard.sock`.
//!
//! Frames are a 4-byte big-endian length and a JSON document ([`codec`]). The client sends
//! [`RequestFrame`]s, the guard answers each with one [`GuardFrame::Reply`] of the same id, in any order,
//! and pushes [`GuardFrame::Event`]s to every client that subscribed in its [`Hello`].
//! Unknown fields are ignored, so fields may be added in either direction; an unknown request is answered
//! with [`Refusal::UnknownRequest`]. A change that breaks this raises [`PROTOCOL_HIGHEST`].

pub mod codec;
mod env;
mod refusal;
pub mod task;

use muster_core::id::{BootId, Generation, MembershipId, SessionId, SlotId, TaskName};
use muster_core::lease::Grant;
use serde::{Deserialize, Serialize};

use crate::datagram::Rejections;

pub use env::EnvText;
pub use refusal::Refusal;
pub use task::{Binding, ExitHow, Limits, LogSpec, TaskReport, TaskSpec, TaskState};

/// The lowest protocol version that this build speaks.
pub const PROTOCOL_LOWEST: u32 = 1;
/// The highest protocol version that this build speaks.
pub const PROTOCOL_HIGHEST: u32 = 1;
/// The largest frame, in bytes, in either direction.
pub const FRAME_BYTES_MAX: usize = 1 << 20;

/// A request with the client's number for it, which the reply repeats.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestFrame {
    /// Chosen by the client.
    pub id: u64,
    /// What is asked.
    pub request: Request,
}

/// Anything that the guard sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardFrame {
    /// The answer to one request.
    Reply {
        /// The request's number.
        id: u64,
        /// What came of it.
        outcome: Outcome,
    },
    /// Something happened.
    Event(Event),
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Done.
    Done(Reply),
    /// Refused; nothing was changed.
    Refused(Refusal),
}

/// What a client may ask. All but `Hello`, `LeaseStatus` and `ListTasks` need the agent's role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Must come first. Answered by [`Reply::Welcome`].
    Hello(Hello),
    /// Makes the key for the next session, or repeats it until a session used it. [`Reply::Prepared`].
    PrepareSession,
    /// The cluster opened this session for the prepared key: heartbeats begin. [`Reply::Ok`]; refused with
    /// [`Refusal::SessionEnding`] (retry) while something of the session before is still being killed.
    OpenSession(SessionGrant),
    /// The session ends in order: exclusive tasks are killed, then Fenced is sent. [`Reply::Ok`] at once;
    /// progress comes as [`Event::LeasePhase`].
    CloseSession {
        /// The session to end.
        session: SessionId,
    },
    /// Starts one task. [`Reply::Started`] once the command was executed, or why it could not be.
    StartTask(Box<StartTask>),
    /// Sends the task its stop signal, and SIGKILL to all of it after the grace. [`Reply::Ok`] once the
    /// signal is sent; the end comes as [`Event::TaskExited`].
    StopTask {
        /// The slot.
        slot: SlotId,
        /// The task.
        task: TaskName,
        /// Time between the stop signal and SIGKILL.
        grace_ms: u64,
    },
    /// Sends one signal to the task's main process.
    Signal {
        /// The slot.
        slot: SlotId,
        /// The task.
        task: TaskName,
        /// The signal's number.
        signal: i32,
    },
    /// Kills what is left of the slot and remembers the generation as revoked. [`Reply::Ok`] only when
    /// nothing of the slot runs any more (LEASES.md R10).
    Revoke {
        /// The slot.
        slot: SlotId,
        /// Tasks of this and any lower generation may not be started again.
        generation: Generation,
    },
    /// Drops the reports of the slot's exited tasks; refused while one runs. Revoked generations are kept.
    ForgetSlot {
        /// The slot.
        slot: SlotId,
    },
    /// [`Reply::Tasks`]: everything that runs, and what has ended and was not forgotten.
    ListTasks,
    /// Runs a command inside the task's namespaces as the task's user: a health check. [`Reply::Checked`].
    RunCheck {
        /// The slot.
        slot: SlotId,
        /// The task.
        task: TaskName,
        /// The command.
        argv: Vec<String>,
        /// It is killed after this time.
        timeout_ms: u64,
    },
    /// [`Reply::Lease`].
    LeaseStatus,
    /// R13: a promotable instance becomes or stops being primary. To `true` its kernel timer is armed before
    /// the reply, and a valid lease of `session` is needed; only for tasks started as [`Binding::Promotable`].
    SetPrimary {
        /// The slot.
        slot: SlotId,
        /// The session that holds the primary role.
        session: SessionId,
        /// Whether the lease's end must kill it.
        primary: bool,
    },
    /// R13: whether a slot that is not exclusive is killed too when the lease ends.
    SetQuorumLossPolicy {
        /// The slot.
        slot: SlotId,
        /// True: killed at deadline − K.
        stop: bool,
    },
    /// Stops all tasks with their grace, sends Fenced and ends the guard.
    StopGuard {
        /// Time for the tasks between their stop signal and SIGKILL.
        grace_ms: u64,
    },
    /// Upgrades the guard in place. The connection stays open; [`Reply::Ok`] comes from the new program.
    Reload {
        /// The new binary; it is tried with `--check-handover` first.
        exe: String,
    },
}

/// The first message of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Lowest version it speaks.
    pub lowest: u32,
    /// Highest version it speaks.
    pub highest: u32,
    /// What it wants to be. The newest agent wins: an older one becomes an observer.
    pub role: ClientRole,
    /// Whether events shall be pushed to it.
    pub events: bool,
    /// For the guard's log: name and version of the client.
    #[serde(default)]
    pub name: String,
}

/// What a client is to the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientRole {
    /// Gives orders; there is one. Its presence is told to the voters in each heartbeat.
    Agent,
    /// Only looks.
    Observer,
}

/// What stands behind this host's placements (LEASES.md, 'Enforcement').
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Enforcement {
    /// PID namespace and kernel timer.
    Kernel,
    /// Neither namespaces nor privileges: processes are found and killed one by one.
    User,
}

/// An open session, as the cluster granted it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionGrant {
    /// The guard's boot that the session was opened with; another one is refused ([`Refusal::WrongBoot`]).
    pub guard_boot: BootId,
    /// The session, its timing and its voters.
    pub grant: Grant,
}

/// A task to be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartTask {
    /// Its slot.
    pub slot: SlotId,
    /// Its task.
    pub task: TaskName,
    /// The placement.
    pub generation: Generation,
    /// The session under which it was placed. Checked for [`Binding::Exclusive`] and `stop_on_quorum_loss`.
    pub session: SessionId,
    /// How it hangs on the lease.
    pub binding: Binding,
    /// R13, for a task that is not exclusive: it too is killed when the lease ends.
    #[serde(default)]
    pub stop_on_quorum_loss: bool,
    /// What to run.
    pub spec: TaskSpec,
}

/// The answer to a request that was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Done, nothing to tell.
    Ok,
    /// To `Hello`.
    Welcome(Welcome),
    /// To `PrepareSession`.
    Prepared(Prepared),
    /// To `StartTask`: the command runs.
    Started {
        /// Process id of the task's command, as the host sees it.
        pid: i32,
        /// What the guard could not do and went on without, for example a /proc of the task's own.
        notes: Vec<String>,
    },
    /// To `ListTasks`.
    Tasks(Vec<TaskReport>),
    /// To `RunCheck`.
    Checked {
        /// How the command ended; `None`: it ran out of time and was killed.
        how: Option<ExitHow>,
    },
    /// To `LeaseStatus`.
    Lease(LeaseStatus),
}

/// To a client that said `Hello`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version spoken from now on.
    pub version: u32,
    /// Version of the guard's program.
    pub program: String,
    /// This start of the guard; it outlives an upgrade in place.
    pub guard_boot: BootId,
    /// What this host can enforce.
    pub enforcement: Enforcement,
    /// The lease now.
    pub lease: LeaseStatus,
    /// The tasks now.
    pub tasks: Vec<TaskReport>,
}

/// What the agent puts into the cluster's `OpenSession` command (LEASES.md R11).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// This start of the guard.
    pub guard_boot: BootId,
    /// The session's key, 32 bytes as hexadecimal digits. For voters only: never write it to this host's disk.
    pub key: String,
    /// What this host can enforce.
    pub enforcement: Enforcement,
    /// What runs here.
    pub inventory: Vec<InventoryEntry>,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared")
            .field("guard_boot", &self.guard_boot)
            .field("key", &"(secret)")
            .field("enforcement", &self.enforcement)
            .field("inventory", &self.inventory)
            .finish()
    }
}

/// A slot of which something runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventoryEntry {
    /// The slot.
    pub slot: SlotId,
    /// The generation that runs.
    pub generation: Generation,
    /// Whether it is bound to the lease.
    pub exclusive: bool,
}

/// Where the lease stands. The order is that of a session's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeasePhase {
    /// No session was opened since this guard started.
    #[default]
    None,
    /// A session is open, no majority has acked yet.
    Waiting,
    /// Exclusive tasks may run.
    Valid,
    /// The end has come: exclusive tasks are being killed. Irrevocable.
    Killing,
    /// Nothing exclusive is left; Fenced is being sent.
    Lapsed,
    /// A voter answered Fenced, or the session was closed by the cluster, and nothing exclusive is left.
    Ended,
}

/// The lease at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseStatus {
    /// The current or last session.
    pub session: Option<SessionId>,
    /// Its phase.
    pub phase: LeasePhase,
    /// Time until the deadline (0 unless valid).
    pub remaining_ms: u64,
    /// Smallest time until the kill that was seen just before a renewal, since the session began.
    pub headroom_ms: u64,
    /// The membership that the lease counts by.
    pub membership: MembershipId,
    /// Heartbeat datagrams sent in this session.
    pub sent: u64,
    /// Acks accepted in this session.
    pub acked: u64,
    /// Datagrams that were passed over in this session.
    pub rejected: u64,
    /// The same by kind.
    #[serde(default)]
    pub rejections: Rejections,
    /// Datagrams that the kernel dropped because the receive buffer was full.
    pub overflowed: u64,
    /// Whether the guard has real-time priority.
    pub realtime: bool,
    /// The device that resets the host if the guard's kernel hangs; `None`: not configured.
    #[serde(default)]
    pub watchdog: Option<String>,
}

/// Something that the guard tells unasked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A task's command was executed.
    TaskStarted {
        /// Its slot.
        slot: SlotId,
        /// Its generation.
        generation: Generation,
        /// Its name.
        task: TaskName,
        /// Its process id, as the host sees it.
        pid: i32,
    },
    /// A task ended, and nothing of it is left.
    TaskExited {
        /// Its slot.
        slot: SlotId,
        /// Its generation.
        generation: Generation,
        /// Its name.
        task: TaskName,
        /// How.
        how: ExitHow,
        /// When the guard saw it, by `CLOCK_BOOTTIME`.
        at_boottime_ns: u64,
    },
    /// The lease's phase changed.
    LeasePhase {
        /// Which session.
        session: SessionId,
        /// Its new phase.
        phase: LeasePhase,
    },
    /// The controller wants this host to stop its exclusive tasks in order and to end the session.
    ReleaseRequested {
        /// Which session.
        session: SessionId,
    },
}
