//! What stands before requests and responses.
//!
//! The first eight bytes of a request are the same in every version of the header, so that they can be looked at
//! before anything is known about the API.

use crate::messages::request_header::RequestHeader;
use crate::wire::{DecodeError, Reader};

impl RequestHeader<'_> {
    /// Looks at the API key, its version and the correlation id of a frame, be they known or not.
    pub fn peek(frame: &[u8]) -> Result<(i16, i16, i32), DecodeError> {
        let mut r = Reader::new(frame);
        Ok((r.i16()?, r.i16()?, r.i32()?))
    }
}
