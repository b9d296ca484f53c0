//! A million offsets of ten thousand groups: what they cost in memory, and how soon they are back after a restart.

use super::{PATIENCE, invalid};
use crate::broker::Broker;
use crate::steps::Trouble;
use crate::wire::Connection;
use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::messages::offset_commit_response::OffsetCommitResponse;
use ottla_protocol::messages::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use ottla_protocol::messages::offset_fetch_response::OffsetFetchResponse;
use ottla_protocol::{Message, Reader};
use std::io;
use std::time::{Duration, Instant};

/// Connections that commit at once.
const WRITERS: usize = 32;
/// Groups that are asked for after the restart: enough to meet every partition of the internal topic.
const SAMPLE: usize = 64;

/// Commits, restarts, asks; one sentence.
pub fn measure(broker: &mut Broker, groups: usize, offsets: usize) -> Result<String, Trouble> {
    let bootstrap = broker.bootstrap();
    let before = broker.rss_kib()?;
    let begun = Instant::now();
    let outcome: io::Result<()> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let bootstrap = &bootstrap;
                scope.spawn(move || commit(bootstrap, (writer..groups).step_by(WRITERS), offsets))
            })
            .collect();
        writers
            .into_iter()
            .try_for_each(|writer| writer.join().unwrap_or_else(|_| Err(invalid("a writer panicked"))))
    });
    outcome?;
    let committed = begun.elapsed();
    let after = broker.rss_kib()?;
    broker.stop()?;
    let begun = Instant::now();
    broker.start()?;
    let started = begun.elapsed();
    wait_loaded(&bootstrap, groups, offsets)?;
    let loaded = begun.elapsed();
    let count = (groups * offsets) as u64;
    Ok(format!(
        "{groups} groups with {offsets} offsets each: committed in {:.1} s, {} bytes of memory per offset; \
         after a restart ready in {} ms, all groups loaded in {} ms, {} MB resident",
        committed.as_secs_f64(),
        after.saturating_sub(before) * 1024 / count,
        started.as_millis(),
        loaded.as_millis(),
        broker.rss_kib()? / 1024,
    ))
}

fn commit(bootstrap: &str, groups: impl Iterator<Item = usize>, offsets: usize) -> io::Result<()> {
    let mut connection = Connection::open(bootstrap, PATIENCE)?;
    for group in groups {
        let partitions = (0..offsets).map(|partition| OffsetCommitRequestPartition {
            partition_index: partition as i32,
            committed_offset: (group + partition) as i64,
            committed_leader_epoch: -1,
            committed_metadata: Some("".into()),
        });
        let topic = OffsetCommitRequestTopic {
            name: "offsets".into(),
            partitions: partitions.collect(),
            ..Default::default()
        };
        let request = OffsetCommitRequest {
            group_id: format!("group-{group}").into(),
            generation_id_or_member_epoch: -1,
            topics: vec![topic],
            ..Default::default()
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let body = connection.ask(&request, 8)?;
            let response = OffsetCommitResponse::decode(&mut Reader::new(&body), 8).map_err(invalid)?;
            let errors = response.topics.iter().flat_map(|topic| &topic.partitions);
            let Some(failed) = errors.map(|partition| partition.error_code).find(|code| *code != 0) else {
                break;
            };
            // The internal topic may still be coming into being.
            if Instant::now() > deadline {
                return Err(invalid(format!("commit: error {failed}")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

/// Asks for the offsets of a sample of groups until all are there.
fn wait_loaded(bootstrap: &str, groups: usize, offsets: usize) -> Result<(), Trouble> {
    let mut connection = Connection::open(bootstrap, PATIENCE)?;
    let deadline = Instant::now() + PATIENCE;
    for sample in 0..SAMPLE {
        let group = sample * groups / SAMPLE;
        while !is_loaded(&mut connection, group, offsets)? {
            if Instant::now() > deadline {
                return Err(Trouble::new(format!("the offsets of group-{group} are not there")));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    Ok(())
}

fn is_loaded(connection: &mut Connection, group: usize, offsets: usize) -> io::Result<bool> {
    let topic = OffsetFetchRequestTopics {
        name: "offsets".into(),
        partition_indexes: (0..offsets as i32).collect(),
        ..Default::default()
    };
    let asked = OffsetFetchRequestGroup {
        group_id: format!("group-{group}").into(),
        member_epoch: -1,
        topics: Some(vec![topic]),
        ..Default::default()
    };
    let request = OffsetFetchRequest { groups: vec![asked], ..Default::default() };
    let body = connection.ask(&request, 8)?;
    let response = OffsetFetchResponse::decode(&mut Reader::new(&body), 8).map_err(invalid)?;
    let partitions =
        response.groups.iter().flat_map(|group| &group.topics).flat_map(|topic| &topic.partitions);
    let right = partitions.filter(|partition| {
        partition.committed_offset == group as i64 + i64::from(partition.partition_index)
    });
    Ok(right.count() == offsets)
}
