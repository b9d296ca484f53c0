//! What compaction knows of transactions on its way through a log (`CleanedTransactionMetadata`).
//!
//! The one tricky idea: a marker may go only when nothing of its transaction was met before it on this way. So data goes in one
//! compaction, its marker in a later one, and a reader never sees the data of an aborted transaction without the abort.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ottla_protocol::records::{Batch, BatchHeader, ControlKey, ControlType};

use crate::index::AbortedTxn;

/// What a control batch without compression can hold at most; those of brokers have no codec.
const MARKER_BYTES_MAX: usize = 64 << 10;

/// The transactions that are open at the present place of the walk.
#[derive(Debug)]
pub(crate) struct Transactions {
    /// Aborted transactions that begin further on, by first offset.
    ahead: VecDeque<AbortedTxn>,
    /// By producer; and whether any of its batches was met.
    aborted: BTreeMap<i64, (AbortedTxn, bool)>,
    /// Producers of which a batch of a committed transaction was met.
    committed: BTreeSet<i64>,
    /// Aborted transactions whose marker stays, since they were last taken.
    kept: Vec<AbortedTxn>,
}

impl Transactions {
    /// Before the first batch. `aborted` are all aborted transactions of the stretch, in any order.
    pub(crate) fn new(mut aborted: Vec<AbortedTxn>) -> Transactions {
        aborted.sort_by_key(|txn| txn.first_offset);
        Transactions {
            ahead: aborted.into(),
            aborted: BTreeMap::new(),
            committed: BTreeSet::new(),
            kept: Vec::new(),
        }
    }

    fn advance(&mut self, offset: i64) {
        while let Some(txn) = self.ahead.pop_front_if(|txn| txn.first_offset <= offset) {
            self.aborted.entry(txn.producer_id).or_insert((txn, false));
        }
    }

    /// Steps over a batch of data, and says whether it was aborted.
    pub(crate) fn on_data(&mut self, header: &BatchHeader) -> bool {
        self.advance(header.last_offset());
        if !header.is_transactional() {
            return false;
        }
        match self.aborted.get_mut(&header.producer_id) {
            Some((_, met)) => {
                *met = true;
                true
            }
            None => {
                self.committed.insert(header.producer_id);
                false
            }
        }
    }

    /// Steps over a control batch, and says whether nothing depends on it any more. `None`: it can not be read.
    pub(crate) fn on_control(&mut self, batch: &Batch<'_>) -> Option<bool> {
        self.advance(batch.last_offset());
        if batch.record_count == 0 {
            return Some(true);
        }
        let records = batch.records(MARKER_BYTES_MAX).ok()?;
        let record = records.iter().next()?.ok()?;
        Some(match ControlKey::read(record.key).ok()?.control_type() {
            Some(ControlType::Abort) => match self.aborted.remove(&batch.producer_id) {
                Some((txn, true)) => {
                    self.kept.push(txn);
                    false
                }
                _ => true,
            },
            Some(ControlType::Commit) => !self.committed.remove(&batch.producer_id),
            _ => false,
        })
    }

    /// The entries for the transaction index of the segment that was just walked over.
    pub(crate) fn take_kept(&mut self) -> Vec<AbortedTxn> {
        std::mem::take(&mut self.kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_protocol::records::{BatchOptions, EndTxnMarker, end_txn_batch};

    fn data(base_offset: i64, producer_id: i64) -> BatchHeader {
        let options =
            BatchOptions { producer_id, producer_epoch: 0, transactional: true, ..BatchOptions::default() };
        let mut builder = ottla_protocol::records::BatchBuilder::new(base_offset, options);
        builder.push(0, Some(b"k"), Some(b"v"), &[]);
        BatchHeader::read(&builder.finish()).unwrap()
    }

    fn marker(transactions: &mut Transactions, base_offset: i64, producer_id: i64, commit: bool) -> bool {
        let bytes =
            end_txn_batch(base_offset, 0, commit, EndTxnMarker { coordinator_epoch: 0 }, producer_id, 0, 0);
        transactions.on_control(&Batch::parse(&bytes).unwrap()).unwrap()
    }

    #[test]
    fn a_marker_may_go_when_its_data_is_gone() {
        let txn = |producer_id, first_offset, last_offset| AbortedTxn {
            producer_id,
            first_offset,
            last_offset,
            last_stable_offset: last_offset + 1,
        };
        let mut walk = Transactions::new(vec![txn(7, 4, 6), txn(7, 0, 2)]);
        assert!(walk.on_data(&data(0, 7)), "aborted");
        assert!(!walk.on_data(&data(1, 8)), "committed later");
        assert!(!marker(&mut walk, 2, 7, false), "its data was met");
        assert_eq!(walk.take_kept(), [txn(7, 0, 2)]);
        assert!(!walk.on_data(&data(3, 7)), "another transaction of the same producer");
        assert!(!marker(&mut walk, 3, 7, true));
        assert!(marker(&mut walk, 6, 7, false), "nothing of the second aborted one is left");
        assert!(!marker(&mut walk, 7, 8, true));
        assert!(marker(&mut walk, 8, 8, true), "nothing is left of it");
        assert_eq!(walk.take_kept(), []);
    }
}
