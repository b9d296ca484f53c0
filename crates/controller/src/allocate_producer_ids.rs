//! AllocateProducerIds (67), version 0: hands a block of producer ids to a broker.
//!
//! The tricky idea: the record names the id *after* the block, and a block is given out only when that record is
//! committed; a block whose answer was lost is simply never used. No id is ever given twice.

use crate::context::{Context, Decision};
use crate::error::ApiError;
use ottla_protocol::ErrorCode;
use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::allocate_producer_ids_request::AllocateProducerIdsRequest;
use ottla_protocol::messages::allocate_producer_ids_response::AllocateProducerIdsResponse;
use ottla_protocol::messages::metadata_record::MetadataRecord;
use ottla_protocol::messages::producer_ids_record::ProducerIdsRecord;

/// How many ids a block has.
pub const PRODUCER_ID_BLOCK_SIZE: i32 = 1000;

/// Decides about the next block.
pub fn allocate_producer_ids(
    context: &Context<'_>,
    request: &AllocateProducerIdsRequest,
) -> Result<Decision<AllocateProducerIdsResponse>, ApiError> {
    context.check_broker_epoch(NodeId(request.broker_id), request.broker_epoch)?;
    let start = context.image.next_producer_id();
    let Some(next) = start.checked_add(i64::from(PRODUCER_ID_BLOCK_SIZE)) else {
        return Err(ApiError::new(ErrorCode::UnknownServerError, "All producer ids are used up."));
    };
    let record = ProducerIdsRecord {
        broker_id: request.broker_id,
        broker_epoch: request.broker_epoch,
        next_producer_id: next,
    };
    let response = AllocateProducerIdsResponse {
        throttle_time_ms: 0,
        error_code: ErrorCode::None.code(),
        producer_id_start: start,
        producer_id_len: PRODUCER_ID_BLOCK_SIZE,
    };
    Ok(Decision::atomic(vec![MetadataRecord::ProducerIdsRecord(record)], response))
}
