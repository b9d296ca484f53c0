//! Random administrators, leaders and brokers: whatever they ask for and whoever comes and goes, every decision fits the log, the same
//! seed writes the same log, and the partitions keep their promises ([`Model`]).

use super::model::{MIN_ISR, Model, Step};
use super::{Cluster, Record, dir, topic, uuid};
use crate::{
    Decision, Dice, alter_partition, alter_partition_reassignments, assign_replicas_to_dirs, balance_leaders,
    elect_leaders, elect_unclean_leaders, unlimited,
};
use ottla_metadata::{Image, MetadataVersion, Replayer, record_version};
use ottla_protocol::Writer;
use ottla_protocol::ids::{NodeId, PartitionId};
use ottla_protocol::messages::alter_partition_reassignments_request::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use ottla_protocol::messages::alter_partition_request::{
    AlterPartitionRequest, BrokerState, PartitionData, TopicData,
};
use ottla_protocol::messages::assign_replicas_to_dirs_request::{
    self as assign, AssignReplicasToDirsRequest,
};
use ottla_protocol::messages::create_partitions_request::{CreatePartitionsRequest, CreatePartitionsTopic};
use ottla_protocol::messages::create_topics_request::CreateTopicsRequest;
use ottla_protocol::messages::delete_topics_request::DeleteTopicsRequest;
use ottla_protocol::messages::elect_leaders_request::ElectLeadersRequest;
use ottla_protocol::messages::metadata_record::MetadataRecord;
use std::borrow::Cow;

const BROKERS: usize = 5;

fn run(seed: u64, steps: usize) -> Vec<Record> {
    let mut dice = Dice::new(seed);
    let elr = seed.is_multiple_of(2);
    let chosen = [("eligible.leader.replicas.version", i16::from(elr))];
    let mut cluster = Cluster::with_features(BROKERS as i32, &chosen);
    cluster.set_config(4, "", "min.insync.replicas", Some(&MIN_ISR.to_string()));
    let mut model = Model::default();
    for number in 0..steps {
        let before = cluster.controller.image().clone();
        let kind = dice.below(16);
        let step = take(&mut cluster, &mut dice, kind);
        let at = format!("seed {seed}, step {number} of kind {kind}");
        model.step(&before, cluster.controller.image(), &step, elr, &at);
    }
    cluster.log
}

fn take(cluster: &mut Cluster, dice: &mut Dice, kind: usize) -> Step {
    let broker = 1 + dice.below(BROKERS) as i32;
    let name = format!("t{}", dice.below(3));
    let mut step = Step::default();
    match kind {
        0 => {
            let topics = vec![topic(&name, dice.below(4) as i32, 1 + dice.below(4) as i16)];
            let request = CreateTopicsRequest { topics, ..Default::default() };
            let decision = cluster.controller.create_topics(&request, &mut unlimited);
            cluster.append(decision);
        }
        1 => {
            let topic_names = if dice.below(4) == 0 { vec![Cow::Owned(name)] } else { Vec::new() };
            let request = DeleteTopicsRequest { topic_names, ..Default::default() };
            let decision = cluster.controller.delete_topics(&request, 5, &mut unlimited);
            cluster.append(decision);
        }
        2 => {
            let count = dice.below(6) as i32;
            let topics = vec![CreatePartitionsTopic { name: Cow::Owned(name), count, assignments: None }];
            let request = CreatePartitionsRequest { topics, ..Default::default() };
            let decision = cluster.controller.create_partitions(&request, &mut unlimited);
            cluster.append(decision);
        }
        3 => cluster.fence(broker),
        4 | 5 => {
            if cluster.controller.image().broker(NodeId(broker)).is_some_and(|broker| broker.fenced) {
                cluster.unfence(broker);
            }
        }
        6 => {
            let clean = dice.below(2) == 0;
            let previous = if clean { cluster.broker_epoch(broker) } else { -1 };
            let incarnation = dice.below(250) as u8;
            let known = cluster.controller.image().broker(NodeId(broker)).map(|known| known.incarnation_id);
            cluster.register(broker, incarnation, previous);
            // The same incarnation is the same process: it only amends its registration.
            step.lost = (!clean && known != Some(uuid(incarnation))).then_some(NodeId(broker));
        }
        7 => {
            let decision = cluster.controller.begin_controlled_shutdown(NodeId(broker)).expect("registered");
            cluster.append(decision);
        }
        8..=10 => propose(cluster, dice, &name, &mut step),
        11 => {
            let request = ElectLeadersRequest { election_type: dice.below(2) as i8, ..Default::default() };
            let decision = elect_leaders(&cluster.controller.context(), &request, 2);
            cluster.append(decision);
        }
        12 | 13 => step.gave_up = reassign(cluster, dice, &name),
        14 => assign_directory(cluster, dice, broker, &name),
        _ => {
            let allowed = if dice.below(3) == 0 { Some("true") } else { None };
            let decision = match dice.below(3) {
                0 => balance_leaders(&cluster.controller.context(), 3),
                1 => elect_unclean_leaders(&cluster.controller.context(), 3),
                _ => {
                    cluster.set_config(2, &name, "unclean.leader.election.enable", allowed);
                    return step;
                }
            };
            cluster.append(decision);
        }
    }
    step
}

