//! CreateTopics 2-7: new topics with their partitions, replicas and configurations.

use ottla_protocol::messages::create_topics_request::CreateTopicsRequest;

use crate::Broker;
use crate::call::Call;

/// Decided by the controller; answered when the records are committed.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: CreateTopicsRequest<'_>) {
    broker.decide(call, |controller| controller.create_topics(&request));
}
