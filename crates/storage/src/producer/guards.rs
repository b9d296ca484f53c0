//! The rules of the producers' state by name, so that a test can take one away and show that it is missed. Without the feature
//! `mutations` there is nothing to take away.

/// A rule of the producers' state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogGuard {
    /// A batch of an older producer epoch is refused.
    BatchEpoch,
    /// The first batch of a transaction needs an admission.
    Admission,
    /// A marker takes admissions away.
    MarkerTakesAdmission,
    /// With transaction version 2 a marker must bring a new epoch.
    MarkerEpoch,
    /// A marker of an older coordinator is refused.
    CoordinatorEpoch,
    /// Sequence numbers follow one another.
    Sequence,
    /// A batch that was sent again is not appended again.
    Duplicate,
}

/// Which rules are in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogGuards {
    #[cfg(feature = "mutations")]
    removed: Option<LogGuard>,
}

impl LogGuards {
    /// All rules.
    #[cfg(feature = "mutations")]
    pub const ALL: LogGuards = LogGuards { removed: None };

    /// All rules but one.
    #[cfg(feature = "mutations")]
    pub fn without(guard: LogGuard) -> LogGuards {
        LogGuards { removed: Some(guard) }
    }

    /// Whether a rule is in force.
    #[cfg(feature = "mutations")]
    pub(super) fn stand(self, guard: LogGuard) -> bool {
        self.removed != Some(guard)
    }

    /// Whether a rule is in force.
    #[cfg(not(feature = "mutations"))]
    #[inline(always)]
    pub(super) fn stand(self, _guard: LogGuard) -> bool {
        true
    }
}

#[cfg(feature = "mutations")]
impl LogGuard {
    /// All of them.
    pub const ALL: [LogGuard; 7] = [
        LogGuard::BatchEpoch,
        LogGuard::Admission,
        LogGuard::MarkerTakesAdmission,
        LogGuard::MarkerEpoch,
        LogGuard::CoordinatorEpoch,
        LogGuard::Sequence,
        LogGuard::Duplicate,
    ];
}
