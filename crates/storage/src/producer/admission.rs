//! Admission of transactions (Kafka: `VerificationGuard`, `VerificationStateEntry`): the first batch of a transaction needs one.
//!
//! The tricky idea is the race that it closes. Before the first batch of a transaction is appended, its coordinator is asked whether the
//! partition belongs to it, which takes time. If the transaction ends meanwhile, its marker takes the admission away, so that nothing
//! can be appended behind the marker and stay undecided for ever.

use std::collections::BTreeMap;

use ottla_protocol::records::BatchHeader;

/// Permission to append the first batch of a transaction, once its coordinator has agreed. Never the same twice for one log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission(u64);

impl Admission {
    /// Which one it is, of its log.
    pub fn number(self) -> u64 {
        self.0
    }
}

/// A producer that wants to begin a transaction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Applicant {
    admission: Admission,
    /// The lowest sequence number that it came with: a later one must not get in first.
    lowest_sequence: i32,
    /// Whether every transaction has an epoch of its own (transaction version 2).
    pub bumps_epoch: bool,
    since: i64,
}

/// Who waits to begin a transaction, by producer id and epoch: a late batch of an epoch before does not use up what its producer has
/// applied for anew. Not in snapshots: who waits when the node dies asks again.
#[derive(Debug, Clone, Default)]
pub(super) struct Admissions {
    by_producer: BTreeMap<(i64, i16), Applicant>,
    last: u64,
}

impl Admissions {
    /// The admission that a producer has to be appended with; the same until it is used or taken away.
    pub fn apply(
        &mut self,
        producer_id: i64,
        producer_epoch: i16,
        sequence: i32,
        bumps_epoch: bool,
        now: i64,
    ) -> Admission {
        let applicant = self.by_producer.entry((producer_id, producer_epoch)).or_insert_with(|| {
            self.last += 1;
            let admission = Admission(self.last);
            Applicant { admission, lowest_sequence: sequence, bumps_epoch, since: now }
        });
        applicant.lowest_sequence = applicant.lowest_sequence.min(sequence);
        applicant.admission
    }

    /// Whether a batch that begins a transaction comes with the right admission.
    pub fn admits(&self, header: &BatchHeader, admission: Option<Admission>) -> bool {
        self.get(header).is_some_and(|applicant| Some(applicant.admission) == admission)
    }

    /// The producer of a batch, if it waits to begin a transaction.
    pub fn get(&self, header: &BatchHeader) -> Option<&Applicant> {
        self.by_producer.get(&(header.producer_id, header.producer_epoch))
    }

    /// A transactional batch is in the log: the transaction has begun, or ended.
    pub fn on_batch(&mut self, header: &BatchHeader) {
        if self.by_producer.is_empty() {
            return;
        }
        let (id, epoch) = (header.producer_id, header.producer_epoch);
        // A marker of version 2 carries the epoch of the next transaction, which may be knocking already.
        let is_for_next = |known: i16, applicant: &Applicant| {
            applicant.bumps_epoch && header.is_control() && known == epoch
        };
        let over = self.by_producer.range((id, i16::MIN)..=(id, epoch));
        let over: Vec<(i64, i16)> = over
            .filter(|((_, known), applicant)| !is_for_next(*known, applicant))
            .map(|(producer, _)| *producer)
            .collect();
        for producer in over {
            self.by_producer.remove(&producer);
        }
    }

    pub fn expire(&mut self, now: i64, idle_ms_max: i64) {
        self.by_producer.retain(|_, applicant| now.saturating_sub(applicant.since) < idle_ms_max);
    }
}

impl Applicant {
    /// Whether a batch has to wait for one with a lower sequence number.
    pub fn is_too_early(&self, sequence: i32) -> bool {
        sequence > self.lowest_sequence
    }
}
