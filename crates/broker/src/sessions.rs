//! Incremental fetch sessions (KIP-227): the partitions a client follows are remembered, so that an idle fetch names none of them.
//!
//! A session is locked only while a request is read into it and while a response is distilled from it, never while a fetch waits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use ottla_protocol::{ErrorCode, Uuid};

use crate::effect::Millis;

/// A session that nobody used for this long may be evicted for a new one (Kafka: `MIN_INCREMENTAL_FETCH_SESSION_EVICTION_MS`).
const EVICTABLE_AFTER_MS: Millis = 120_000;
/// Request epoch of a client that wants no session, or to end the one it names.
pub(crate) const FINAL_EPOCH: i32 = -1;
/// Request epoch of a client that begins.
pub(crate) const INITIAL_EPOCH: i32 = 0;

/// One partition that a fetch asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub topic: Arc<str>,
    pub topic_id: Uuid,
    pub index: i32,
    pub fetch_offset: i64,
    /// Where the log of a follower begins.
    pub log_start_offset: i64,
    pub max_bytes: i32,
    pub current_leader_epoch: i32,
    pub last_fetched_epoch: i32,
    /// The high watermark that the last answer of the session told; -1 if none did.
    pub told_high_watermark: i64,
}

impl Wanted {
    fn key(&self) -> Key {
        Key::new(&self.topic, self.topic_id, self.index)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub topic: Arc<str>,
    pub topic_id: Uuid,
    pub index: i32,
}

impl Key {
    /// A topic that is known by its id may change its name, or lose it: the name is no part of the key then.
    pub fn new(topic: &Arc<str>, topic_id: Uuid, index: i32) -> Key {
        let topic = if topic_id == Uuid::ZERO { topic.clone() } else { "".into() };
        Key { topic, topic_id, index }
    }
}

/// What the client was last told of a partition.
#[derive(Debug, Clone)]
struct Followed {
    wanted: Wanted,
    high_watermark: i64,
    log_start_offset: i64,
    /// Position in the round: partitions that were answered go to the back, so that none starves.
    turn: u64,
}

/// One client's session.
#[derive(Debug)]
pub(crate) struct Session {
    id: i32,
    epoch: i32,
    by_topic_id: bool,
    partitions: BTreeMap<Key, Followed>,
    turns: u64,
}

impl Session {
    fn merge(&mut self, wanted: Vec<Wanted>, forgotten: &[Key]) {
        for key in forgotten {
            self.partitions.remove(key);
        }
        for wanted in wanted {
            let key = wanted.key();
            match self.partitions.get_mut(&key) {
                Some(followed) => followed.wanted = wanted,
                None => {
                    self.turns += 1;
                    let turn = self.turns;
                    self.partitions
                        .insert(key, Followed { wanted, high_watermark: -1, log_start_offset: -1, turn });
                }
            }
        }
    }

    fn in_turn(&self) -> Vec<Wanted> {
        let mut all: Vec<&Followed> = self.partitions.values().collect();
        all.sort_by_key(|followed| followed.turn);
        let wanted = |followed: &Followed| Wanted {
            told_high_watermark: followed.high_watermark,
            ..followed.wanted.clone()
        };
        all.into_iter().map(wanted).collect()
    }

