//! A consumer of the classic protocol in a consumer group, as the Java client behaves with the cooperative or the eager
//! protocol: what it is told by heartbeats it follows with JoinGroup and SyncGroup.

use crate::consumer_rig::Owned;
use crate::rig::{Client, Rig, error};
use ottla_coordinator::Topics;
use ottla_protocol::messages::consumer_protocol_assignment::ConsumerProtocolAssignment;
use ottla_protocol::messages::consumer_protocol_subscription::{
    ConsumerProtocolSubscription, TopicPartition,
};
use ottla_protocol::{ErrorCode, Message, Reader, Writer};

#[derive(Debug, Clone)]
pub struct ClassicConsumer {
    pub client: Client,
    pub topics: Vec<String>,
    /// Gives everything up before it joins.
    pub is_eager: bool,
    pub owned: Owned,
}

impl ClassicConsumer {
    pub fn new(name: &str, topics: &[&str]) -> ClassicConsumer {
        let topics = topics.iter().map(|topic| topic.to_string()).collect();
        ClassicConsumer { client: Client::new(name), topics, is_eager: false, owned: Owned::new() }
    }

    pub fn with_instance(mut self, instance: &str) -> ClassicConsumer {
        self.client = self.client.with_instance(instance);
        self
    }

    pub fn forget(&mut self) {
        self.client = self.client.restarted();
        self.owned.clear();
    }

    /// Puts what it owns into the subscription.
    fn subscribe(&mut self, rig: &Rig) {
        let owned = self.owned.iter().map(|(id, partitions)| TopicPartition {
            topic: rig.cluster.name_of(*id).unwrap_or_default().into(),
            partitions: partitions.iter().copied().collect(),
        });
        let subscription = ConsumerProtocolSubscription {
            topics: self.topics.iter().map(|topic| topic.clone().into()).collect(),
            owned_partitions: owned.collect(),
            generation_id: self.client.generation,
            ..Default::default()
        };
        let mut writer = Writer::new();
        writer.i16(3);
        subscription.encode(&mut writer, 3).expect("it fits");
        self.client.protocols = vec![("range".into(), writer.into_bytes().to_vec())];
    }
}

pub fn assigned(rig: &Rig, bytes: &[u8]) -> Owned {
    let mut reader = Reader::new(bytes);
    if bytes.is_empty() {
        return Owned::new();
    }
    let version = reader.i16().expect("a version");
    let assignment = ConsumerProtocolAssignment::decode(&mut reader, version).expect("an assignment");
    let topic = |t: &ottla_protocol::messages::consumer_protocol_assignment::TopicPartition<'_>| {
        (rig.cluster.id_of(&t.topic).expect("a topic"), t.partitions.iter().copied().collect())
    };
    assignment.assigned_partitions.iter().map(topic).collect()
}

impl Rig {
    /// JoinGroup and SyncGroup. An error is the end of the membership, unless it only says to join again.
    pub fn classic_round(&mut self, consumer: &mut ClassicConsumer) -> ErrorCode {
        if consumer.is_eager {
            consumer.owned.clear();
        }
        consumer.subscribe(self);
        if consumer.client.member_id.is_empty() && consumer.client.instance.is_none() {
            let waiter = self.join(&consumer.client);
            let told = self.joined(waiter);
            if error(told.error_code) != ErrorCode::MemberIdRequired {
                return error(told.error_code);
            }
            consumer.client.member_id = told.member_id.to_string();
        }
        let waiter = self.join(&consumer.client);
        if self.is_waiting(waiter) {
            return ErrorCode::RebalanceInProgress;
        }
        let joined = self.joined(waiter);
        if joined.error_code != 0 {
            return error(joined.error_code);
        }
        consumer.client.member_id = joined.member_id.to_string();
        consumer.client.generation = joined.generation_id;
        let waiter = self.sync(&consumer.client, &[]);
        if self.is_waiting(waiter) {
            return ErrorCode::RebalanceInProgress;
        }
        let synced = self.synced(waiter);
        if synced.error_code == 0 {
            consumer.owned = assigned(self, &synced.assignment);
        }
        error(synced.error_code)
    }

    /// A heartbeat, and what it leads to.
    pub fn classic_beat(&mut self, consumer: &mut ClassicConsumer) -> ErrorCode {
        let heard = match consumer.client.member_id.is_empty() {
            true => ErrorCode::RebalanceInProgress,
            false => self.heartbeat(&consumer.client),
        };
        let heard = match heard {
            ErrorCode::RebalanceInProgress => self.classic_round(consumer),
            other => other,
        };
        if !matches!(heard, ErrorCode::None | ErrorCode::RebalanceInProgress) {
            consumer.forget();
        }
        heard
    }
}
