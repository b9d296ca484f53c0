//! The conditions on which the choice of leaders rests, by name, so that a test can take one away and show that it is missed.

ottla_guard::guards! {
    /// A condition without which somebody leads, or may lead, who lacks committed records.
    pub enum Guard {
        /// All of them.
        ALL {
            /// A proposal that was made from an earlier state of the partition is refused.
            ProposalOfThisPartitionEpoch,
            /// Who was restarted since the leader saw it does not join an ISR (KIP-903).
            MemberIsThisLife,
            /// Only who is in sync is elected, or is eligible when nobody is.
            ElectedIsComplete,
            /// Who leaves an ISR stays eligible only while too few are in sync to commit anything.
            EligibleBelowMinIsr,
            /// Who stopped uncleanly is not eligible (KIP-966).
            UncleanIsNotEligible,
            /// A broker stopped cleanly if it knows the epoch that it had.
            CleanKnowsItsEpoch,
            /// A broker's next life leaves the ISRs of the one before.
            NextLifeLeavesIsr,
            /// A broker's next life is fenced until it has caught up with its registration.
            NextLifeIsFenced,
            /// Only a broker that is alive leads.
            ElectedIsAlive,
            /// Who is fenced, or about to stop, does not join an ISR (KIP-841).
            MemberIsActive,
            /// A broker that is fenced leaves its ISRs.
            FencedLeavesIsr,
            /// Who is eligible is elected only when nobody is in sync.
            EligibleWhenIsrIsEmpty,
            /// Who is elected from among the eligible is the only one in sync.
            ElectedFromEligibleIsAlone,
            /// The last leader is believed only when nobody better is left.
            LastLeaderIsLastResort,
        }
    }
}