    /// Whether a result has to be told to the client, remembering what it is told (Kafka: `CachedPartition.maybeUpdateResponseData`).
    pub fn worth_telling(&mut self, key: &Key, news: &News) -> bool {
        let Some(followed) = self.partitions.get_mut(key) else { return false };
        let changed = news.has_records
            || news.error != 0
            || news.diverges
            || news.is_redirected
            || followed.high_watermark != news.high_watermark
            || followed.log_start_offset != news.log_start_offset;
        // After an error the next answer must be told in full.
        followed.high_watermark = if news.error == 0 { news.high_watermark } else { -1 };
        followed.log_start_offset = news.log_start_offset;
        if changed {
            self.turns += 1;
            followed.turn = self.turns;
        }
        changed
    }
}

/// What a fetch found out about a partition, as far as sessions care.
#[derive(Debug, Clone, Copy)]
pub(crate) struct News {
    pub has_records: bool,
    pub error: i16,
    pub diverges: bool,
    /// The client is sent to another replica.
    pub is_redirected: bool,
    pub high_watermark: i64,
    pub log_start_offset: i64,
}

/// How a fetch request relates to sessions.
#[derive(Debug)]
pub(crate) enum Footing {
    /// No session: everything asked is answered; session id 0.
    Sessionless,
    /// The first answer of a new session: told in full, under the new id.
    Begun(Arc<Mutex<Session>>, i32),
    /// An incremental answer.
    Continued(Arc<Mutex<Session>>, i32),
}

impl Footing {
    /// The id that the response carries.
    pub fn session_id(&self) -> i32 {
        match self {
            Footing::Sessionless => 0,
            Footing::Begun(_, id) | Footing::Continued(_, id) => *id,
        }
    }
}

/// All sessions of the node.
#[derive(Debug)]
pub(crate) struct Sessions {
    slots: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    sessions: BTreeMap<i32, Kept>,
    seed: u64,
}

#[derive(Debug)]
struct Kept {
    session: Arc<Mutex<Session>>,
    used_at: Millis,
    /// Whether it is a follower's.
    is_privileged: bool,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("a thread that panics ends the process, so no lock is ever found poisoned")
}

impl Sessions {
    /// `slots`: how many sessions are kept (`max.incremental.fetch.session.cache.slots`).
    pub fn new(slots: usize, seed: u64) -> Self {
        Sessions { slots, state: Mutex::new(State { sessions: BTreeMap::new(), seed }) }
    }

    /// Reads a request into its session: the partitions to look at, and how to answer. A follower's session (`is_privileged`) is kept rather
    /// than a consumer's.
    pub fn enter(
        &self,
        (id, epoch): (i32, i32),
        by_topic_id: bool,
        wanted: Vec<Wanted>,
        forgotten: &[Key],
        is_privileged: bool,
        now: Millis,
    ) -> Result<(Footing, Vec<Wanted>), ErrorCode> {
        let mut state = lock(&self.state);
        if epoch == INITIAL_EPOCH || epoch == FINAL_EPOCH {
            if id != 0 {
                state.sessions.remove(&id);
            }
            if epoch == FINAL_EPOCH || wanted.is_empty() || !state.make_room(self.slots, is_privileged, now) {
                return Ok((Footing::Sessionless, wanted));
            }
            let id = state.fresh_id();
            let mut session = Session { id, epoch: 1, by_topic_id, partitions: BTreeMap::new(), turns: 0 };
            session.merge(wanted.clone(), &[]);
            let session = Arc::new(Mutex::new(session));
            state.sessions.insert(id, Kept { session: session.clone(), used_at: now, is_privileged });
            return Ok((Footing::Begun(session, id), wanted));
        }
        let Some(Kept { session, used_at, .. }) = state.sessions.get_mut(&id) else {
            return Err(ErrorCode::FetchSessionIdNotFound);
        };
        let session = session.clone();
        let mut inner = lock(&session);
        debug_assert_eq!(inner.id, id);
        if inner.by_topic_id != by_topic_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        if inner.epoch != epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        *used_at = now;
        inner.epoch = if epoch == i32::MAX { 1 } else { epoch + 1 };
        inner.merge(wanted, forgotten);
        let all = inner.in_turn();
        drop(inner);
        Ok((Footing::Continued(session, id), all))
    }
}

impl State {
    fn make_room(&mut self, slots: usize, is_privileged: bool, now: Millis) -> bool {
        if self.sessions.len() < slots {
            return true;
        }
        let stalest = |among: &dyn Fn(&Kept) -> bool| {
            let kept = self.sessions.iter().filter(|(_, kept)| among(kept));
            kept.min_by_key(|(_, kept)| kept.used_at).map(|(id, _)| *id)
        };
        let is_stale = |kept: &Kept| now - kept.used_at > EVICTABLE_AFTER_MS;
        let evicted = stalest(&is_stale);
        let evicted = evicted.or_else(|| stalest(&|kept: &Kept| is_privileged && !kept.is_privileged));
        evicted.is_some_and(|id| self.sessions.remove(&id).is_some())
    }

