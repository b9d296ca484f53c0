//! Who is connected: how many in all, per loop and per address, and who may still come.
//!
//! The tricky idea: the limits act differently, as they do in Kafka. At `max.connections` (of the node, or of a listener) nobody is accepted
//! until somebody leaves; above `max.connections.per.ip` a connection is accepted and closed at once. And where there are more on the node
//! than there may be, since other nodes came or the limit was lowered, clients have to go.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ottla_metadata::config::NetworkSettings;
use tokio::sync::Notify;

use crate::listeners;

/// Who may connect.
#[derive(Debug, Clone)]
pub struct ConnectionLimits {
    /// Connections in all (`max.connections`).
    pub total_max: usize,
    /// Connections at a listener (`listener.name.<name>.max.connections`), by its name.
    pub at_listener_max: BTreeMap<String, usize>,
    /// Connections from one address (`max.connections.per.ip`).
    pub per_address_max: usize,
    /// Exceptions to that (`max.connections.per.ip.overrides`).
    pub overrides: BTreeMap<IpAddr, usize>,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        ConnectionLimits {
            total_max: usize::MAX,
            at_listener_max: BTreeMap::new(),
            per_address_max: usize::MAX,
            overrides: BTreeMap::new(),
        }
    }
}

impl ConnectionLimits {
    /// What the configuration says.
    pub fn of(network: &NetworkSettings) -> ConnectionLimits {
        let count = |number: i32| usize::try_from(number).unwrap_or(0);
        let overrides = network.max_connections_per_ip_overrides.iter().filter_map(|(host, max)| {
            let address = listeners::resolve(host);
            if address.is_none() {
                crate::warn!(
                    "max.connections.per.ip.overrides: the name {host} is not known to this machine"
                );
            }
            Some((address?, count(*max)))
        });
        let at_listener = network.listener_limits.iter();
        ConnectionLimits {
            total_max: count(network.max_connections),
            at_listener_max: at_listener
                .map(|(listener, limits)| (listener.clone(), count(limits.max_connections)))
                .collect(),
            per_address_max: match network.max_connections_per_ip {
                i32::MAX => usize::MAX,
                max => count(max),
            },
            overrides: overrides.collect(),
        }
    }
}

/// The connections of the node.
#[derive(Debug)]
pub struct Census {
    by_loop: Vec<AtomicUsize>,
    by_address: Mutex<BTreeMap<IpAddr, usize>>,
    by_listener: Mutex<BTreeMap<Arc<str>, usize>>,
    limits: Mutex<ConnectionLimits>,
    left: Notify,
}

impl Census {
    /// An empty census for `loops` loops.
    pub fn new(loops: usize, limits: ConnectionLimits) -> Census {
        Census {
            by_loop: (0..loops).map(|_| AtomicUsize::new(0)).collect(),
            by_address: Mutex::default(),
            by_listener: Mutex::default(),
            limits: Mutex::new(limits),
            left: Notify::new(),
        }
    }

    /// Changes the limits.
    pub fn set_limits(&self, limits: ConnectionLimits) {
        *self.limits() = limits;
        self.left.notify_waiters();
    }

    fn limits(&self) -> MutexGuard<'_, ConnectionLimits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn by_address(&self) -> MutexGuard<'_, BTreeMap<IpAddr, usize>> {
        self.by_address.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn by_listener(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, usize>> {
        self.by_listener.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is room for one more at a listener (`is_for_all`: and on the node). Every listener waits for itself, and only those
    /// with a newcomer make use of it, so all of them are woken.
    pub async fn room(&self, listener: &str, is_for_all: bool) {
        loop {
            // Before the look: whoever leaves after it is not missed.
            let left = self.left.notified();
            if self.has_room(listener, is_for_all) {
                return;
            }
            left.await;
        }
    }

    fn has_room(&self, listener: &str, is_for_all: bool) -> bool {
        let (total_max, here_max) = {
            let limits = self.limits();
            (limits.total_max, limits.at_listener_max.get(listener).copied().unwrap_or(usize::MAX))
        };
        let here = self.by_listener().get(listener).copied().unwrap_or(0);
        here < here_max && (!is_for_all || self.total() < total_max)
    }

    /// Counts a newcomer at a listener and says which loop it belongs to: the one with the fewest. `None`: too many from its address.
    pub fn enter(&self, listener: &Arc<str>, address: IpAddr) -> Option<usize> {
        let max = {
            let limits = self.limits();
            *limits.overrides.get(&address).unwrap_or(&limits.per_address_max)
        };
        let mut counts = self.by_address();
        let count = counts.entry(address).or_default();
        if *count >= max {
            if *count == 0 {
                counts.remove(&address);
            }
            return None;
        }
        *count += 1;
        drop(counts);
        *self.by_listener().entry(Arc::clone(listener)).or_default() += 1;
        let (least, count) =
            self.by_loop.iter().enumerate().min_by_key(|(_, count)| count.load(Ordering::Relaxed))?;
        count.fetch_add(1, Ordering::Relaxed);
        Some(least)
    }

    /// Somebody left.
    pub fn leave(&self, loop_index: usize, listener: &str, address: IpAddr) {
        self.by_loop[loop_index].fetch_sub(1, Ordering::Relaxed);
        if let Some(here) = self.by_listener().get_mut(listener) {
            *here -= 1;
        }
        let mut counts = self.by_address();
        if let Some(count) = counts.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&address);
            }
        }
        drop(counts);
        self.left.notify_waiters();
    }

