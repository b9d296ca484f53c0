//! ListTransactions 0-2 (KIP-664): the transactional ids whose coordinators are on this node. v1 filters by duration (KIP-994), v2 by a
//! pattern that the whole id has to match (KIP-1152).

use ottla_coordinator::transaction::{TransactionFilter, TransactionState};
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::list_transactions_request::ListTransactionsRequest;
use ottla_protocol::messages::list_transactions_response::ListTransactionsResponse;
use regex::RegexBuilder;

use crate::Broker;
use crate::call::Call;
use crate::coordination::{Joint, JointBody};

/// What a client's pattern may take to compile, in bytes.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Handles the request.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: ListTransactionsRequest<'_>) {
    let pattern = request.transactional_id_pattern.as_deref().filter(|pattern| !pattern.is_empty());
    let pattern = pattern
        .map(|pattern| RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(PATTERN_BYTES_MAX).build());
    let pattern = match pattern.transpose() {
        Ok(pattern) => pattern,
        Err(_) => {
            let error_code = ErrorCode::InvalidRegularExpression.code();
            return call.respond(&ListTransactionsResponse { error_code, ..Default::default() });
        }
    };
    let mut unknown_state_filters = Vec::new();
    let mut states = Vec::new();
    for name in &request.state_filters {
        match TransactionState::from_name(name) {
            Some(state) => states.push(state),
            None => unknown_state_filters.push(name.to_string().into()),
        }
    }
    let filter = TransactionFilter {
        producer_ids: &request.producer_id_filters,
        states: (!request.state_filters.is_empty()).then_some(states),
        duration_ms: request.duration_filter,
        id_matches: &|id| pattern.as_ref().is_none_or(|pattern| pattern.is_match(id)),
    };
    let joint = Joint::new(call.reply, JointBody::ListTransactions(ListTransactionsResponse::default()));
    let mut transaction_states = Vec::new();
    let now = call.now;
    broker.transactions().read_all(broker, &joint, now, call.out, |coordinator| {
        transaction_states.extend(coordinator.list(&filter, now));
    });
    joint.write(|body| {
        *body = JointBody::ListTransactions(ListTransactionsResponse {
            unknown_state_filters,
            transaction_states,
            ..Default::default()
        });
    });
    joint.part_done(call.out);
}
