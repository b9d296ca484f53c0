//! `.txnindex`: the aborted transactions that end in a segment (`TransactionIndex`, `AbortedTxn`).
//!
//! ```text
//! version = 0: i16 | producer id: i64 | first offset: i64 | last offset (the marker's): i64 | last stable offset: i64
//! ```
//!
//! The one tricky idea: entries stand in the order of their markers, and each carries the last stable offset after its marker; once
//! that has passed the end of a fetch, no later entry can matter to it.

const ENTRY_BYTES: usize = 34;

/// A transaction that was aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTxn {
    /// Whose.
    pub producer_id: i64,
    /// The offset of its first record in this log.
    pub first_offset: i64,
    /// The offset of its abort marker.
    pub last_offset: i64,
    /// The last stable offset once the marker was written.
    pub last_stable_offset: i64,
}

pub(crate) fn encode_aborted(txns: &[AbortedTxn]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(txns.len() * ENTRY_BYTES);
    for txn in txns {
        bytes.extend_from_slice(&0i16.to_be_bytes());
        for word in [txn.producer_id, txn.first_offset, txn.last_offset, txn.last_stable_offset] {
            bytes.extend_from_slice(&word.to_be_bytes());
        }
    }
    bytes
}

/// Reads a file's bytes; `None` if they are not a transaction index of the segment at `base_offset`.
pub(crate) fn decode_aborted(bytes: &[u8], base_offset: i64) -> Option<Vec<AbortedTxn>> {
    let (entries, rest) = bytes.as_chunks::<ENTRY_BYTES>();
    if !rest.is_empty() {
        return None;
    }
    let mut txns = Vec::with_capacity(entries.len());
    for [a, b, words @ ..] in entries {
        let (words, _) = words.as_chunks::<8>();
        let [producer_id, first_offset, last_offset, last_stable_offset] = words else { return None };
        let txn = AbortedTxn {
            producer_id: i64::from_be_bytes(*producer_id),
            first_offset: i64::from_be_bytes(*first_offset),
            last_offset: i64::from_be_bytes(*last_offset),
            last_stable_offset: i64::from_be_bytes(*last_stable_offset),
        };
        if i16::from_be_bytes([*a, *b]) != 0 || txn.last_offset < base_offset {
            return None;
        }
        txns.push(txn);
    }
    Some(txns)
}

/// Adds those of a segment's aborted transactions that overlap `start..end`. Says whether later segments cannot add any.
pub(crate) fn collect_aborted(
    txns: &[AbortedTxn],
    start: i64,
    end: i64,
    found: &mut Vec<AbortedTxn>,
) -> bool {
    for txn in txns {
        if txn.last_offset >= start && txn.first_offset < end {
            found.push(*txn);
        }
        if txn.last_stable_offset >= end {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_kafkas_and_the_search_stops_early() {
        let txn = |first_offset, last_offset, last_stable_offset| AbortedTxn {
            producer_id: 9,
            first_offset,
            last_offset,
            last_stable_offset,
        };
        let txns = [txn(0, 10, 11), txn(5, 20, 12), txn(12, 30, 31)];
        let bytes = encode_aborted(&txns);
        assert_eq!(bytes.len(), 3 * 34);
        assert_eq!(bytes[..10], [0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
        assert_eq!(decode_aborted(&bytes, 10).as_deref(), Some(&txns[..]));
        assert_eq!(decode_aborted(&bytes, 11), None);
        assert_eq!(decode_aborted(&bytes[1..], 0), None);
        let mut found = Vec::new();
        assert!(!collect_aborted(&txns[..2], 11, 25, &mut found));
        assert_eq!(found, [txns[1]]);
        found.clear();
        assert!(collect_aborted(&txns, 0, 12, &mut found), "the second entry ends the search");
        assert_eq!(found, txns[..2]);
    }
}
