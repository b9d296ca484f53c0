//! A consumer of the new protocol at the rig: it follows its assignment as the Java client does, and says only what changed.

use crate::rig::{Rig, error};
use ottla_coordinator::Response;
use ottla_protocol::messages::consumer_group_heartbeat_request::{
    ConsumerGroupHeartbeatRequest, TopicPartitions,
};
use ottla_protocol::messages::consumer_group_heartbeat_response::ConsumerGroupHeartbeatResponse;
use ottla_protocol::{ErrorCode, Uuid};
use std::collections::{BTreeMap, BTreeSet};

pub type Owned = BTreeMap<Uuid, BTreeSet<i32>>;

/// A member as its client sees it.
#[derive(Debug, Clone)]
pub struct Consumer {
    pub group: String,
    pub id: String,
    pub instance: Option<String>,
    pub topics: Option<Vec<String>>,
    pub regex: Option<String>,
    pub assignor: Option<String>,
    pub rebalance_timeout: i32,
    pub member_epoch: i32,
    /// What it works on, and told the coordinator that it does.
    pub owned: Owned,
    /// What it was last told to work on.
    pub assigned: Owned,
    /// It did not hear the last answer: the next request says everything again, and asks for everything.
    pub is_unsure: bool,
}

impl Consumer {
    pub fn new(id: &str, topics: &[&str]) -> Consumer {
        Consumer {
            group: "g".into(),
            id: id.into(),
            instance: None,
            topics: Some(topics.iter().map(|topic| topic.to_string()).collect()),
            regex: None,
            assignor: None,
            rebalance_timeout: 30_000,
            member_epoch: 0,
            owned: Owned::new(),
            assigned: Owned::new(),
            is_unsure: false,
        }
    }

    pub fn with_regex(id: &str, regex: &str) -> Consumer {
        Consumer { topics: None, regex: Some(regex.into()), ..Consumer::new(id, &[]) }
    }

    pub fn with_instance(mut self, instance: &str) -> Consumer {
        self.instance = Some(instance.into());
        self
    }

    /// Partitions as `t-0 t-1`, for comparisons; topics by the last byte of their id.
    pub fn owns(&self) -> Vec<(u8, i32)> {
        flat(&self.owned)
    }

    pub fn full_request(&self) -> ConsumerGroupHeartbeatRequest<'static> {
        ConsumerGroupHeartbeatRequest {
            group_id: self.group.clone().into(),
            member_id: self.id.clone().into(),
            member_epoch: self.member_epoch,
            instance_id: self.instance.clone().map(Into::into),
            rebalance_timeout_ms: self.rebalance_timeout,
            subscribed_topic_names: self
                .topics
                .as_ref()
                .map(|topics| topics.iter().map(|topic| topic.clone().into()).collect()),
            subscribed_topic_regex: self.regex.clone().map(Into::into),
            server_assignor: self.assignor.clone().map(Into::into),
            topic_partitions: Some(encode(&self.owned)),
            ..Default::default()
        }
    }

    /// A heartbeat that says only who it is, and what it owns.
    pub fn request(&self) -> ConsumerGroupHeartbeatRequest<'static> {
        ConsumerGroupHeartbeatRequest {
            rebalance_timeout_ms: -1,
            subscribed_topic_names: None,
            subscribed_topic_regex: None,
            server_assignor: None,
            ..self.full_request()
        }
    }

    /// What its client sends next.
    pub fn next_request(&self) -> ConsumerGroupHeartbeatRequest<'static> {
        if self.member_epoch == 0 || self.is_unsure { self.full_request() } else { self.request() }
    }

    /// Takes an answer in: the assignment is worked on at once, and told with the next heartbeat.
    pub fn learn(&mut self, response: &ConsumerGroupHeartbeatResponse<'_>) {
        assert_eq!(response.error_code, 0, "{}: {response:?}", self.id);
        self.member_epoch = response.member_epoch;
        self.is_unsure = false;
        self.id = response.member_id.as_deref().expect("an id").to_string();
        if let Some(assignment) = &response.assignment {
            let topic = |t: &ottla_protocol::messages::consumer_group_heartbeat_response::TopicPartitions| {
                (t.topic_id, t.partitions.iter().copied().collect())
            };
            self.assigned = assignment.topic_partitions.iter().map(topic).collect();
            self.owned = self.assigned.clone();
        }
    }

    pub fn forget(&mut self) {
        self.member_epoch = 0;
        self.owned.clear();
        self.assigned.clear();
    }
}

pub fn flat(owned: &Owned) -> Vec<(u8, i32)> {
    owned.iter().flat_map(|(topic, p)| p.iter().map(|p| (topic.0[15], *p))).collect()
}

fn encode(owned: &Owned) -> Vec<TopicPartitions> {
    let topic = |(id, partitions): (&Uuid, &BTreeSet<i32>)| TopicPartitions {
        topic_id: *id,
        partitions: partitions.iter().copied().collect(),
    };
    owned.iter().map(topic).collect()
}

impl Rig {
    pub fn consumer_request(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest<'_>,
        version: i16,
    ) -> ConsumerGroupHeartbeatResponse<'static> {
        let waiter = self
            .request("consumer", version, |c, context| c.handle_consumer_group_heartbeat(request, context));
        match self.answer(waiter) {
            Response::ConsumerGroupHeartbeat(response) => response,
            other => panic!("not a ConsumerGroupHeartbeat response: {other:?}"),
        }
    }

    /// One heartbeat.
    pub fn beat(&mut self, consumer: &mut Consumer) -> ConsumerGroupHeartbeatResponse<'static> {
        let response = self.consumer_request(&consumer.next_request(), 1);
        consumer.learn(&response);
        response
    }

    pub fn beat_error(&mut self, consumer: &Consumer) -> ErrorCode {
        error(self.consumer_request(&consumer.full_request(), 1).error_code)
    }

    /// Heartbeats of all, a second apart, until nothing changes any more.
    pub fn settle_consumers(&mut self, consumers: &mut [Consumer]) {
        for _ in 0..30 {
            let before: Vec<_> = consumers.iter().map(|c| (c.member_epoch, c.owned.clone())).collect();
            for consumer in consumers.iter_mut() {
                self.beat(consumer);
            }
            self.advance(1_000);
            let after: Vec<_> = consumers.iter().map(|c| (c.member_epoch, c.owned.clone())).collect();
            let group = consumers.first().map_or("g", |consumer| &consumer.group);
            if before == after && self.consumer_state(group) == "Stable" {
                return;
            }
        }
        panic!("the group does not come to rest: {consumers:?}");
    }

    pub fn leave_consumer(&mut self, consumer: &Consumer, member_epoch: i32) -> ErrorCode {
        let request = ConsumerGroupHeartbeatRequest { member_epoch, ..consumer.request() };
        error(self.consumer_request(&request, 1).error_code)
    }

    pub fn consumer_state(&self, group: &str) -> String {
        self.coordinator.describe_consumer_group(group, &self.cluster).group_state.to_string()
    }

    /// Group epoch and assignment epoch.
    pub fn epochs(&self, group: &str) -> (i32, i32) {
        let described = self.coordinator.describe_consumer_group(group, &self.cluster);
        (described.group_epoch, described.assignment_epoch)
    }

    /// Tells the coordinator that topics are different now.
    pub fn topics_changed(&mut self, names: &[&str], some_are_new: bool) {
        self.cluster.version += 1;
        self.coordinator.on_topics_changed(names, some_are_new, self.cluster.version);
    }
}
