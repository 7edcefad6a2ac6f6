//! Runs that must be caught: each breaks one thing that a promise rests on.

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The disk says that a write is synced before it is.
    UnsyncedLog,
    /// The disk forgets at each start which vote was given.
    ForgottenVote,
    /// All hosts but the first have clocks that gain 30 %: far outside of what LEASES.md allows.
    FastClocks,
    /// A read is answered from the state that the asked node happens to have.
    LocalReads,
    /// The guard lets its tasks live when the lease ends (R4).
    SparedTasks,
    /// The guard starts exclusive tasks without a valid lease, of whatever session (R10).
    LeaselessStart,
}

impl Mutant {
    /// All of them with their names.
    pub const ALL: [(&'static str, Self); 6] = [
        ("unsynced-log", Self::UnsyncedLog),
        ("forgotten-vote", Self::ForgottenVote),
        ("fast-clocks", Self::FastClocks),
        ("local-reads", Self::LocalReads),
        ("spared-tasks", Self::SparedTasks),
        ("leaseless-start", Self::LeaselessStart),
    ];

    /// The one with that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, mutant)| *mutant)
    }

    pub(crate) fn spares_tasks(self) -> bool {
        self == Self::SparedTasks
    }

    pub(crate) fn starts_without_lease(self) -> bool {
        self == Self::LeaselessStart
    }
}
