//! CreatePartitions 0-3: topics grow; they never shrink.

use ottla_protocol::messages::create_partitions_request::CreatePartitionsRequest;

use crate::Broker;
use crate::call::Call;

/// Decided by the controller; answered when the records are committed.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: CreatePartitionsRequest<'_>) {
    broker.decide(call, |controller| controller.create_partitions(&request));
}
