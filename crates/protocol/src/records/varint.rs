//! Zigzag varints of 32 and 64 bits, as records use them (Kafka's `ByteUtils.readVarint`, `readVarlong`).
//!
//! Reading takes from the front of a slice. A number of more than 5 (10) bytes is no number; bits beyond the width of the last byte
//! are dropped, as Kafka does.

/// Takes a 32-bit number from the front of `bytes`; `None` if it is cut off or too long.
#[inline]
pub(super) fn take_varint(bytes: &mut &[u8]) -> Option<i32> {
    let [first, rest @ ..] = *bytes else { return None };
    if *first < 0x80 {
        *bytes = rest;
        let raw = i32::from(*first);
        return Some((raw >> 1) ^ -(raw & 1));
    }
    let (raw, length) = read_raw(bytes, 5)?;
    *bytes = &bytes[length..];
    let raw = raw as u32;
    Some(((raw >> 1) as i32) ^ -((raw & 1) as i32))
}

/// Takes a 64-bit number from the front of `bytes`; `None` if it is cut off or too long.
#[inline]
pub(super) fn take_varlong(bytes: &mut &[u8]) -> Option<i64> {
    let [first, rest @ ..] = *bytes else { return None };
    if *first < 0x80 {
        *bytes = rest;
        let raw = i64::from(*first);
        return Some((raw >> 1) ^ -(raw & 1));
    }
    let (raw, length) = read_raw(bytes, 10)?;
    *bytes = &bytes[length..];
    Some(((raw >> 1) as i64) ^ -((raw & 1) as i64))
}

fn read_raw(bytes: &[u8], length_max: usize) -> Option<(u64, usize)> {
    let mut raw = 0u64;
    for (index, byte) in bytes.iter().take(length_max).enumerate() {
        raw |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((raw, index + 1));
        }
    }
    None
}

/// Appends a 32-bit number.
pub(super) fn put_varint(value: i32, target: &mut Vec<u8>) {
    put_raw(u64::from(zigzag32(value)), target);
}

/// Appends a 64-bit number.
pub(super) fn put_varlong(value: i64, target: &mut Vec<u8>) {
    put_raw(zigzag64(value), target);
}

fn put_raw(mut raw: u64, target: &mut Vec<u8>) {
    while raw >= 0x80 {
        target.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    target.push(raw as u8);
}

/// How many bytes `put_varint` writes.
pub(super) fn varint_bytes(value: i32) -> usize {
    raw_bytes(u64::from(zigzag32(value)))
}

/// How many bytes `put_varlong` writes.
pub(super) fn varlong_bytes(value: i64) -> usize {
    raw_bytes(zigzag64(value))
}

fn raw_bytes(raw: u64) -> usize {
    (64 - (raw | 1).leading_zeros() as usize).div_ceil(7)
}

fn zigzag32(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

fn zigzag64(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}