    /// A positive id that no session has. Ids are drawn, not counted: a client of a former process must not hit a session by luck.
    fn fresh_id(&mut self) -> i32 {
        loop {
            self.seed = self.seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let id = ((self.seed >> 33) as i32) & i32::MAX;
            if id != 0 && !self.sessions.contains_key(&id) {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(topic: &str, index: i32, offset: i64) -> Wanted {
        Wanted {
            topic: topic.into(),
            topic_id: Uuid::ZERO,
            index,
            fetch_offset: offset,
            log_start_offset: -1,
            max_bytes: 1 << 20,
            current_leader_epoch: -1,
            last_fetched_epoch: -1,
            told_high_watermark: -1,
        }
    }

    fn quiet(high_watermark: i64) -> News {
        News {
            has_records: false,
            error: 0,
            diverges: false,
            is_redirected: false,
            high_watermark,
            log_start_offset: 0,
        }
    }

    #[test]
    fn an_idle_partition_is_told_once() {
        let sessions = Sessions::new(10, 7);
        let (footing, all) = sessions.enter((0, 0), false, vec![wanted("t", 0, 5)], &[], false, 0).unwrap();
        let Footing::Begun(session, id) = footing else { panic!("a full fetch begins a session") };
        assert_eq!(all.len(), 1);
        let key = all[0].key();
        assert!(lock(&session).worth_telling(&key, &quiet(5)));
        let (footing, all) = sessions.enter((id, 1), false, vec![], &[], false, 1).unwrap();
        assert!(matches!(footing, Footing::Continued(..)));
        assert_eq!(all.len(), 1, "an incremental request that names nothing asks for everything followed");
        assert!(!lock(&session).worth_telling(&key, &quiet(5)));
        assert!(lock(&session).worth_telling(&key, &quiet(6)));
    }

    #[test]
    fn forgotten_partitions_are_no_longer_read() {
        let sessions = Sessions::new(10, 7);
        let (footing, _) =
            sessions.enter((0, 0), false, vec![wanted("t", 0, 0), wanted("t", 1, 0)], &[], false, 0).unwrap();
        let gone = wanted("t", 0, 0).key();
        let (_, all) = sessions.enter((footing.session_id(), 1), false, vec![], &[gone], false, 1).unwrap();
        assert_eq!(all.iter().map(|w| w.index).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn wrong_sessions_are_refused() {
        let sessions = Sessions::new(10, 7);
        let (footing, _) = sessions.enter((0, 0), false, vec![wanted("t", 0, 0)], &[], false, 0).unwrap();
        let id = footing.session_id();
        assert_eq!(
            sessions.enter((id ^ 1, 1), false, vec![], &[], false, 1).unwrap_err(),
            ErrorCode::FetchSessionIdNotFound
        );
        assert_eq!(
            sessions.enter((id, 5), false, vec![], &[], false, 1).unwrap_err(),
            ErrorCode::InvalidFetchSessionEpoch
        );
        assert_eq!(
            sessions.enter((id, 1), true, vec![], &[], false, 1).unwrap_err(),
            ErrorCode::FetchSessionTopicIdError
        );
        assert!(
            sessions.enter((id, 1), false, vec![], &[], false, 1).is_ok(),
            "a refused request leaves the session as it was"
        );
    }

    #[test]
    fn a_full_cache_serves_without_a_session_until_one_is_stale() {
        let sessions = Sessions::new(1, 7);
        sessions.enter((0, 0), false, vec![wanted("t", 0, 0)], &[], false, 0).unwrap();
        let (footing, _) =
            sessions.enter((0, 0), false, vec![wanted("t", 0, 0)], &[], false, EVICTABLE_AFTER_MS).unwrap();
        assert_eq!(footing.session_id(), 0);
        let (footing, _) = sessions
            .enter((0, 0), false, vec![wanted("t", 0, 0)], &[], false, EVICTABLE_AFTER_MS + 1)
            .unwrap();
        assert_ne!(footing.session_id(), 0);
    }

    #[test]
    fn a_follower_finds_a_place_where_a_consumer_had_one() {
        let sessions = Sessions::new(2, 7);
        let enter = |is_privileged, now| {
            let wanted = vec![wanted("t", 0, 0)];
            sessions.enter((0, 0), false, wanted, &[], is_privileged, now).unwrap().0.session_id()
        };
        let (consumer, follower) = (enter(false, 0), enter(true, 1));
        assert_eq!(enter(false, 2), 0, "consumers do not drive each other out");
        assert_ne!(enter(true, 3), 0);
        let known = |id| sessions.enter((id, 1), false, vec![], &[], false, 4).is_ok();
        assert!(known(follower) && !known(consumer));
        assert_eq!(enter(true, 5), 0, "nor do followers");
    }
}