    /// How many of each loop's connections are too many for the node: the loops with the most have the most to give.
    pub fn excess(&self) -> Vec<usize> {
        let mut counts: Vec<usize> = self.by_loop.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let mut excess = vec![0; counts.len()];
        let total_max = self.limits().total_max;
        for _ in 0..counts.iter().sum::<usize>().saturating_sub(total_max) {
            let most = (0..counts.len()).min_by_key(|index| Reverse(counts[*index]));
            let most = most.expect("there are loops");
            counts[most] -= 1;
            excess[most] += 1;
        }
        excess
    }

    fn total(&self) -> usize {
        self.by_loop.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn a_place_that_is_free_again_is_offered_to_every_listener() {
        let (address, here): (IpAddr, Arc<str>) = ([10, 0, 0, 1].into(), "A".into());
        let census = Census::new(1, ConnectionLimits { total_max: 1, ..Default::default() });
        let mut context = Context::from_waker(Waker::noop());
        let (mut one, mut other) = (pin!(census.room("A", true)), pin!(census.room("A", true)));
        assert_eq!(census.enter(&here, address), Some(0));
        assert!(
            one.as_mut().poll(&mut context).is_pending() && other.as_mut().poll(&mut context).is_pending()
        );
        census.leave(0, &here, address);
        assert!(one.poll(&mut context).is_ready(), "who may have nobody to accept");
        assert!(other.poll(&mut context).is_ready());
    }

    #[test]
    fn the_least_loaded_loop_and_the_limit_per_address() {
        let [a, b, c]: [IpAddr; 3] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into(), [10, 0, 0, 3].into()];
        let here: Arc<str> = "A".into();
        let limits =
            ConnectionLimits { per_address_max: 2, overrides: [(b, 0), (c, 9)].into(), ..Default::default() };
        let census = Census::new(2, limits);
        assert_eq!(census.enter(&here, a), Some(0));
        assert_eq!(census.enter(&here, a), Some(1));
        assert_eq!(census.enter(&here, a), None);
        assert_eq!(census.enter(&here, b), None);
        assert_eq!(
            [census.enter(&here, c), census.enter(&here, c), census.enter(&here, c)],
            [Some(0), Some(1), Some(0)]
        );
        census.leave(1, &here, a);
        assert_eq!(census.enter(&here, a), Some(1));
        assert_eq!(census.total(), 5);
        census.set_limits(ConnectionLimits { per_address_max: 3, ..Default::default() });
        assert_eq!([census.enter(&here, a), census.enter(&here, a)], [Some(1), None]);
    }

    #[test]
    fn those_who_are_too_many_are_of_the_loops_with_the_most() {
        let (address, here): (IpAddr, Arc<str>) = ([10, 0, 0, 1].into(), "A".into());
        let census = Census::new(2, ConnectionLimits::default());
        for expected in [0, 1, 0, 1, 0] {
            assert_eq!(census.enter(&here, address), Some(expected));
        }
        census.leave(1, &here, address);
        assert_eq!(census.excess(), [0, 0]);
        census.set_limits(ConnectionLimits { total_max: 3, ..Default::default() });
        assert_eq!(census.excess(), [1, 0]);
        census.set_limits(ConnectionLimits { total_max: 1, ..Default::default() });
        assert_eq!(census.excess(), [3, 0]);
    }

    #[test]
    fn a_listener_may_be_full_while_others_are_not() {
        let address: IpAddr = [10, 0, 0, 1].into();
        let (outside, inside): (Arc<str>, Arc<str>) = ("OUTSIDE".into(), "INSIDE".into());
        let at_listener_max = [("OUTSIDE".to_owned(), 1)].into();
        let limits = ConnectionLimits { total_max: 2, at_listener_max, ..Default::default() };
        let census = Census::new(1, limits);
        census.enter(&outside, address);
        assert!(!census.has_room("OUTSIDE", true) && census.has_room("INSIDE", true));
        census.enter(&inside, address);
        assert!(!census.has_room("INSIDE", true), "the node is full");
        assert!(census.has_room("INSIDE", false), "not for other nodes");
        assert!(!census.has_room("OUTSIDE", false), "a listener's own limit holds for everybody");
        census.leave(0, "OUTSIDE", address);
        assert!(census.has_room("OUTSIDE", true));
    }
}
