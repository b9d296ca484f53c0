//! A record of `__cluster_metadata`, whichever it is, and the frame that it is written in.
//!
//! ```text
//! frame version = 1 | type | version | the record       (three unsigned varints; Kafka's AbstractApiMessageSerde)
//! ```

use crate::wire::{DecodeError, DecodeErrorKind, EncodeError, Reader, Writer};

/// The only version of the frame.
pub const FRAME_VERSION: u32 = 1;

include!(concat!(env!("OUT_DIR"), "/metadata_records.rs"));

impl<'a> MetadataRecord<'a> {
    /// Writes the record in its frame.
    pub fn encode_framed(&self, version: i16, w: &mut Writer) -> Result<(), EncodeError> {
        w.varint(FRAME_VERSION);
        w.varint(self.record_type() as u32);
        w.varint(version as u32);
        self.encode(w, version)
    }

    /// Reads a record in its frame, which must be all of `bytes`.
    pub fn decode_framed(bytes: &'a [u8]) -> Result<MetadataRecord<'a>, DecodeError> {
        MetadataRecord::decode_framed_versioned(bytes).map(|(record, _)| record)
    }

    /// The same, and the version in which the record was written.
    pub fn decode_framed_versioned(bytes: &'a [u8]) -> Result<(MetadataRecord<'a>, i16), DecodeError> {
        let mut r = Reader::new(bytes);
        if r.varint()? != FRAME_VERSION {
            return Err(r.fail(DecodeErrorKind::UnknownFrame));
        }
        let record_type = i16::try_from(r.varint()?).map_err(|_| r.fail(DecodeErrorKind::UnknownType))?;
        let version = i16::try_from(r.varint()?).map_err(|_| r.fail(DecodeErrorKind::UnsupportedVersion))?;
        let record = MetadataRecord::decode(&mut r, record_type, version)?;
        r.expect_end()?;
        Ok((record, version))
    }
}
