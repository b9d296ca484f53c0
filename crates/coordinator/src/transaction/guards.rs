//! The rules on which exactly-once rests, by name, so that a test can take one away and show that it is missed.
//!
//! Without the feature `mutations` there is nothing to take away: [`Guards`] has no content and every question is answered at compile
//! time.

/// A rule of the transaction coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// AddPartitions: only the current producer epoch may add.
    AddChecksEpoch,
    /// AddPartitions: nothing is added while markers are being written.
    AddWaitsForMarkers,
    /// Verification: only what is part of the transaction is admitted.
    VerifyChecksPartition,
    /// Verification: only the current producer epoch is admitted.
    VerifyChecksEpoch,
    /// EndTxn: only the current producer epoch (or, with version 2, a retry of the end before) may end.
    EndChecksEpoch,
    /// EndTxn: a decided transaction is not decided again.
    EndKeepsDecision,
    /// EndTxn: a retry is told the former outcome and does not end the next transaction.
    EndKnowsRetry,
    /// Every end of a transaction takes a new producer epoch.
    EndBumpsEpoch,
    /// InitProducerId: the new producer gets a new epoch.
    InitBumpsEpoch,
    /// InitProducerId: an open transaction of the former producer is aborted first.
    InitAbortsOngoing,
    /// InitProducerId: waits until markers are written.
    InitWaitsForMarkers,
    /// A transaction completes only when every partition has its marker.
    CompleteNeedsAllMarkers,
    /// A coordinator that is loaded writes the markers that are missing.
    LoadResumesMarkers,
    /// A marker that could not be written is tried again.
    MarkersAreRetried,
    /// A transaction that takes too long is aborted.
    TimeoutAborts,
}

/// Which rules are in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Guards {
    #[cfg(feature = "mutations")]
    removed: Option<Guard>,
}

impl Guards {
    /// All rules but one.
    #[cfg(feature = "mutations")]
    pub fn without(guard: Guard) -> Guards {
        Guards { removed: Some(guard) }
    }

    /// Whether a rule is in force.
    #[cfg(feature = "mutations")]
    pub(crate) fn stand(self, guard: Guard) -> bool {
        self.removed != Some(guard)
    }

    /// Whether a rule is in force.
    #[cfg(not(feature = "mutations"))]
    #[inline(always)]
    pub(crate) fn stand(self, _guard: Guard) -> bool {
        true
    }
}
