//! Reads values from the front of a frame, borrowing whatever has a length.
//!
//! The one rule: a length is compared with the bytes that are left before anything else happens. A count of elements
//! is compared with what the smallest elements would need, so that nobody makes room for elements that are not there.

use std::borrow::Cow;

use super::error::{DecodeError, DecodeErrorKind};
use super::records::Records;
use super::uuid::Uuid;
use super::varint::{self, VarintError};

/// The longest text in bytes (Kafka's `MessageDataGenerator`: 0x7fff, also where the length is compact).
pub const STRING_BYTES_MAX: usize = 0x7fff;
/// The most elements of an array (Kafka 4.4).
pub const ELEMENTS_MAX: usize = 1_000_000;
/// The most tagged fields of one struct (Kafka 4.4).
pub const TAGS_MAX: u32 = 10_000;

/// A position in a frame.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    /// The frame; cut off behind the tagged field while one is being read.
    bytes: &'a [u8],
    position: usize,
    message: &'static str,
    version: i16,
}

/// What is still to come of the tagged fields of a struct.
#[derive(Debug)]
pub struct Tags {
    left: u32,
    /// The smallest tag that may come next.
    next_min: u64,
}

/// The frame as it was before the reader was confined to one tagged field.
#[derive(Debug)]
pub struct TagScope<'a> {
    frame: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, position: 0, message: "", version: 0 }
    }

    /// The bytes that are left.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// The bytes that have been read.
    pub fn position(&self) -> usize {
        self.position
    }

    /// The bytes that are left, without reading them.
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.position..]
    }

    /// Names the message that errors speak of, and refuses a version that it does not have.
    pub fn begin(
        &mut self,
        message: &'static str,
        version: i16,
        min: i16,
        max: i16,
    ) -> Result<(), DecodeError> {
        self.message = message;
        self.version = version;
        if version < min || version > max {
            Err(self.fail(DecodeErrorKind::UnsupportedVersion))
        } else {
            Ok(())
        }
    }

    /// Refuses bytes behind the end of a message.
    pub fn expect_end(&self) -> Result<(), DecodeError> {
        if self.remaining() == 0 { Ok(()) } else { Err(self.fail(DecodeErrorKind::TrailingBytes)) }
    }

    /// An error at the present position.
    #[cold]
    pub fn fail(&self, kind: DecodeErrorKind) -> DecodeError {
        DecodeError { message: self.message, version: self.version, position: self.position, kind }
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        if count > self.remaining() {
            return Err(self.fail(DecodeErrorKind::Truncated));
        }
        let taken = &self.bytes[self.position..self.position + count];
        self.position += count;
        Ok(taken)
    }

    #[inline]
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.bytes[self.position..].first_chunk::<N>() {
            Some(bytes) => {
                self.position += N;
                Ok(*bytes)
            }
            None => Err(self.fail(DecodeErrorKind::Truncated)),
        }
    }

    /// One byte, zero or not.
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.i8()? != 0)
    }

    /// A signed number of 1 byte.
    pub fn i8(&mut self) -> Result<i8, DecodeError> {
        Ok(i8::from_be_bytes(self.fixed()?))
    }

    /// A signed number of 2 bytes.
    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        Ok(i16::from_be_bytes(self.fixed()?))
    }

    /// An unsigned number of 2 bytes.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.fixed()?))
    }

    /// A signed number of 4 bytes.
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.fixed()?))
    }

    /// An unsigned number of 4 bytes.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.fixed()?))
    }

    /// A signed number of 8 bytes.
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.fixed()?))
    }

    /// A floating-point number of 8 bytes.
    pub fn f64(&mut self) -> Result<f64, DecodeError> {
        Ok(f64::from_be_bytes(self.fixed()?))
    }

    /// 16 bytes.
    pub fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        Ok(Uuid(self.fixed()?))
    }

    /// An unsigned variable-length number.
    pub fn varint(&mut self) -> Result<u32, DecodeError> {
        match varint::get_u32(self.rest()) {
            Ok((value, size)) => {
                self.position += size;
                Ok(value)
            }
            Err(VarintError::Truncated) => Err(self.fail(DecodeErrorKind::Truncated)),
            Err(VarintError::TooLong) => Err(self.fail(DecodeErrorKind::VarintTooLong)),
        }
    }

    /// A compact length is one more than it means; zero means null.
    fn compact_length(&mut self) -> Result<Option<usize>, DecodeError> {
        Ok(self.varint()?.checked_sub(1).map(|length| length as usize))
    }

    /// A length of 4 bytes or a compact one; null if there is none. As in Kafka, any negative length is null.
    fn length(&mut self, compact: bool) -> Result<Option<usize>, DecodeError> {
        if compact { self.compact_length() } else { Ok(usize::try_from(self.i32()?).ok()) }
    }

    fn required<T>(&self, value: Option<T>) -> Result<T, DecodeError> {
        value.ok_or_else(|| self.fail(DecodeErrorKind::Null))
    }

    fn nullable<T>(&self, value: Option<T>, nullable: bool) -> Result<Option<T>, DecodeError> {
        if value.is_none() && !nullable { Err(self.fail(DecodeErrorKind::Null)) } else { Ok(value) }
    }

    fn maybe_text(&mut self, compact: bool) -> Result<Option<Cow<'a, str>>, DecodeError> {
        let length = if compact { self.compact_length()? } else { usize::try_from(self.i16()?).ok() };
        let Some(length) = length else { return Ok(None) };
        if length > STRING_BYTES_MAX {
            return Err(self.fail(DecodeErrorKind::StringTooLong));
        }
        match std::str::from_utf8(self.take(length)?) {
            Ok(text) => Ok(Some(Cow::Borrowed(text))),
            Err(_) => Err(self.fail(DecodeErrorKind::Utf8)),
        }
    }

    /// Text.
    pub fn string(&mut self, compact: bool) -> Result<Cow<'a, str>, DecodeError> {
        let text = self.maybe_text(compact)?;
        self.required(text)
    }

    /// Text or, where `nullable`, null.
    pub fn nullable_string(
        &mut self,
        compact: bool,
        nullable: bool,
    ) -> Result<Option<Cow<'a, str>>, DecodeError> {
        let text = self.maybe_text(compact)?;
        self.nullable(text, nullable)
    }

    fn maybe_bytes(&mut self, compact: bool) -> Result<Option<&'a [u8]>, DecodeError> {
        match self.length(compact)? {
            Some(length) => self.take(length).map(Some),
            None => Ok(None),
        }
    }

    /// Bytes.
    pub fn bytes(&mut self, compact: bool) -> Result<Cow<'a, [u8]>, DecodeError> {
        let bytes = self.maybe_bytes(compact)?;
        self.required(bytes.map(Cow::Borrowed))
    }

    /// Bytes or, where `nullable`, null.
    pub fn nullable_bytes(
        &mut self,
        compact: bool,
        nullable: bool,
    ) -> Result<Option<Cow<'a, [u8]>>, DecodeError> {
        let bytes = self.maybe_bytes(compact)?;
        self.nullable(bytes.map(Cow::Borrowed), nullable)
    }

    /// Record batches or, where `nullable`, null.
    pub fn records(&mut self, compact: bool, nullable: bool) -> Result<Option<Records<'a>>, DecodeError> {
        let bytes = self.maybe_bytes(compact)?;
        self.nullable(bytes.map(Records::Slice), nullable)
    }

    fn maybe_count(&mut self, compact: bool, size_min: usize) -> Result<Option<usize>, DecodeError> {
        let count = self.length(compact)?;
        if count.is_some_and(|count| count > ELEMENTS_MAX || count > self.remaining() / size_min) {
            return Err(self.fail(DecodeErrorKind::TooManyElements));
        }
        Ok(count)
    }

    /// The count of an array whose elements take at least `size_min` bytes.
    pub fn count(&mut self, compact: bool, size_min: usize) -> Result<usize, DecodeError> {
        let count = self.maybe_count(compact, size_min)?;
        self.required(count)
    }

    /// The count of an array or, where `nullable`, null.
    pub fn nullable_count(
        &mut self,
        compact: bool,
        nullable: bool,
        size_min: usize,
    ) -> Result<Option<usize>, DecodeError> {
        let count = self.maybe_count(compact, size_min)?;
        self.nullable(count, nullable)
    }

    /// Does a struct follow, or is it null?
    pub fn present(&mut self) -> Result<bool, DecodeError> {
        Ok(self.i8()? >= 0)
    }

    /// The same of a struct that is a tagged field.
    pub fn tagged_present(&mut self) -> Result<bool, DecodeError> {
        Ok(self.varint()? > 0)
    }

    /// The count of tagged fields of a struct.
    pub fn tags(&mut self) -> Result<Tags, DecodeError> {
        let left = self.varint()?;
        // Each takes at least a byte for its tag and one for its length.
        if left > TAGS_MAX || left as usize > self.remaining() / 2 {
            return Err(self.fail(DecodeErrorKind::TooManyTags));
        }
        Ok(Tags { left, next_min: 0 })
    }

    /// The next tag, if there is one. Until [`Reader::end_tag`] the reader sees nothing but the value of that field.
    pub fn next_tag(&mut self, tags: &mut Tags) -> Result<Option<(u32, TagScope<'a>)>, DecodeError> {
        let Some(left) = tags.left.checked_sub(1) else { return Ok(None) };
        tags.left = left;
        let tag = self.varint()?;
        if u64::from(tag) < tags.next_min {
            return Err(self.fail(DecodeErrorKind::TagOrder));
        }
        tags.next_min = u64::from(tag) + 1;
        let size = self.varint()? as usize;
        if size > self.remaining() {
            return Err(self.fail(DecodeErrorKind::Truncated));
        }
        let scope = TagScope { frame: self.bytes };
        self.bytes = &self.bytes[..self.position + size];
        Ok(Some((tag, scope)))
    }

    /// Leaves a tagged field, all of which must have been read.
    pub fn end_tag(&mut self, scope: TagScope<'a>) -> Result<(), DecodeError> {
        if self.remaining() != 0 {
            return Err(self.fail(DecodeErrorKind::TagSize));
        }
        self.bytes = scope.frame;
        Ok(())
    }

    /// Goes to the end of what the reader sees.
    pub fn skip_rest(&mut self) {
        self.position = self.bytes.len();
    }

    /// Reads over all tagged fields of a struct that knows none.
    pub fn skip_tags(&mut self) -> Result<(), DecodeError> {
        if self.bytes.get(self.position) == Some(&0) {
            self.position += 1;
            return Ok(());
        }
        let mut tags = self.tags()?;
        while let Some((_, scope)) = self.next_tag(&mut tags)? {
            self.skip_rest();
            self.end_tag(scope)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use DecodeErrorKind as Kind;

    #[track_caller]
    fn check<T: std::fmt::Debug>(
        bytes: &[u8],
        read: impl FnOnce(&mut Reader<'_>) -> Result<T, DecodeError>,
        expected: &str,
    ) {
        let mut reader = Reader::new(bytes);
        let seen = match read(&mut reader) {
            Ok(value) => format!("{value:?} then {}", reader.remaining()),
            Err(error) => format!("{:?} at {}", error.kind, error.position),
        };
        assert_eq!(seen, expected);
    }

    #[test]
    fn text() {
        check(&[0, 2, b'h', b'i', 9], |r| r.string(false).map(|text| text.into_owned()), "\"hi\" then 1");
        check(&[3, b'h', b'i'], |r| r.string(true).map(|text| text.into_owned()), "\"hi\" then 0");
        check(&[0xff, 0xff], |r| r.nullable_string(false, true).map(|text| text.is_none()), "true then 0");
        check(&[0], |r| r.nullable_string(true, true).map(|text| text.is_none()), "true then 0");
        check(&[0], |r| r.nullable_string(true, false).map(|_| ()), "Null at 1");
        check(&[0], |r| r.string(true).map(|_| ()), "Null at 1");
        check(&[2, 0xff], |r| r.string(true).map(|_| ()), "Utf8 at 2");
        check(&[0, 9, b'h'], |r| r.string(false).map(|_| ()), "Truncated at 2");
        check(&[0x81, 0x80, 0x02], |r| r.string(true).map(|_| ()), "StringTooLong at 3");
    }

    #[test]
    fn counts_are_bounded_by_what_is_there() {
        check(&[0, 0, 0, 2, 1, 1], |r| r.count(false, 1), "2 then 2");
        check(&[0, 0, 0, 2, 1, 1], |r| r.count(false, 2), "TooManyElements at 4");
        check(&[0x7f, 0xff, 0xff, 0xff], |r| r.count(false, 1), "TooManyElements at 4");
        check(&[0xff, 0xff, 0xff, 0xff], |r| r.nullable_count(false, true, 1), "None then 0");
        let mut many = vec![0, 0x0f, 0x42, 0x41];
        many.resize(2_000_000, 0);
        check(&many, |r| r.count(false, 1), "TooManyElements at 4");
        check(&[0xff, 0xff, 0xff, 0xff, 0x0f], |r| r.bytes(true).map(|_| ()), "Truncated at 5");
    }

    #[test]
    fn tags_ascend_and_fill_their_length() {
        let read = |r: &mut Reader<'_>| {
            let mut tags = r.tags()?;
            let mut seen = Vec::new();
            while let Some((tag, scope)) = r.next_tag(&mut tags)? {
                if tag == 7 {
                    r.i8()?;
                } else {
                    r.skip_rest();
                }
                r.end_tag(scope)?;
                seen.push(tag);
            }
            Ok(seen)
        };
        check(&[2, 3, 2, 0, 0, 7, 1, 5, 1], read, "[3, 7] then 1");
        check(&[2, 7, 1, 5, 7, 1, 5], read, "TagOrder at 5");
        check(&[2, 7, 1, 5, 3, 1, 5], read, "TagOrder at 5");
        check(&[1, 7, 2, 5, 5], read, "TagSize at 4");
        check(&[1, 7, 3, 5, 5], read, "Truncated at 3");
        check(&[0x7f, 7, 3, 5, 5], read, "TooManyTags at 1");
        check(&[1, 7, 0], read, "Truncated at 3");
    }

    #[test]
    fn the_end_and_the_version() {
        let mut reader = Reader::new(&[1]);
        assert_eq!(reader.expect_end().map_err(|error| error.kind), Err(Kind::TrailingBytes));
        let error = reader.begin("Some", 4, 0, 3).expect_err("4 is too new");
        assert_eq!((error.message, error.version, error.kind), ("Some", 4, Kind::UnsupportedVersion));
        assert_eq!(error.to_string(), "Some v4 at byte 0: there is no such version");
    }
}