/// The leader of some partition of the topic proposes an ISR.
fn propose(cluster: &mut Cluster, dice: &mut Dice, name: &str, step: &mut Step) {
    let image = cluster.controller.image();
    let Some(found) = image.topic_by_name(name) else { return };
    let index = PartitionId(dice.below(found.partitions.len()) as i32);
    let Some(partition) = image.partition(found.id, index) else { return };
    let Some(leader) = partition.leader else { return };
    let stays = |node: &&NodeId| **node == leader || (image.is_active(**node) && dice.below(2) == 0);
    let members: Vec<NodeId> = partition.replicas.iter().filter(stays).copied().collect();
    let data = PartitionData {
        partition_index: index.0,
        leader_epoch: partition.leader_epoch.0,
        new_isr_with_epochs: members
            .iter()
            .map(|id| BrokerState { broker_id: id.0, broker_epoch: cluster.broker_epoch(id.0) })
            .collect(),
        partition_epoch: partition.partition_epoch,
        ..Default::default()
    };
    step.caught_up.insert((found.id, index), members);
    let request = AlterPartitionRequest {
        broker_id: leader.0,
        broker_epoch: cluster.broker_epoch(leader.0),
        topics: vec![TopicData { topic_id: found.id.0, partitions: vec![data] }],
    };
    let decided = alter_partition(&cluster.controller.context(), &request, 3).expect("its own epoch");
    cluster.append(decided);
}

/// Somebody wishes replicas elsewhere, or gives a wish up. Whether it was given up.
fn reassign(cluster: &mut Cluster, dice: &mut Dice, name: &str) -> bool {
    let mut brokers: Vec<i32> = (1..=BROKERS as i32).collect();
    dice.shuffle(&mut brokers);
    brokers.truncate(1 + dice.below(4));
    let replicas = (dice.below(4) > 0).then_some(brokers);
    let gave_up = replicas.is_none();
    let partitions = vec![ReassignablePartition { partition_index: dice.below(3) as i32, replicas }];
    let topics = vec![ReassignableTopic { name: Cow::Owned(name.to_owned()), partitions }];
    let request = AlterPartitionReassignmentsRequest { topics, ..Default::default() };
    let decision = alter_partition_reassignments(&cluster.controller.context(), &request);
    cluster.append(decision);
    gave_up
}

/// A broker reports where a replica is: in its directory, or in one that is gone.
fn assign_directory(cluster: &mut Cluster, dice: &mut Dice, broker: i32, name: &str) {
    let Some(topic_id) = cluster.controller.image().topic_id(name) else { return };
    let id = if dice.below(4) == 0 { uuid(77) } else { dir(broker) };
    let partitions = vec![assign::PartitionData { partition_index: dice.below(3) as i32 }];
    let topics = vec![assign::TopicData { topic_id: topic_id.0, partitions }];
    let request = AssignReplicasToDirsRequest {
        broker_id: broker,
        broker_epoch: cluster.broker_epoch(broker),
        directories: vec![assign::DirectoryData { id, topics }],
    };
    let decided = assign_replicas_to_dirs(&cluster.controller.context(), &request).expect("its own epoch");
    let Decision { records, atomic, .. } = decided;
    cluster.append(Decision { records, atomic, response: () });
}

#[test]
fn random_administrators() {
    for seed in 0..200 {
        let log = run(seed, 150);
        if seed < 20 {
            assert_eq!(log, run(seed, 150), "seed {seed}");
        }
        let mut replayer = Replayer::new(Image::empty("cluster"));
        for (offset, record) in (0..).zip(&log) {
            // What others read is what was decided.
            let mut writer = Writer::new();
            record
                .encode_framed(record_version(record, MetadataVersion::LATEST), &mut writer)
                .expect("can be written");
            let bytes = writer.into_bytes();
            let read = MetadataRecord::decode_framed(&bytes).expect("can be read");
            assert_eq!(&read, record);
            replayer.replay(&read, offset).expect("fits");
        }
    }
}
