//! What clients were promised, and what must therefore be true. Written as a client would put it:
//!
//! - What was acknowledged is there, after any crash, once, and in the order in which it was sent.
//! - Nothing is there that nobody sent.
//! - A committed offset that was acknowledged is never forgotten; it may only be followed by a later one.
//! - A topic whose creation was acknowledged exists; one whose deletion was acknowledged does not.
//! - A high watermark never goes back.
//!
//! A request without an answer is *unknown*: it may have happened or not, but not twice and not in part.

use std::collections::BTreeMap;

/// One partition that one idempotent producer writes to, one batch in flight: record values count up from 0.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stream {
    /// Records acknowledged.
    pub acknowledged: u64,
    /// Records sent, acknowledged or not.
    pub sent: u64,
    /// The highest high watermark that any answer told.
    pub high_watermark: i64,
}

/// A group's committed offset in one partition.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Commit {
    pub acknowledged: Option<i64>,
    pub sent: Option<i64>,
}

/// Everything that was promised.
#[derive(Debug, Clone, Default)]
pub(crate) struct Promises {
    pub streams: BTreeMap<(String, i32), Stream>,
    pub commits: BTreeMap<(String, String, i32), Commit>,
    /// Topics by name: `Some(exists)` if acknowledged, `None` if unknown.
    pub topics: BTreeMap<String, Option<bool>>,
}

impl Promises {
    /// A reader saw these values, from offset 0 to the high watermark.
    pub fn check_values(&self, topic: &str, partition: i32, values: &[u64]) -> Result<(), String> {
        let stream = self.streams.get(&(topic.to_owned(), partition)).cloned().unwrap_or_default();
        if let Some((index, value)) =
            values.iter().enumerate().find(|(index, value)| *index as u64 != **value)
        {
            return Err(format!(
                "{topic}-{partition}: record {index} holds value {value}: lost, doubled or out of order"
            ));
        }
        let count = values.len() as u64;
        if count < stream.acknowledged {
            let lost = stream.acknowledged - count;
            return Err(format!(
                "{topic}-{partition}: {lost} of {} acknowledged records are missing",
                stream.acknowledged
            ));
        }
        if count > stream.sent {
            return Err(format!("{topic}-{partition}: {count} records are there, {} were sent", stream.sent));
        }
        Ok(())
    }

    /// An answer told a high watermark.
    pub fn see_high_watermark(
        &mut self,
        topic: &str,
        partition: i32,
        high_watermark: i64,
    ) -> Result<(), String> {
        let stream = self.streams.entry((topic.to_owned(), partition)).or_default();
        if high_watermark < stream.high_watermark {
            return Err(format!(
                "{topic}-{partition}: the high watermark went from {} to {high_watermark}",
                stream.high_watermark
            ));
        }
        stream.high_watermark = high_watermark;
        Ok(())
    }

    /// A reader saw this committed offset (-1: none).
    pub fn check_commit(&self, group: &str, topic: &str, partition: i32, offset: i64) -> Result<(), String> {
        let key = (group.to_owned(), topic.to_owned(), partition);
        let commit = self.commits.get(&key).copied().unwrap_or_default();
        let (least, most) = (commit.acknowledged.unwrap_or(-1), commit.sent.unwrap_or(-1));
        if (least..=most).contains(&offset) {
            return Ok(());
        }
        Err(format!(
            "group {group}, {topic}-{partition}: offset {offset} is read, {least} was acknowledged and {most} sent"
        ))
    }

    /// A reader saw whether a topic exists.
    pub fn check_topic(&self, topic: &str, exists: bool) -> Result<(), String> {
        match self.topics.get(topic) {
            Some(Some(promised)) if *promised != exists => {
                Err(format!("topic {topic}: exists is {exists}, but {promised} was acknowledged"))
            }
            None if exists => Err(format!("topic {topic} exists and nobody created it")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn promises(acknowledged: u64, sent: u64) -> Promises {
        let mut promises = Promises::default();
        promises.streams.insert(("t".into(), 0), Stream { acknowledged, sent, high_watermark: 0 });
        promises
    }

    #[test]
    fn each_anomaly_is_noticed() {
        let check = |acknowledged, sent, values: &[u64], fine: bool| {
            assert_eq!(promises(acknowledged, sent).check_values("t", 0, values).is_ok(), fine, "{values:?}");
        };
        check(2, 3, &[0, 1], true);
        check(2, 3, &[0, 1, 2], true);
        check(2, 3, &[0], false);
        check(2, 3, &[0, 1, 1], false);
        check(2, 3, &[1, 0], false);
        check(2, 3, &[0, 1, 2, 3], false);
    }

    #[test]
    fn commits_and_watermarks_do_not_go_back() {
        let mut promises = promises(0, 0);
        promises.commits.insert(("g".into(), "t".into(), 0), Commit { acknowledged: Some(5), sent: Some(7) });
        for (offset, fine) in [(4, false), (5, true), (6, true), (7, true), (8, false), (-1, false)] {
            assert_eq!(promises.check_commit("g", "t", 0, offset).is_ok(), fine, "{offset}");
        }
        promises.see_high_watermark("t", 0, 9).unwrap();
        assert!(promises.see_high_watermark("t", 0, 8).is_err());
    }
}
