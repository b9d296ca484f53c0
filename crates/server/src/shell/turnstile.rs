//! Which connections go first when many of a loop have something to say at once.
//!
//! The tricky idea: a loop serves whoever is ready in turn, so a produce request waits for one round of all the others. A thousand members
//! of a group that are all answered by one step make that a long round. Connections of that kind therefore stand in line, and the loop lets
//! one of them in for each look at its sockets: whoever else came meanwhile is served before the next. Where the others leave little room
//! and they stand there for long, they are let in a few at a time.

use std::cell::RefCell;
use std::collections::VecDeque;

use ottla_broker::Millis;
use ottla_protocol::ApiKey;
use tokio::sync::Notify;

use super::slab::Key;

/// Milliseconds for which others may go first: little beside the session of any member, much beside a round of a loop.
const WAIT_MS_MAX: Millis = 50;
/// Those who go on at once when they waited longer.
const LATE_AT_ONCE: usize = 8;

/// Whether the connection on which this request came lets others go first from now on: members of groups do, and who has only just come.
/// Those who move records do not, and neither do nodes, whose replication and votes the others wait for.
pub fn gives_way(frame: &[u8]) -> bool {
    let Some(key) = frame.first_chunk() else { return false };
    matches!(
        ApiKey::from_i16(i16::from_be_bytes(*key)),
        Some(
            ApiKey::JoinGroup
                | ApiKey::SyncGroup
                | ApiKey::LeaveGroup
                | ApiKey::Heartbeat
                | ApiKey::ConsumerGroupHeartbeat
                | ApiKey::FindCoordinator
                | ApiKey::Metadata
                | ApiKey::ApiVersions
        )
    )
}

/// Connections that give way, in the order in which they came.
#[derive(Debug, Default)]
pub struct Turnstile {
    waiting: RefCell<VecDeque<(Key, Millis)>>,
    came: Notify,
}

impl Turnstile {
    /// Puts a connection in line, in which it may stand once at a time.
    pub fn queue(&self, key: Key, now: Millis) {
        self.waiting.borrow_mut().push_back((key, now));
        self.came.notify_one();
    }

    /// Returns when somebody stands in line.
    pub async fn wait(&self) {
        while self.waiting.borrow().is_empty() {
            self.came.notified().await;
        }
    }

    /// Those who go on now: the first, and of those who waited too long a few.
    pub fn take(&self, now: Millis) -> impl Iterator<Item = Key> {
        let mut waiting = self.waiting.borrow_mut();
        let late =
            waiting.iter().take(LATE_AT_ONCE).take_while(|(_, since)| now - since >= WAIT_MS_MAX).count();
        let count = late.max(1).min(waiting.len());
        let taken: Vec<Key> = waiting.drain(..count).map(|(key, _)| key).collect();
        taken.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(index: u32) -> Key {
        Key { index, generation: 0 }
    }

    #[test]
    fn one_goes_on_at_a_time_and_a_few_of_those_who_wait_for_long() {
        let turnstile = Turnstile::default();
        for index in 0..5 {
            turnstile.queue(key(index), Millis::from(index) * 10);
        }
        assert_eq!(turnstile.take(40).collect::<Vec<_>>(), [key(0)]);
        assert_eq!(turnstile.take(50).collect::<Vec<_>>(), [key(1)]);
        assert_eq!(turnstile.take(80).collect::<Vec<_>>(), [key(2), key(3)]);
        assert_eq!(turnstile.take(80).collect::<Vec<_>>(), [key(4)]);
        assert_eq!(turnstile.take(80).count(), 0);
        (0..20).for_each(|index| turnstile.queue(key(index), 0));
        assert_eq!(turnstile.take(1_000).count(), LATE_AT_ONCE);
    }

    #[test]
    fn members_of_groups_give_way_and_those_who_move_records_do_not() {
        let frame = |key: ApiKey| key.code().to_be_bytes();
        assert!(gives_way(&frame(ApiKey::JoinGroup)));
        assert!(gives_way(&frame(ApiKey::ConsumerGroupHeartbeat)));
        assert!(!gives_way(&frame(ApiKey::Produce)));
        assert!(!gives_way(&frame(ApiKey::Fetch)));
        assert!(!gives_way(&frame(ApiKey::Vote)));
        assert!(!gives_way(&[0x7f, 0xff]), "a request that nobody knows");
        assert!(!gives_way(&[]));
    }
}
