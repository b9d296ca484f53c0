//! DescribeTransactions 0 (KIP-664): the state of transactional ids, each as its coordinator knows it.

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::describe_transactions_request::DescribeTransactionsRequest;
use ottla_protocol::messages::describe_transactions_response::{
    DescribeTransactionsResponse, TransactionState,
};

use crate::Broker;
use crate::call::Call;
use crate::coordination::{Joint, JointBody};

/// Handles the request.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: DescribeTransactionsRequest<'_>) {
    let joint =
        Joint::new(call.reply, JointBody::DescribeTransactions(DescribeTransactionsResponse::default()));
    let mut described = Vec::with_capacity(request.transactional_ids.len());
    for transactional_id in &request.transactional_ids {
        let mut state = None;
        let read = if transactional_id.is_empty() {
            Err(ErrorCode::InvalidRequest)
        } else {
            broker.transactions().read(broker, transactional_id, &joint, call.now, call.out, |coordinator| {
                state = Some(coordinator.describe(transactional_id))
            })
        };
        described.push(match (read, state) {
            (Ok(()), Some(state)) => state,
            (failed, _) => TransactionState {
                error_code: failed.err().unwrap_or(ErrorCode::UnknownServerError).code(),
                transactional_id: transactional_id.to_string().into(),
                ..Default::default()
            },
        });
    }
    joint.write(|body| {
        *body = JointBody::DescribeTransactions(DescribeTransactionsResponse {
            transaction_states: described,
            ..Default::default()
        });
    });
    joint.part_done(call.out);
}
