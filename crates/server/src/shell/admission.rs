//! A budget of bytes that the whole node shares, such as memory for requests that are being received.
//!
//! The tricky idea: admission is not strict. As long as anything is left, even the largest request is admitted, so the budget may
//! be overdrawn by one request; with a strict rule a stream of small requests would starve a large one for ever.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

/// The budget; clones share it.
#[derive(Debug, Clone)]
pub struct Admission {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    available: AtomicI64,
    /// Whether `waiting` may hold someone; spares those who release a lock.
    is_awaited: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

/// Bytes taken from the budget; dropping it gives them back.
#[derive(Debug)]
pub struct Permit {
    bytes: i64,
    shared: Arc<Shared>,
}

impl Admission {
    /// A budget of `total` bytes.
    pub fn new(total: usize) -> Admission {
        let total = i64::try_from(total).unwrap_or(i64::MAX);
        Admission {
            shared: Arc::new(Shared {
                available: AtomicI64::new(total),
                is_awaited: AtomicBool::new(false),
                waiting: Mutex::new(Vec::new()),
            }),
        }
    }

    /// Takes `bytes`, unless nothing at all is left.
    pub fn admit(&self, bytes: usize) -> Option<Permit> {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX / 4);
        let taken = self.shared.available.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |available| {
            (available > 0).then(|| available - bytes)
        });
        taken.ok().map(|_| Permit { bytes, shared: Arc::clone(&self.shared) })
    }

    /// Takes `bytes`, whatever is left.
    pub fn take(&self, bytes: usize) -> Permit {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX / 4);
        self.shared.available.fetch_sub(bytes, Ordering::SeqCst);
        Permit { bytes, shared: Arc::clone(&self.shared) }
    }

    /// Whether nothing is left.
    pub fn is_exhausted(&self) -> bool {
        self.shared.available.load(Ordering::SeqCst) <= 0
    }

    /// Has `waker` woken when something is given back. Returns false, and does nothing, when something is left already.
    pub fn wait(&self, waker: &Waker) -> bool {
        let mut waiting = self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push(waker.clone());
        self.shared.is_awaited.store(true, Ordering::SeqCst);
        // Whoever gave back before the flag was up did not look here; what it gave back is seen now.
        if self.is_exhausted() {
            return true;
        }
        waiting.pop();
        false
    }

    /// Bytes left; negative while overdrawn.
    #[cfg(test)]
    pub fn available(&self) -> i64 {
        self.shared.available.load(Ordering::SeqCst)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let before = self.shared.available.fetch_add(self.bytes, Ordering::SeqCst);
        if before.saturating_add(self.bytes) > 0 && self.shared.is_awaited.swap(false, Ordering::SeqCst) {
            // All are woken: a woken connection may close instead of using what was given back.
            let waiting =
                std::mem::take(&mut *self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn overdrawn_by_one_request_at_most() {
        let admission = Admission::new(100);
        let small = admission.admit(99).expect("room");
        let large = admission.admit(1_000_000).expect("something is left");
        assert!(admission.admit(1).is_none());
        assert!(admission.is_exhausted());
        drop(small);
        assert!(admission.admit(1).is_none());
        drop(large);
        assert_eq!(admission.available(), 100);
    }

    #[test]
    fn waiting_ends_when_bytes_return() {
        let (admission, count) = (Admission::new(10), Arc::new(Count::default()));
        let waker = Waker::from(Arc::clone(&count));
        assert!(!admission.wait(&waker), "nothing to wait for");
        let permit = admission.admit(20).expect("room");
        assert!(admission.wait(&waker));
        assert_eq!(count.0.load(Ordering::SeqCst), 0);
        drop(permit);
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        drop(admission.admit(1));
        assert_eq!(count.0.load(Ordering::SeqCst), 1, "woken once");
    }
}
