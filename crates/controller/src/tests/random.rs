//! Random administrators: whatever they ask for and whichever brokers come and go, every decision fits the log, the
//! same seed writes the same log, and the partitions keep their promises.

use super::{Cluster, Record, topic};
use crate::Dice;
use ottla_metadata::{Image, Replayer};
use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::create_partitions_request::{CreatePartitionsRequest, CreatePartitionsTopic};
use ottla_protocol::messages::create_topics_request::CreateTopicsRequest;
use ottla_protocol::messages::delete_topics_request::DeleteTopicsRequest;
use std::borrow::Cow;

fn run(seed: u64) -> Vec<Record> {
    let mut dice = Dice::new(seed);
    let elr = i16::from(seed.is_multiple_of(2));
    let mut cluster = Cluster::with_features(3, &[("eligible.leader.replicas.version", elr)]);
    for _ in 0..60 {
        step(&mut cluster, &mut dice);
        check(cluster.controller.image(), elr == 1, seed);
    }
    cluster.log
}

fn step(cluster: &mut Cluster, dice: &mut Dice) {
    let broker = 1 + dice.below(3) as i32;
    let name = format!("t{}", dice.below(4));
    match dice.below(8) {
        0 | 1 => {
            let topics = vec![topic(&name, dice.below(4) as i32, 1 + dice.below(4) as i16)];
            let request = CreateTopicsRequest { topics, ..Default::default() };
            let decision = cluster.controller.create_topics(&request);
            cluster.append(decision);
        }
        2 => {
            let topic_names = vec![Cow::Owned(name)];
            let request = DeleteTopicsRequest { topic_names, ..Default::default() };
            let decision = cluster.controller.delete_topics(&request, 5);
            cluster.append(decision);
        }
        3 => {
            let count = dice.below(6) as i32;
            let topics = vec![CreatePartitionsTopic { name: Cow::Owned(name), count, assignments: None }];
            let request = CreatePartitionsRequest { topics, ..Default::default() };
            let decision = cluster.controller.create_partitions(&request);
            cluster.append(decision);
        }
        4 => cluster.fence(broker),
        5 => cluster.unfence(broker),
        6 => {
            let previous = if dice.below(2) == 0 { cluster.broker_epoch(broker) } else { -1 };
            cluster.register(broker, dice.below(250) as u8, previous);
        }
        _ => {
            let decision = cluster.controller.begin_controlled_shutdown(NodeId(broker)).expect("registered");
            cluster.append(decision);
        }
    }
}

fn check(image: &Image, elr: bool, seed: u64) {
    for (topic, index, partition) in image.partitions() {
        let at = format!("seed {seed}: {}-{index} {partition:?}", topic.name);
        let assigned = |ids: &[NodeId]| ids.iter().all(|id| partition.replicas.contains(id));
        assert!(
            assigned(&partition.isr) && assigned(&partition.elr) && assigned(&partition.last_known_elr),
            "{at}"
        );
        assert!(partition.elr.iter().all(|id| !partition.isr.contains(id)), "{at}");
        match partition.leader {
            Some(leader) => {
                assert!(partition.isr.contains(&leader), "{at}");
                assert!(image.is_active(leader), "{at}");
                assert!(partition.last_known_elr.is_empty(), "{at}");
            }
            None if elr => assert!(partition.isr.is_empty(), "{at}"),
            None => assert!(!partition.isr.is_empty(), "{at}"),
        }
        assert!(elr || partition.elr.is_empty(), "{at}");
        assert_eq!(partition.replicas.len(), partition.directories.len(), "{at}");
    }
    for topic in image.topics().values() {
        assert!(topic.partitions.keys().map(|id| id.0).eq(0..topic.partition_count()));
    }
}

#[test]
fn random_administrators() {
    for seed in 0..100 {
        let log = run(seed);
        assert_eq!(log, run(seed), "seed {seed}");
        let mut replayer = Replayer::new(Image::empty("cluster"));
        for (offset, record) in (0..).zip(&log) {
            replayer.replay(record, offset).expect("fits");
        }
    }
}
