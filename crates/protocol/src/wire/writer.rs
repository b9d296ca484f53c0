//! Writes messages into a chain: small fields into one growing buffer, record bytes as chunks of their own.
//!
//! The primitives return nothing. A value that can not be written is noted, once, and the message fails at its end;
//! what has been written by then is of no use and is to be dropped.

use bytes::{BufMut, Bytes, BytesMut};

use super::chain::Chain;
use super::error::{EncodeError, EncodeErrorKind};
use super::reader::STRING_BYTES_MAX;
use super::records::Records;
use super::uuid::Uuid;
use super::varint;

/// A message while it is written. Several may follow each other, as a header and a body do.
#[derive(Debug, Default)]
pub struct Writer {
    /// What comes before the buffer.
    chain: Chain,
    buffer: BytesMut,
    message: &'static str,
    version: i16,
    error: Option<EncodeError>,
    /// Where the time is that a client has to pause.
    throttle_at: Option<usize>,
}

/// Where the length of a tagged field is to be written.
#[derive(Clone, Copy, Debug)]
pub struct TagStart(usize);

impl Writer {
    /// A writer without bytes.
    pub fn new() -> Writer {
        Writer::default()
    }

    /// A writer with room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Writer {
        Writer { buffer: BytesMut::with_capacity(bytes), ..Writer::default() }
    }

    /// The bytes written so far.
    pub fn len(&self) -> usize {
        self.chain.len() + self.buffer.len()
    }

    /// Has nothing been written?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was written, as a chain.
    pub fn finish(mut self) -> Chain {
        self.flush();
        self.chain.set_throttle_at(self.throttle_at);
        self.chain
    }

    /// What was written, in one piece.
    ///
    /// # Panics
    /// If records in files were written: only [`Writer::finish`] can hand those on.
    pub fn into_bytes(self) -> Bytes {
        if self.chain.is_empty() {
            return self.buffer.freeze();
        }
        self.finish().in_memory().expect("a message with records in files is taken with finish")
    }

    /// Names the message that errors speak of, and refuses a version that it does not have.
    pub fn begin(
        &mut self,
        message: &'static str,
        version: i16,
        min: i16,
        max: i16,
    ) -> Result<(), EncodeError> {
        self.message = message;
        self.version = version;
        self.error = None;
        if version < min || version > max {
            return Err(self.error("", EncodeErrorKind::UnsupportedVersion));
        }
        Ok(())
    }

    /// Ends the message: fails if anything in it could not be written.
    pub fn end(&mut self) -> Result<(), EncodeError> {
        self.error.take().map_or(Ok(()), Err)
    }

    fn error(&self, field: &'static str, kind: EncodeErrorKind) -> EncodeError {
        EncodeError { message: self.message, version: self.version, field, kind }
    }

    #[cold]
    fn refuse(&mut self, field: &'static str, kind: EncodeErrorKind) {
        let error = self.error(field, kind);
        self.error.get_or_insert(error);
    }

    /// Notes a field that has a value and does not exist in this version.
    #[cold]
    pub fn refuse_field(&mut self, field: &'static str) {
        self.refuse(field, EncodeErrorKind::FieldNotInVersion);
    }

    /// Notes a field that is null where this version can not say so.
    #[cold]
    pub fn refuse_null(&mut self, field: &'static str) {
        self.refuse(field, EncodeErrorKind::Null);
    }

    fn flush(&mut self) {
        if !self.buffer.is_empty() {
            self.chain.push_bytes(self.buffer.split().freeze());
        }
    }

    /// The time in milliseconds that a client has to pause. Its place is remembered, for [`Chain::raise_throttle_time`].
    pub fn throttle_time(&mut self, ms: i32) {
        self.throttle_at = Some(self.len());
        self.i32(ms);
    }

    /// Bytes as they are, without a length.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Pieces as they are, without a length and without a copy.
    pub fn chain(&mut self, chain: Chain) {
        self.flush();
        self.chain.append(chain);
    }

    /// One byte, zero or one.
    pub fn bool(&mut self, value: bool) {
        self.buffer.put_u8(u8::from(value));
    }

    /// A signed number of 1 byte.
    pub fn i8(&mut self, value: i8) {
        self.buffer.put_i8(value);
    }

    /// A signed number of 2 bytes.
    pub fn i16(&mut self, value: i16) {
        self.buffer.put_i16(value);
    }

    /// An unsigned number of 2 bytes.
    pub fn u16(&mut self, value: u16) {
        self.buffer.put_u16(value);
    }

    /// A signed number of 4 bytes.
    pub fn i32(&mut self, value: i32) {
        self.buffer.put_i32(value);
    }

    /// An unsigned number of 4 bytes.
    pub fn u32(&mut self, value: u32) {
        self.buffer.put_u32(value);
    }

    /// A signed number of 8 bytes.
    pub fn i64(&mut self, value: i64) {
        self.buffer.put_i64(value);
    }

    /// A floating-point number of 8 bytes.
    pub fn f64(&mut self, value: f64) {
        self.buffer.put_f64(value);
    }

    /// 16 bytes.
    pub fn uuid(&mut self, value: Uuid) {
        self.raw(&value.0);
    }

    /// An unsigned variable-length number.
    pub fn varint(&mut self, value: u32) {
        varint::put_u32(&mut self.buffer, value);
    }

    /// A length or count of 4 bytes, or a compact one.
    fn length(&mut self, length: usize, compact: bool) {
        let Ok(length) = i32::try_from(length) else { return self.refuse("", EncodeErrorKind::TooLong) };
        if compact { self.varint(length as u32 + 1) } else { self.i32(length) }
    }

    /// Text.
    pub fn string(&mut self, text: &str, compact: bool) {
        if text.len() > STRING_BYTES_MAX {
            return self.refuse("", EncodeErrorKind::TooLong);
        }
        if compact {
            self.varint(text.len() as u32 + 1)
        } else {
            self.i16(text.len() as i16)
        }
        self.raw(text.as_bytes());
    }

    /// Text or null.
    pub fn nullable_string(&mut self, text: Option<&str>, compact: bool) {
        match text {
            Some(text) => self.string(text, compact),
            None if compact => self.varint(0),
            None => self.i16(-1),
        }
    }

    /// Bytes.
    pub fn bytes(&mut self, bytes: &[u8], compact: bool) {
        self.length(bytes.len(), compact);
        self.raw(bytes);
    }

    /// Bytes or null.
    pub fn nullable_bytes(&mut self, bytes: Option<&[u8]>, compact: bool) {
        match bytes {
            Some(bytes) => self.bytes(bytes, compact),
            None => self.null_count(compact),
        }
    }

    /// Record batches or null. Those in a chain are added as its chunks; a borrowed slice must be copied.
    pub fn records(&mut self, records: Option<&Records<'_>>, compact: bool) {
        match records {
            Some(Records::Slice(slice)) => self.bytes(slice, compact),
            Some(Records::Chain(chain)) => {
                self.length(chain.len(), compact);
                self.chain(chain.clone());
            }
            None => self.null_count(compact),
        }
    }

    /// The count of elements of an array.
    pub fn count(&mut self, count: usize, compact: bool) {
        self.length(count, compact);
    }

    /// The count of an array that is null; also the length of bytes that are.
    pub fn null_count(&mut self, compact: bool) {
        if compact { self.varint(0) } else { self.i32(-1) }
    }

    /// Says whether a struct follows or is null.
    pub fn marker(&mut self, present: bool) {
        self.i8(if present { 1 } else { -1 });
    }

    /// The same of a struct that is a tagged field.
    pub fn tagged_marker(&mut self, present: bool) {
        self.varint(u32::from(present));
    }

    /// The count of tagged fields of a struct.
    pub fn tags(&mut self, count: u32) {
        self.varint(count);
    }

    /// Begins a tagged field. Its length is written by [`Writer::end_tag`]; no records may come in between.
    pub fn begin_tag(&mut self, tag: u32) -> TagStart {
        self.varint(tag);
        self.buffer.put_u8(0);
        TagStart(self.buffer.len())
    }

    /// Ends a tagged field: writes its length, moving the value on where that takes more than the one byte left for it.
    pub fn end_tag(&mut self, start: TagStart) {
        let TagStart(start) = start;
        let size = self.buffer.len() - start;
        let Ok(length) = u32::try_from(size) else { return self.refuse("", EncodeErrorKind::TooLong) };
        let more = varint::len_u32(length) - 1;
        if more > 0 {
            self.buffer.put_bytes(0, more);
            self.buffer.copy_within(start..start + size, start + more);
        }
        let mut place = &mut self.buffer[start - 1..start + more];
        varint::put_u32(&mut place, length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Chunk, FileRange, ReadAt};
    use std::io;
    use std::sync::Arc;

    #[derive(Debug)]
    struct Letters;

    impl ReadAt for Letters {
        fn read_exact_at(&self, buf: &mut [u8], position: u64) -> io::Result<()> {
            for (index, byte) in buf.iter_mut().enumerate() {
                *byte = b'a' + (position as usize + index) as u8 % 26;
            }
            Ok(())
        }
    }

    #[test]
    fn records_are_chunks_of_their_own() {
        let mut chain = Chain::from(Bytes::from_static(b"memory"));
        chain.push_file(FileRange { file: Arc::new(Letters), position: 2, len: 3 });
        let mut writer = Writer::new();
        writer.i8(7);
        writer.records(Some(&Records::Chain(chain)), true);
        writer.i8(8);
        assert_eq!(writer.len(), 12);
        let chain = writer.finish();
        let kinds: Vec<bool> = chain.chunks().iter().map(|chunk| matches!(chunk, Chunk::File(_))).collect();
        assert_eq!(kinds, [false, false, true, false]);
        assert_eq!(chain.read().expect("letters never fail"), b"\x07\x0amemorycde\x08"[..]);
        assert_eq!(chain.in_memory(), None);
    }

    #[test]
    fn the_pause_that_an_answer_tells_can_be_raised_later() {
        let mut chain = Chain::from(Bytes::from_static(b"memory"));
        chain.push_file(FileRange { file: Arc::new(Letters), position: 2, len: 3 });
        let mut writer = Writer::new();
        writer.records(Some(&Records::Chain(chain)), true);
        writer.throttle_time(300);
        writer.i8(8);
        let mut chain = writer.finish();
        let shared = chain.clone();
        let told = |chain: &Chain| chain.read().expect("letters never fail")[10..].to_vec();
        chain.raise_throttle_time(299);
        assert_eq!(told(&chain), [0, 0, 1, 44, 8]);
        chain.raise_throttle_time(i32::MAX);
        assert_eq!(told(&chain), [127, 255, 255, 255, 8]);
        assert_eq!(told(&shared), [0, 0, 1, 44, 8], "somebody else's answer");
        let mut silent = Chain::from(Bytes::from_static(b"memory"));
        silent.raise_throttle_time(1);
        assert_eq!(silent.read().expect("in memory"), b"memory"[..]);
    }

    #[test]
    fn tagged_values_of_any_length_get_their_length() {
        for size in [0, 1, 127, 128, 129, 16383, 16384, 20000] {
            let mut writer = Writer::new();
            let start = writer.begin_tag(300);
            let value: Vec<u8> = (0..size).map(|index| index as u8).collect();
            writer.raw(&value);
            writer.end_tag(start);
            let mut expected = Vec::new();
            varint::put_u32(&mut expected, 300);
            varint::put_u32(&mut expected, size);
            expected.extend(value);
            assert_eq!(writer.into_bytes(), expected);
        }
    }

    #[test]
    fn the_first_refusal_is_told_at_the_end() {
        let mut writer = Writer::new();
        writer.begin("Some", 3, 0, 3).expect("3 is a version");
        writer.string(&"x".repeat(STRING_BYTES_MAX + 1), true);
        writer.refuse_null("later");
        let error = writer.end().expect_err("the text is too long");
        assert_eq!(error.kind, EncodeErrorKind::TooLong);
        assert_eq!(writer.end(), Ok(()));
        assert!(writer.begin("Some", 4, 0, 3).is_err());
    }
}
