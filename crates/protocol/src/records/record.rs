//! One record within a batch, and its headers.
//!
//! ```text
//! size varint | attributes i8 = 0 | timestamp delta varlong | offset delta varint
//!   | key length varint (-1: null) | key | value length varint (-1: null) | value
//!   | header count varint | { key length varint | key | value length varint (-1: null) | value }...
//! ```
//!
//! A record is slices of the batch: reading one allocates nothing. Headers are checked when the record is read, so walking over
//! them later cannot fail. They keep their order; keys may repeat and need not be UTF-8.

use std::fmt;

use crate::wire::varint::{VarintError, get_i32, get_i64};

/// A record as a consumer sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its offset in the log.
    pub offset: i64,
    /// Its time in ms since the epoch: the producer's, or that of the append.
    pub timestamp: i64,
    /// Its key, if it has one.
    pub key: Option<&'a [u8]>,
    /// Its value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: Headers<'a>,
}

/// One header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// The key: any bytes, though UTF-8 by convention.
    pub key: &'a [u8],
    /// The value, which may be null.
    pub value: Option<&'a [u8]>,
}

/// The headers of a record, as they stand in it; iterate over it to see them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Headers<'a> {
    count: i32,
    /// The headers without their count; known to decode.
    bytes: &'a [u8],
}

impl<'a> Headers<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The headers in their order.
    pub fn iter(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        let mut rest = self.bytes;
        (0..self.count)
            .map(move |_| take_header(&mut rest).expect("headers were checked when the record was read"))
    }

    /// The headers' bytes, to be copied into another record behind the same count.
    pub(super) fn raw(&self) -> &'a [u8] {
        self.bytes
    }
}

/// What is wrong with the structure of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordFault {
    /// The bytes end before the record does.
    Truncated,
    /// A number is longer than its type allows.
    Varint,
    /// A size or count is negative where it must not be.
    Negative,
    /// The record's size says that there is more than its fields take.
    Oversized,
}

impl fmt::Display for RecordFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RecordFault::Truncated => "it is cut off",
            RecordFault::Varint => "it has a number that is too long",
            RecordFault::Negative => "it has a negative size or count",
            RecordFault::Oversized => "it is longer than its fields",
        })
    }
}

/// A record as it stands in the batch: time and offset still relative.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawRecord<'a> {
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: i32,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: Headers<'a>,
}

/// Takes the record at the front of `bytes`.
pub(super) fn take_record<'a>(bytes: &mut &'a [u8]) -> Result<RawRecord<'a>, RecordFault> {
    let size = varint(bytes)?;
    let mut rest = take(bytes, size)?;
    // The attributes of records have no meaning yet, and Kafka does not look at them.
    take(&mut rest, 1)?;
    let timestamp_delta = varlong(&mut rest)?;
    let offset_delta = varint(&mut rest)?;
    let key = take_nullable(&mut rest)?;
    let value = take_nullable(&mut rest)?;
    let count = varint(&mut rest)?;
    if count < 0 {
        return Err(RecordFault::Negative);
    }
    let headers = Headers { count, bytes: rest };
    for _ in 0..count {
        take_header(&mut rest)?;
    }
    if !rest.is_empty() {
        return Err(RecordFault::Oversized);
    }
    Ok(RawRecord { timestamp_delta, offset_delta, key, value, headers })
}

/// The numbers of a record that a check of a batch looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Skimmed {
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: i32,
    pub(super) has_key: bool,
}

/// Steps over a record of the usual kind: no headers, no number of more than three bytes. `None`: it is of another kind, or damaged, or
/// the last one (which ends where the bytes end); then [`take_record`] tells. This is the one thing that a broker does per record.
#[inline]
pub(super) fn skim_record(bytes: &mut &[u8]) -> Option<Skimmed> {
    let (size, start) = short_number(bytes, 0)?;
    let end = start + usize::try_from(size).ok()?;
    // One byte of attributes.
    let (timestamp_delta, at) = short_number(bytes, start + 1)?;
    let (offset_delta, at) = short_number(bytes, at)?;
    let (key, at) = short_number(bytes, at)?;
    let (value, at) = short_number(bytes, at + key.max(0) as usize)?;
    let at = at + value.max(0) as usize;
    if at + 1 != end || *bytes.get(at)? != 0 {
        return None;
    }
    *bytes = &bytes[end..];
    Some(Skimmed { timestamp_delta: timestamp_delta.into(), offset_delta, has_key: key >= 0 })
}

/// The zigzag number of at most three bytes at `at`, and where it ends.
#[inline]
fn short_number(bytes: &[u8], at: usize) -> Option<(i32, usize)> {
    let (raw, length) = match *bytes.get(at..)?.first_chunk()? {
        [a @ 0..0x80, _, _] => (u32::from(a), 1),
        [a, b @ 0..0x80, _] => (u32::from(a & 0x7f) | u32::from(b) << 7, 2),
        [a, b, c @ 0..0x80] => (u32::from(a & 0x7f) | u32::from(b & 0x7f) << 7 | u32::from(c) << 14, 3),
        _ => return None,
    };
    Some(((raw >> 1) as i32 ^ -((raw & 1) as i32), at + length))
}

fn take_header<'a>(bytes: &mut &'a [u8]) -> Result<Header<'a>, RecordFault> {
    let length = varint(bytes)?;
    let key = take(bytes, length)?;
    let value = take_nullable(bytes)?;
    Ok(Header { key, value })
}

/// Bytes behind their length; any negative length is null, as Kafka has it.
fn take_nullable<'a>(bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, RecordFault> {
    match varint(bytes)? {
        ..0 => Ok(None),
        length => take(bytes, length).map(Some),
    }
}

#[inline]
fn take<'a>(bytes: &mut &'a [u8], length: i32) -> Result<&'a [u8], RecordFault> {
    let length = usize::try_from(length).map_err(|_| RecordFault::Negative)?;
    let (taken, rest) = bytes.split_at_checked(length).ok_or(RecordFault::Truncated)?;
    *bytes = rest;
    Ok(taken)
}

#[inline]
fn varint(bytes: &mut &[u8]) -> Result<i32, RecordFault> {
    let (value, size) = get_i32(bytes).map_err(number_fault)?;
    *bytes = &bytes[size..];
    Ok(value)
}

#[inline]
fn varlong(bytes: &mut &[u8]) -> Result<i64, RecordFault> {
    let (value, size) = get_i64(bytes).map_err(number_fault)?;
    *bytes = &bytes[size..];
    Ok(value)
}

fn number_fault(error: VarintError) -> RecordFault {
    match error {
        VarintError::Truncated => RecordFault::Truncated,
        VarintError::TooLong => RecordFault::Varint,
    }
}
