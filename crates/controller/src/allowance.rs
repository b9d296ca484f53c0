//! How many partitions a request may create or delete (KIP-599).
//!
//! A decision only says how many it is about; whoever asks for the decision counts, and says when it is too many.

use ottla_protocol::ErrorCode;

use crate::error::ApiError;

/// Told how many partitions the next part of a request creates or deletes; false if it has to be refused.
pub type Allowance<'a> = &'a mut dyn FnMut(usize) -> bool;

/// The allowance of those whom nobody limits.
pub fn unlimited(_partitions: usize) -> bool {
    true
}

pub(crate) fn spend(allowance: Allowance<'_>, partitions: usize) -> Result<(), ApiError> {
    if allowance(partitions) { Ok(()) } else { Err(ApiError::plain(ErrorCode::ThrottlingQuotaExceeded)) }
}
