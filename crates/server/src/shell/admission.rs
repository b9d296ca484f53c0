//! A budget of bytes that the whole node shares, such as memory for requests that are being received.
//!
//! The tricky idea is what happens when nothing is left. Whoever holds a part and needs more could then wait for others who wait in
//! turn; so one at a time may overdraw the budget, comes to its end, and passes that right on. Small things never wait for large
//! ones, and what is overdrawn is bounded by one request.

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
    /// Whether somebody has the right to overdraw.
    is_overdraft_given: AtomicBool,
    /// Whether `waiting` may hold someone; spares those who give back a lock.
    is_awaited: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

/// Bytes taken from the budget; dropping it gives them back.
#[derive(Debug)]
pub struct Permit {
    bytes: i64,
    has_overdraft: bool,
    shared: Arc<Shared>,
}

impl Admission {
    /// A budget of `total` bytes.
    pub fn new(total: usize) -> Admission {
        Admission {
            shared: Arc::new(Shared {
                available: AtomicI64::new(i64::try_from(total).unwrap_or(i64::MAX)),
                is_overdraft_given: AtomicBool::new(false),
                is_awaited: AtomicBool::new(false),
                waiting: Mutex::new(Vec::new()),
            }),
        }
    }

    /// Takes `bytes`, unless nothing at all is left and somebody else has the right to overdraw.
    pub fn admit(&self, bytes: usize) -> Option<Permit> {
        let mut permit = self.take(0);
        permit.extend(bytes).then_some(permit)
    }

    /// Takes `bytes`, whatever is left.
    pub fn take(&self, bytes: usize) -> Permit {
        let bytes = signed(bytes);
        self.shared.available.fetch_sub(bytes, Ordering::SeqCst);
        Permit { bytes, has_overdraft: false, shared: Arc::clone(&self.shared) }
    }

    /// Whether nothing is left.
    pub fn is_exhausted(&self) -> bool {
        self.shared.is_exhausted()
    }

    /// After [`Admission::admit`] or [`Permit::extend`] refused: has `waker` woken when to try again. Returns false, and does
    /// nothing, when that is now.
    pub fn wait(&self, waker: &Waker) -> bool {
        self.shared.wait_while(waker, |shared| {
            shared.is_exhausted() && shared.is_overdraft_given.load(Ordering::SeqCst)
        })
    }

    /// Has `waker` woken when something is left. Returns false, and does nothing, when that is so.
    pub fn wait_while_exhausted(&self, waker: &Waker) -> bool {
        self.is_exhausted() && self.shared.wait_while(waker, Shared::is_exhausted)
    }

    /// Bytes left; negative while overdrawn.
    #[cfg(test)]
    pub fn available(&self) -> i64 {
        self.shared.available.load(Ordering::SeqCst)
    }
}

impl Permit {
    /// Takes `more` bytes. False: nothing is left, and somebody else has the right to overdraw.
    pub fn extend(&mut self, more: usize) -> bool {
        let more = signed(more);
        let taken = self.shared.available.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |available| {
            (available > 0).then(|| available - more)
        });
        if taken.is_err() {
            self.has_overdraft |= !self.shared.is_overdraft_given.swap(true, Ordering::SeqCst);
            if !self.has_overdraft {
                return false;
            }
            self.shared.available.fetch_sub(more, Ordering::SeqCst);
        }
        self.bytes += more;
        true
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shared.available.fetch_add(self.bytes, Ordering::SeqCst);
        if self.has_overdraft {
            self.shared.is_overdraft_given.store(false, Ordering::SeqCst);
        }
        if self.has_overdraft || !self.shared.is_exhausted() {
            self.shared.wake_all();
        }
    }
}

impl Shared {
    fn is_exhausted(&self) -> bool {
        self.available.load(Ordering::SeqCst) <= 0
    }

    fn wait_while(&self, waker: &Waker, condition: impl Fn(&Shared) -> bool) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push(waker.clone());
        self.is_awaited.store(true, Ordering::SeqCst);
        // Whoever gave back before the flag was up did not look here; what it gave back is seen now.
        if condition(self) {
            return true;
        }
        waiting.pop();
        false
    }

    /// Wakes all who wait: a woken connection may close instead of using what was given back.
    fn wake_all(&self) {
        if self.is_awaited.swap(false, Ordering::SeqCst) {
            let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

fn signed(bytes: usize) -> i64 {
    // Sums of a few of these do not overflow.
    i64::try_from(bytes).unwrap_or(i64::MAX).min(i64::MAX / 4)
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
    fn one_at_a_time_overdraws() {
        let admission = Admission::new(100);
        let mut first = admission.admit(99).expect("room");
        let mut second = admission.admit(1000).expect("something is left");
        assert!(admission.is_exhausted());
        assert!(second.extend(5000), "nobody else overdraws");
        assert!(second.extend(5000), "it still may");
        assert!(!first.extend(1));
        assert!(admission.admit(1).is_none());
        drop(second);
        assert_eq!(admission.available(), 1);
        assert!(first.extend(10));
        assert!(first.extend(10), "its turn to overdraw");
        assert!(admission.admit(1).is_none());
        drop(first);
        assert_eq!(admission.available(), 100);
        assert!(admission.admit(1).is_some());
    }

    #[test]
    fn waiting_ends_when_bytes_or_the_right_to_overdraw_return() {
        let (admission, count) = (Admission::new(10), Arc::new(Count::default()));
        let waker = Waker::from(Arc::clone(&count));
        let woken = || count.0.load(Ordering::SeqCst);
        assert!(!admission.wait(&waker) && !admission.wait_while_exhausted(&waker), "nothing to wait for");
        let large = admission.admit(20).expect("room");
        assert!(!admission.wait(&waker), "it could overdraw");
        let overdrawn = admission.admit(5).expect("overdraws");
        assert!(admission.wait(&waker));
        assert!(admission.wait_while_exhausted(&waker));
        assert_eq!(woken(), 0);
        drop(overdrawn);
        assert_eq!(woken(), 2, "one has to look again, and waits again");
        assert!(admission.wait_while_exhausted(&waker));
        drop(large);
        assert_eq!(woken(), 3);
        drop(admission.admit(1));
        assert_eq!(woken(), 3, "woken once");
    }
}
