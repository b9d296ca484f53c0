//! AddPartitionsToTxn 0-5: partitions become part of an open transaction. v4+ comes from brokers: many transactions at once, added or only
//! verified (KIP-890). Before v2 there is no PRODUCER_FENCED (90): INVALID_PRODUCER_EPOCH (47) stands for it.
//!
//! A transaction whose partitions do not all exist is not touched: the others get OPERATION_NOT_ATTEMPTED (55).

use std::borrow::Cow;

use ottla_coordinator::TransactionVersion;
use ottla_coordinator::transaction::{AddPartitions, PartitionsAnswer, TopicPartition};
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnTransaction,
};
use ottla_protocol::messages::add_partitions_to_txn_response::AddPartitionsToTxnResponse;

use crate::Broker;
use crate::call::Call;
use crate::coordination::{Joint, JointBody};

/// First version that brokers speak.
const FIRST_BATCHED_VERSION: i16 = 4;

/// Handles the request.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: AddPartitionsToTxnRequest<'_>) {
    let batched = call.reply.version >= FIRST_BATCHED_VERSION;
    let transactions = if batched {
        request.transactions
    } else {
        vec![AddPartitionsToTxnTransaction {
            transactional_id: request.v3_and_below_transactional_id,
            producer_id: request.v3_and_below_producer_id,
            producer_epoch: request.v3_and_below_producer_epoch,
            verify_only: false,
            topics: request.v3_and_below_topics,
        }]
    };
    let client_version = if batched { TransactionVersion::V2 } else { TransactionVersion::V0 };
    let joint = Joint::new(call.reply, JointBody::AddPartitionsToTxn(AddPartitionsToTxnResponse::default()));
    for transaction in &transactions {
        let partitions: Vec<TopicPartition> = transaction
            .topics
            .iter()
            .flat_map(|topic| {
                let name = std::sync::Arc::<str>::from(&*topic.name);
                topic.partitions.iter().map(move |partition| (name.clone(), *partition))
            })
            .collect();
        let transactional_id: &Cow<'_, str> = &transaction.transactional_id;
        let refused = missing(broker, transactional_id, &partitions);
        let handled = match refused {
            Some(answer) => Err(answer),
            None => {
                let asked = AddPartitions {
                    transactional_id,
                    producer_id: transaction.producer_id,
                    producer_epoch: transaction.producer_epoch,
                    partitions: &partitions,
                    verify_only: transaction.verify_only,
                    client_version,
                };
                broker
                    .transactions()
                    .handle_part(broker, call, transactional_id, &joint, |coordinator, context| {
                        coordinator.handle_add_partitions(&asked, context)
                    })
                    .map_err(|error| PartitionsAnswer::all(transactional_id, &partitions, error))
            }
        };
        if let Err(answer) = handled {
            joint.write(|body| body.add_partitions(&answer, call.reply.version));
        }
    }
    joint.part_done(call.out);
}

/// The answer if some of the partitions do not exist.
fn missing(
    broker: &Broker,
    transactional_id: &str,
    partitions: &[TopicPartition],
) -> Option<PartitionsAnswer> {
    let topics = broker.topics();
    let errors = partitions.iter().map(|partition| {
        let exists = topics.partition_by_name(&partition.0, partition.1).is_ok();
        let error =
            if exists { ErrorCode::OperationNotAttempted } else { ErrorCode::UnknownTopicOrPartition };
        (partition.clone(), error)
    });
    let partitions: Vec<_> = errors.collect();
    let all_exist = partitions.iter().all(|(_, error)| *error == ErrorCode::OperationNotAttempted);
    (!all_exist).then(|| PartitionsAnswer { transactional_id: transactional_id.into(), partitions })
}
