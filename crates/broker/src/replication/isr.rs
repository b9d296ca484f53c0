//! Who is in sync, as the leaders on this node see it: changes of ISRs are proposed to the controller, all that there are in one request,
//! one request at a time (Kafka: `AlterPartitionManager`).
//!
//! The one tricky idea: a proposal without an answer may have been accepted. It stands until the controller, or the image, has said what
//! became of it, and is only sent again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::alter_partition_request::{
    AlterPartitionRequest, BrokerState, PartitionData, TopicData,
};
use ottla_protocol::messages::alter_partition_response::AlterPartitionResponse;

use super::PartitionKey;
use crate::Broker;
use crate::effect::{Effect, Effects, Millis};
use crate::partition::Partition;
use crate::partition::guard::ReplicaGuard;
use crate::quorum::Ask;
use crate::sessions::lock;

/// Pause before proposals without an answer are sent again.
const RETRY_MS: Millis = 50;
/// Partitions of one request.
const PARTITIONS_MAX: usize = 10_000;

/// Proposals that are not decided.
#[derive(Debug, Default)]
pub(crate) struct IsrChanges {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: BTreeMap<PartitionKey, Arc<Partition>>,
    asked: BTreeMap<PartitionKey, Arc<Partition>>,
    at: Millis,
    /// When laggards are looked for next, and whether anybody followed at the last look.
    check_at: Millis,
    has_followers: bool,
}

/// Whether an error says that a proposal was not accepted, and that the partition is as its leader knows it. Any other says nothing of the
/// kind: an earlier sending of the same proposal may have been accepted, and the image that says so be on its way. Who is in sync by that
/// has to be waited for until then (Kafka: `Partition.handleAlterPartitionError`).
pub fn was_refused(error: ErrorCode) -> bool {
    let refusals =
        [ErrorCode::IneligibleReplica, ErrorCode::OperationNotAttempted, ErrorCode::InvalidRequest];
    ReplicaGuard::ProposalStandsUntilDecided.holds(refusals.contains(&error))
}

impl Broker {
    /// A partition has something to propose.
    pub(crate) fn propose_isr(&self, partition: &Arc<Partition>, now: Millis, out: &mut Effects) {
        let key = (partition.topic.id, partition.index);
        lock(&self.isr_changes.state).waiting.insert(key, partition.clone());
        self.send_proposals(now, out);
    }

    fn send_proposals(&self, now: Millis, out: &mut Effects) {
        let request = {
            let state = &mut *lock(&self.isr_changes.state);
            if !state.asked.is_empty() || state.waiting.is_empty() {
                return;
            }
            if now < state.at {
                out.push(Effect::Tick { at: state.at });
                return;
            }
            let mut topics: Vec<TopicData> = Vec::new();
            while let Some(((topic_id, index), partition)) = state.waiting.pop_first() {
                // What was decided meanwhile is proposed no more.
                let Some(proposal) = partition.proposal() else { continue };
                let data = PartitionData {
                    partition_index: index,
                    leader_epoch: proposal.leader_epoch,
                    // Version 3 names the brokers with their epochs only.
                    new_isr: Vec::new(),
                    new_isr_with_epochs: proposal
                        .isr
                        .iter()
                        .map(|&(broker_id, broker_epoch)| BrokerState { broker_id, broker_epoch })
                        .collect(),
                    leader_recovery_state: 0,
                    partition_epoch: proposal.partition_epoch,
                };
                state.asked.insert((topic_id, index), partition);
                match topics.last_mut().filter(|topic| topic.topic_id == topic_id) {
                    Some(topic) => topic.partitions.push(data),
                    None => topics.push(TopicData { topic_id, partitions: vec![data] }),
                }
                if state.asked.len() >= PARTITIONS_MAX {
                    break;
                }
            }
            if topics.is_empty() {
                return;
            }
            AlterPartitionRequest {
                broker_id: self.config.node_id,
                broker_epoch: self.broker_epoch(),
                topics,
            }
        };
        self.ask_controller(Ask::Isr(Box::new(request)), now, out);
    }

    /// The controller decided, or did not answer.
    pub(crate) fn on_isr_decided(
        &self,
        answer: Option<AlterPartitionResponse>,
        now: Millis,
        out: &mut Effects,
    ) {
        let asked = std::mem::take(&mut lock(&self.isr_changes.state).asked);
        let answer = answer.filter(|answer| answer.error_code == ErrorCode::None.code());
        let decided: BTreeMap<PartitionKey, _> = answer
            .iter()
            .flat_map(|answer| &answer.topics)
            .flat_map(|topic| {
                topic.partitions.iter().map(|data| ((topic.topic_id, data.partition_index), data))
            })
            .collect();
        for (key, partition) in asked {
            let error = decided.get(&key).map(|data| ErrorCode::from_code(data.error_code));
            let decision = match (decided.get(&key), error) {
                (Some(data), Some(ErrorCode::None)) => {
                    Some((data.leader_epoch, data.isr.clone(), data.partition_epoch))
                }
                (_, Some(error)) if was_refused(error) => None,
                _ => {
                    let state = &mut *lock(&self.isr_changes.state);
                    state.waiting.insert(key, partition);
                    state.at = now + RETRY_MS;
                    continue;
                }
            };
            let wakes = partition.on_isr_decided(decision, now, out);
            self.wake(&partition, wakes, now, out);
        }
        self.send_proposals(now, out);
    }

    /// Time passed: followers that do not keep up are looked for, and what was not answered is sent again.
    pub(crate) fn on_isr_tick(&self, now: Millis, out: &mut Effects) {
        let lag_ms = self.config.replication.lag_time_max_ms;
        let is_due = {
            let state = &mut *lock(&self.isr_changes.state);
            let is_due = now >= state.check_at;
            if is_due {
                state.check_at = now + (lag_ms / 2).max(1);
            }
            is_due
        };
        if is_due {
            let topics = self.topics();
            let partitions = topics.iter().flat_map(|topic| &topic.partitions);
            let followed: Vec<_> = partitions.filter(|partition| partition.has_followers()).collect();
            lock(&self.isr_changes.state).has_followers = !followed.is_empty();
            for partition in followed {
                if partition.propose_without_laggards(lag_ms, now) {
                    self.propose_isr(partition, now, out);
                }
            }
        }
        let state = lock(&self.isr_changes.state);
        if state.has_followers {
            out.push(Effect::Tick { at: state.check_at });
        }
        drop(state);
        self.send_proposals(now, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A proposal whose answer was lost is sent again: by then the controller has gone on, because it accepted it.
    #[test]
    fn an_error_that_does_not_say_no_is_no_refusal() {
        for unknown in [
            ErrorCode::InvalidUpdateVersion,
            ErrorCode::NotController,
            ErrorCode::FencedLeaderEpoch,
            ErrorCode::NewLeaderElected,
            ErrorCode::UnknownServerError,
        ] {
            assert!(!was_refused(unknown), "{unknown:?}");
        }
        assert!(was_refused(ErrorCode::IneligibleReplica) && was_refused(ErrorCode::OperationNotAttempted));
    }
}
