//! The newest batches of a log, in memory: tailing readers never touch the disk.
//!
//! The one tricky idea: it works only while somebody reads at the tail. Nobody gains from batches that are kept and thrown away unread: they
//! only push other things out of the processor's cache. A reader that meets the end of the log switches it on for the batches after it
//! (what came before is in the page cache); so many bytes later without another one it is off again.
//!
//! A large batch is kept as the slice of the request's frame that it came in, with its patched start before it, so nothing is copied; a
//! small one is copied, so that it does not keep alive the whole buffer that it was received in.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use ottla_protocol::records::BatchHeader;

use crate::read::Slice;
use ottla_protocol::Chain;

/// Batches below this size are copied.
const COPY_BYTES_MAX: usize = 128 << 10;

/// Memory that the tail caches of several logs share. The default is a budget without a limit, for one log.
#[derive(Debug, Clone)]
pub struct TailBudget {
    bytes_max: usize,
    used: Arc<AtomicUsize>,
}

impl TailBudget {
    /// A budget of `bytes_max` bytes. Clones share it.
    pub fn new(bytes_max: usize) -> TailBudget {
        TailBudget { bytes_max, used: Arc::default() }
    }

    fn add(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    fn subtract(&self, bytes: usize) {
        let before = self.used.fetch_sub(bytes, Ordering::Relaxed);
        assert!(before >= bytes, "a cache gives back what it took");
    }

    fn is_exceeded(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.bytes_max
    }
}

impl Default for TailBudget {
    fn default() -> TailBudget {
        TailBudget::new(usize::MAX)
    }
}

impl PartialEq for TailBudget {
    fn eq(&self, other: &TailBudget) -> bool {
        Arc::ptr_eq(&self.used, &other.used)
    }
}

#[derive(Debug)]
struct Cached {
    base_offset: i64,
    last_offset: i64,
    size: usize,
    /// The whole batch if it was copied, otherwise its patched start.
    front: Bytes,
    rest: Option<Bytes>,
}

/// A run of batches that ends at the log's end.
#[derive(Debug)]
pub(crate) struct TailCache {
    batches: VecDeque<Cached>,
    bytes: usize,
    bytes_max: usize,
    /// Bytes that are still kept if nobody comes to the end of the log.
    wanted: usize,
    budget: TailBudget,
}

impl Drop for TailCache {
    fn drop(&mut self) {
        self.clear();
    }
}

impl TailCache {
    pub(crate) fn new(bytes_max: usize, budget: TailBudget) -> TailCache {
        TailCache { batches: VecDeque::new(), bytes: 0, bytes_max, wanted: 0, budget }
    }

    pub(crate) fn set_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
        self.evict();
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Somebody has read up to the end of the log and is going to want what comes next.
    pub(crate) fn expect_reader(&mut self) {
        self.wanted = self.bytes_max;
    }

    /// Adds the batch that was just appended: `front` as written, then `rest`. Unless nobody is expected to read it.
    pub(crate) fn push(&mut self, header: &BatchHeader, front: &[u8], rest: &Bytes) {
        let size = front.len() + rest.len();
        let is_wanted = self.wanted > 0;
        self.wanted = self.wanted.saturating_sub(size);
        if size > self.bytes_max || !is_wanted {
            self.clear();
            return;
        }
        let (front, rest) = if size <= COPY_BYTES_MAX {
            let mut copy = BytesMut::with_capacity(size);
            copy.extend_from_slice(front);
            copy.extend_from_slice(rest);
            (copy.freeze(), None)
        } else {
            (Bytes::copy_from_slice(front), Some(rest.clone()))
        };
        let (base_offset, last_offset) = (header.base_offset, header.last_offset());
        if let Some(previous) = self.batches.back() {
            assert!(previous.last_offset < base_offset, "the tail cache must follow the log");
        }
        self.batches.push_back(Cached { base_offset, last_offset, size, front, rest });
        self.bytes += size;
        self.budget.add(size);
        self.evict();
    }

    fn evict(&mut self) {
        // Whoever adds when all are too large gives way; a log that is idle lets go of its cache in other ways.
        while (self.bytes > self.bytes_max || self.budget.is_exceeded())
            && let Some(oldest) = self.batches.pop_front()
        {
            self.forget(&oldest);
        }
    }

    pub(crate) fn clear(&mut self) {
        if self.batches.capacity() == 0 {
            return;
        }
        self.batches = VecDeque::new();
        self.budget.subtract(self.bytes);
        self.bytes = 0;
    }

    fn forget(&mut self, cached: &Cached) {
        self.bytes -= cached.size;
        self.budget.subtract(cached.size);
    }

