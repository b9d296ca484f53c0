//! Who is connected: how many in all, per loop and per address, and who may still come.
//!
//! The tricky idea: the two limits act differently, as they do in Kafka. At `max.connections` nobody is accepted until somebody
//! leaves; above `max.connections.per.ip` a connection is accepted and closed at once.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::Limits;

/// The connections of the node.
#[derive(Debug)]
pub struct Census {
    by_loop: Vec<AtomicUsize>,
    total_max: usize,
    by_address: Option<ByAddress>,
    left: Notify,
}

#[derive(Debug)]
struct ByAddress {
    max: usize,
    overrides: BTreeMap<IpAddr, usize>,
    counts: Mutex<BTreeMap<IpAddr, usize>>,
}

impl Census {
    /// An empty census for `loops` loops.
    pub fn new(loops: usize, limits: &Limits) -> Census {
        let is_limited =
            limits.connections_per_address_max < usize::MAX || !limits.address_overrides.is_empty();
        Census {
            by_loop: (0..loops).map(|_| AtomicUsize::new(0)).collect(),
            total_max: limits.connections_max,
            by_address: is_limited.then(|| ByAddress {
                max: limits.connections_per_address_max,
                overrides: limits.address_overrides.clone(),
                counts: Mutex::default(),
            }),
            left: Notify::new(),
        }
    }

    /// Waits until there is room for one more.
    pub async fn room(&self) {
        while self.total() >= self.total_max {
            self.left.notified().await;
        }
    }

    /// Counts a newcomer and says which loop it belongs to: the one with the fewest. `None`: too many from its address.
    pub fn enter(&self, address: IpAddr) -> Option<usize> {
        if let Some(by_address) = &self.by_address {
            let mut counts = by_address.counts.lock().unwrap_or_else(PoisonError::into_inner);
            let count = counts.entry(address).or_default();
            if *count >= *by_address.overrides.get(&address).unwrap_or(&by_address.max) {
                return None;
            }
            *count += 1;
        }
        let (least, count) =
            self.by_loop.iter().enumerate().min_by_key(|(_, count)| count.load(Ordering::Relaxed))?;
        count.fetch_add(1, Ordering::Relaxed);
        Some(least)
    }

    /// Somebody left.
    pub fn leave(&self, loop_index: usize, address: IpAddr) {
        self.by_loop[loop_index].fetch_sub(1, Ordering::Relaxed);
        if let Some(by_address) = &self.by_address {
            let mut counts = by_address.counts.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(count) = counts.get_mut(&address) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(&address);
                }
            }
        }
        self.left.notify_one();
    }

    fn total(&self) -> usize {
        self.by_loop.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_loaded_loop_and_the_limit_per_address() {
        let [a, b, c]: [IpAddr; 3] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into(), [10, 0, 0, 3].into()];
        let limits = Limits {
            connections_per_address_max: 2,
            address_overrides: [(b, 0), (c, 9)].into(),
            ..Limits::default()
        };
        let census = Census::new(2, &limits);
        assert_eq!(census.enter(a), Some(0));
        assert_eq!(census.enter(a), Some(1));
        assert_eq!(census.enter(a), None);
        assert_eq!(census.enter(b), None);
        assert_eq!([census.enter(c), census.enter(c), census.enter(c)], [Some(0), Some(1), Some(0)]);
        census.leave(1, a);
        assert_eq!(census.enter(a), Some(1));
        assert_eq!(census.total(), 5);
    }
}
