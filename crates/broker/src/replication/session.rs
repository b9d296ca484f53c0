//! The incremental session of this node's fetches from one leader: what the leader knows already is not said again (KIP-227; Kafka:
//! `FetchSessionHandler`).
//!
//! The one tricky idea: what was said counts only while every answer arrives. After one that did not, a whole fetch begins a new session, and
//! ends the old one.

use std::collections::BTreeMap;

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};

use super::PartitionKey;
use crate::sessions::INITIAL_EPOCH;

/// What the leader knows, and under which name.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// 0: none.
    id: i32,
    /// Of the next request.
    epoch: i32,
    told: BTreeMap<PartitionKey, FetchPartition>,
}

/// What a fetch says.
#[derive(Debug, PartialEq)]
pub(super) struct Said {
    pub session: (i32, i32),
    pub topics: Vec<FetchTopic<'static>>,
    pub forgotten: Vec<ForgottenTopic<'static>>,
}

impl Session {
    /// These partitions are wanted, and no others.
    pub fn say(&mut self, wanted: BTreeMap<PartitionKey, FetchPartition>) -> Said {
        let told = std::mem::replace(&mut self.told, wanted);
        let is_whole = self.epoch == INITIAL_EPOCH;
        let is_news =
            |(key, asked): &(&PartitionKey, &FetchPartition)| is_whole || told.get(key) != Some(asked);
        let mut topics: Vec<FetchTopic<'static>> = Vec::new();
        for (&(topic_id, _), asked) in self.told.iter().filter(is_news) {
            match topics.last_mut().filter(|topic| topic.topic_id == topic_id) {
                Some(topic) => topic.partitions.push(asked.clone()),
                None => topics.push(FetchTopic {
                    topic_id,
                    partitions: vec![asked.clone()],
                    ..Default::default()
                }),
            }
        }
        let mut forgotten: Vec<ForgottenTopic<'static>> = Vec::new();
        for &(topic_id, index) in told.keys().filter(|key| !is_whole && !self.told.contains_key(key)) {
            match forgotten.last_mut().filter(|topic| topic.topic_id == topic_id) {
                Some(topic) => topic.partitions.push(index),
                None => {
                    forgotten.push(ForgottenTopic { topic_id, partitions: vec![index], ..Default::default() })
                }
            }
        }
        Said { session: (self.id, self.epoch), topics, forgotten }
    }

    /// Whether the fetch that was said last asked for a partition in that leader epoch. An answer to another question says what was true of
    /// another log (KAFKA-18991).
    pub fn asked_in(&self, key: &PartitionKey, leader_epoch: i32) -> bool {
        self.told.get(key).is_some_and(|asked| asked.current_leader_epoch == leader_epoch)
    }

    /// The leader answered.
    pub fn on_answer(&mut self, error: ErrorCode, session_id: i32) {
        match error {
            ErrorCode::None if session_id != 0 => {
                let next = if self.epoch == i32::MAX { 1 } else { self.epoch + 1 };
                (self.id, self.epoch) = (session_id, next);
            }
            // The leader has no room for a session, or does not know this one.
            ErrorCode::None | ErrorCode::FetchSessionIdNotFound => (self.id, self.epoch) = (0, INITIAL_EPOCH),
            _ => self.on_lost(),
        }
    }

    /// It is not known what the leader knows.
    pub fn on_lost(&mut self) {
        self.epoch = INITIAL_EPOCH;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_protocol::Uuid;

    fn wanted(offsets: &[(u8, i32, i64)]) -> BTreeMap<PartitionKey, FetchPartition> {
        let asked = |&(topic, partition, fetch_offset): &(u8, i32, i64)| {
            let key = (Uuid([topic; 16]), partition);
            (key, FetchPartition { partition, fetch_offset, ..Default::default() })
        };
        offsets.iter().map(asked).collect()
    }

    /// Session, partitions asked for, and partitions forgotten.
    type Told = ((i32, i32), Vec<(u8, i32, i64)>, Vec<(u8, i32)>);

    fn say(session: &mut Session, offsets: &[(u8, i32, i64)]) -> Told {
        let said = session.say(wanted(offsets));
        let asked = said.topics.iter().flat_map(|topic| {
            let partitions = topic.partitions.iter();
            partitions.map(|asked| (topic.topic_id.0[0], asked.partition, asked.fetch_offset))
        });
        let forgotten = said
            .forgotten
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(|partition| (topic.topic_id.0[0], *partition)));
        (said.session, asked.collect(), forgotten.collect())
    }

    #[test]
    fn only_what_changed_is_said() {
        let mut session = Session::default();
        let all = [(1, 0, 5), (1, 1, 6), (2, 0, 7)];
        assert_eq!(say(&mut session, &all), ((0, 0), all.to_vec(), vec![]));
        session.on_answer(ErrorCode::None, 9);
        assert_eq!(say(&mut session, &all), ((9, 1), vec![], vec![]));
        session.on_answer(ErrorCode::None, 9);
        assert_eq!(say(&mut session, &[(1, 0, 5), (2, 0, 8)]), ((9, 2), vec![(2, 0, 8)], vec![(1, 1)]));
        session.on_answer(ErrorCode::None, 9);
        assert_eq!(say(&mut session, &all), ((9, 3), vec![(1, 1, 6), (2, 0, 7)], vec![]));
    }

    /// The same node may lead again while its answer of an earlier epoch is on the way: what that says to cut off is not to be cut off now.
    #[test]
    fn an_answer_belongs_to_the_epoch_that_it_was_asked_in() {
        let mut session = Session::default();
        let key = (Uuid([1; 16]), 0);
        let asked = FetchPartition { current_leader_epoch: 5, ..Default::default() };
        session.say(BTreeMap::from([(key, asked)]));
        assert!(session.asked_in(&key, 5) && !session.asked_in(&key, 7));
        assert!(!session.asked_in(&(Uuid([1; 16]), 1), 5), "nobody asked");
        session.on_answer(ErrorCode::None, 9);
        assert!(session.asked_in(&key, 5), "as long as nothing else was said");
    }

    #[test]
    fn everything_is_said_anew_when_it_is_not_known_what_arrived() {
        let all = [(1, 0, 5), (1, 1, 6)];
        let begun = || {
            let mut session = Session::default();
            say(&mut session, &all);
            session.on_answer(ErrorCode::None, 9);
            session
        };
        let mut session = begun();
        session.on_lost();
        assert_eq!(say(&mut session, &all), ((9, 0), all.to_vec(), vec![]), "the old one ends");
        let mut session = begun();
        session.on_answer(ErrorCode::InvalidFetchSessionEpoch, 0);
        assert_eq!(say(&mut session, &all), ((9, 0), all.to_vec(), vec![]));
        let mut session = begun();
        session.on_answer(ErrorCode::FetchSessionIdNotFound, 0);
        assert_eq!(say(&mut session, &all), ((0, 0), all.to_vec(), vec![]));
        let mut session = begun();
        session.on_answer(ErrorCode::None, 0);
        assert_eq!(say(&mut session, &all), ((0, 0), all.to_vec(), vec![]), "the leader has no room");
    }
}
