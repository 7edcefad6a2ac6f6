//! The rules of the lease protocol, each as something that can be removed or weakened.

macro_rules! weakened {
    ($($(#[$doc:meta])* $name:ident = $rule:literal, $what:literal;)*) => {
        /// One rule removed or weakened.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Weakened { $(#[doc = $what] $name),* }

        impl Weakened {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The rule.
            #[must_use]
            pub fn rule(self) -> &'static str {
                match self { $(Self::$name => $rule),* }
            }

            /// What happens instead.
            #[must_use]
            pub fn what(self) -> &'static str {
                match self { $(Self::$name => $what),* }
            }
        }
    };
}

weakened! {
    ClosingAgeIsTtl = "W", "voters give up at age TTL";
    ClosingAgeForgetsOneClock = "W", "voters give up at TTL·(1+ρ): only one of the two clocks is allowed for";
    AcksBetweenAppendAndApply = "R2b", "voters ack while a membership entry is appended but not applied";
    AcksBeforeVoterUp = "R2c", "a restarted voter acks before its VoterUp is applied";
    AcksUnknownSessions = "R2d", "a session that the applied state does not hold open is acked";
    LeaseOnOneAck = "R3", "one ack makes a lease";
    GrantedListForEver = "R3", "the host keeps the list of its grant and counts whatever those voters ack";
    ListOfOneVoterAdopted = "R3", "a list is adopted on one voter's word";
    LeaseFromReceipt = "R3", "the lease counts from the receipt of the ack";
    KillsAtTheDeadline = "R4", "killing starts at the deadline";
    RelativeTimer = "R4", "the shim's timer is relative: it counts from when it is armed";
    FencedByNodeIdentity = "R4", "Fenced is accepted from the node, not from the guard that held the session";
    PromisesNameTheRequestedMembership = "R5", "a promise names the C that was asked for, not the voter's own";
    PromisesNameTheRequestedReopens = "R5", "a promise names the gen that was asked for, not the voter's own";
    PromisesBetweenAppendAndApply = "R5", "a voter promises while a membership entry is appended but not applied";
    PromisesBeforeVoterUp = "R5", "a restarted voter promises before its VoterUp is applied";
    PromisesAtAnyAge = "R5", "promises are given at any age";
    AgeReportTakenForAPromise = "R5", "a voter acks on after its promise";
    CloseOnOnePromise = "R5, R7", "one promise closes";
    NoResetAtStart = "R6", "a voter's start does not reset its ages";
    NoResetAtMembership = "R6", "applying a membership entry does not reset the ages";
    NoResetAtSnapshot = "R6", "installing a snapshot does not reset the ages";
    CloseUnderAnyMembership = "R7", "a close is not compared with the membership at its index";
    CloseWithOldBoots = "R7", "promises of a voter's earlier boot count";
    LateVoterUpTaken = "R8", "a late duplicate of a VoterUp is applied";
    ReopenVoidsNothing = "R9", "promises from before a Reopen count after it";
    ReopenForgetsEveryPromise = "R9", "being told of a Reopen forgets a promise of the same gen";
    HeldSlotAssigned = "R10", "a slot is assigned while an open session holds it";
    AssignmentNamesTheNodeOnly = "R10", "an assignment names the node, not the session";
    StartWithoutALease = "R10", "a guard starts without a valid lease";
    RevokedGenerationStarted = "R10", "a guard starts what it has reported as stopped";
    FailureFreesWithoutRevoke = "R10", "a failure is reported without recording the generation as revoked";
    NewSessionClosesTheOld = "R11", "opening a session closes the former one";
    TasksOutliveTheirGuard = "R11", "tasks go on when their guard dies";
    ClocksStopInPauses = "R12", "a machine is paused so that its clocks stop: the limit of the promise";
}