    /// The log now ends at `offset`.
    pub(crate) fn truncate_to(&mut self, offset: i64) {
        while let Some(newest) = self.batches.pop_back_if(|newest| newest.last_offset >= offset) {
            self.forget(&newest);
        }
    }

    /// Forgets batches below `offset`: they are no longer what the log holds.
    pub(crate) fn forget_below(&mut self, offset: i64) {
        while let Some(oldest) = self.batches.pop_front_if(|oldest| oldest.base_offset < offset) {
            self.forget(&oldest);
        }
    }

    /// The batches from the one that holds `offset` on, if it is here: while they end below `end_offset` and fit into `bytes_max`.
    pub(crate) fn read(
        &self,
        offset: i64,
        bytes_max: usize,
        end_offset: i64,
        min_one: bool,
    ) -> Option<Slice> {
        if self.batches.front()?.base_offset > offset {
            return None;
        }
        let first = self.batches.partition_point(|batch| batch.last_offset < offset);
        if first == self.batches.len() {
            return None;
        }
        let mut slice = Slice { records: Chain::default(), bytes: 0, next_offset: offset };
        for batch in self.batches.range(first..) {
            let fits = slice.bytes + batch.size <= bytes_max || (min_one && slice.bytes == 0);
            if !fits || batch.last_offset >= end_offset {
                break;
            }
            slice.records.push_bytes(batch.front.clone());
            if let Some(rest) = &batch.rest {
                slice.records.push_bytes(rest.clone());
            }
            slice.bytes += batch.size;
            slice.next_offset = batch.last_offset + 1;
        }
        Some(slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_protocol::records::{Batch, BatchBuilder, BatchOptions};

    fn cache(sizes: &[usize], bytes_max: usize) -> TailCache {
        let mut cache = TailCache::new(bytes_max, TailBudget::default());
        cache.wanted = usize::MAX;
        for (offset, size) in sizes.iter().enumerate() {
            let mut builder = BatchBuilder::new(offset as i64, BatchOptions::default());
            builder.push(0, None, Some(&vec![0; *size]), &[]);
            let bytes = Bytes::from(builder.finish());
            let header = *Batch::parse(&bytes).unwrap().header();
            cache.push(&header, &bytes[..16], &bytes.slice(16..));
        }
        cache
    }

    #[test]
    fn serves_whole_batches_within_the_bounds() {
        let cache = cache(&[100, 100, 20_000, 100], 1 << 20);
        let read = |offset, max, end, one| {
            cache.read(offset, max, end, one).map(|slice| (slice.next_offset, slice.bytes))
        };
        let small = cache.batches[0].size;
        assert_eq!(read(0, usize::MAX, 4, false).unwrap().0, 4);
        assert_eq!(read(0, usize::MAX, 3, false).unwrap().0, 3, "the batch at the bound is not returned");
        assert_eq!(read(1, small, 4, false), Some((2, small)));
        assert_eq!(read(1, small - 1, 4, false), Some((1, 0)));
        assert_eq!(read(1, small - 1, 4, true), Some((2, small)));
        assert_eq!(read(4, 1, 4, true), None, "the end is not in the cache");
    }

    #[test]
    fn forgets_the_oldest_and_what_is_truncated() {
        let mut cache = cache(&[100, 100, 100, 100], 400);
        assert!(cache.bytes() <= 400);
        assert!(cache.read(0, 1000, 4, true).is_none());
        assert!(cache.read(3, 1000, 4, true).is_some());
        cache.truncate_to(3);
        assert!(cache.read(3, 1000, 4, true).is_none());
        cache.set_bytes_max(0);
        assert_eq!(cache.bytes(), 0);
    }

    #[test]
    fn nothing_is_kept_that_nobody_waits_for() {
        let mut cache = cache(&[100], 1000);
        let batch = |offset| {
            let mut builder = BatchBuilder::new(offset, BatchOptions::default());
            builder.push(0, None, Some(&[0; 339]), &[]);
            Bytes::from(builder.finish())
        };
        let push = |cache: &mut TailCache, offset| {
            let bytes = batch(offset);
            cache.push(Batch::parse(&bytes).unwrap().header(), &bytes[..16], &bytes.slice(16..));
            cache.batches.len()
        };
        cache.wanted = 0;
        assert_eq!(push(&mut cache, 1), 0, "a gap: what is older goes as well");
        cache.expect_reader();
        let kept: Vec<usize> = (2..7).map(|offset| push(&mut cache, offset)).collect();
        assert_eq!(kept, [1, 2, 2, 0, 0], "for about as many bytes as there is room for");
        assert_eq!(cache.bytes(), 0);
    }

    #[test]
    fn a_batch_above_the_budget_empties_it() {
        let cache = cache(&[100, 5000], 1000);
        assert_eq!((cache.bytes(), cache.batches.len()), (0, 0));
    }
}
