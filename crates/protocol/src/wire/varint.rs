//! Variable-length integers: seven bits a byte, the lowest first, the high bit says that more follows.
//!
//! Kafka uses them unsigned for lengths and tags of flexible versions, and zigzag-coded (`0, -1, 1, -2, …` become
//! `0, 1, 2, 3, …`) inside of records. A value of more bytes than its type needs is an error; bits of the last byte that do not fit are
//! dropped (`ByteUtils`).

use bytes::BufMut;

/// The most bytes of a 32-bit value.
pub const U32_BYTES_MAX: usize = 5;
/// The most bytes of a 64-bit value.
pub const U64_BYTES_MAX: usize = 10;

/// Why no value could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VarintError {
    /// The bytes end before the value does.
    Truncated,
    /// The value does not fit its type.
    TooLong,
}

/// Reads an unsigned 32-bit value; returns it with the number of bytes that it took.
#[inline]
pub fn get_u32(bytes: &[u8]) -> Result<(u32, usize), VarintError> {
    if let Some(&first) = bytes.first()
        && first < 0x80
    {
        return Ok((u32::from(first), 1));
    }
    let (value, size) = get(bytes, U32_BYTES_MAX)?;
    Ok((value as u32, size))
}

/// Reads an unsigned 64-bit value; returns it with the number of bytes that it took.
#[inline]
pub fn get_u64(bytes: &[u8]) -> Result<(u64, usize), VarintError> {
    if let Some(&first) = bytes.first()
        && first < 0x80
    {
        return Ok((u64::from(first), 1));
    }
    get(bytes, U64_BYTES_MAX)
}

/// Reads a zigzag-coded 32-bit value ("varint"); returns it with the number of bytes that it took.
#[inline]
pub fn get_i32(bytes: &[u8]) -> Result<(i32, usize), VarintError> {
    let (value, size) = get_u32(bytes)?;
    Ok(((value >> 1) as i32 ^ -((value & 1) as i32), size))
}

/// Reads a zigzag-coded 64-bit value ("varlong"); returns it with the number of bytes that it took.
#[inline]
pub fn get_i64(bytes: &[u8]) -> Result<(i64, usize), VarintError> {
    let (value, size) = get_u64(bytes)?;
    Ok(((value >> 1) as i64 ^ -((value & 1) as i64), size))
}

fn get(bytes: &[u8], size_max: usize) -> Result<(u64, usize), VarintError> {
    let mut value = 0u64;
    for (index, &byte) in bytes.iter().take(size_max).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Ok((value, index + 1));
        }
    }
    Err(if bytes.len() < size_max { VarintError::Truncated } else { VarintError::TooLong })
}

/// Writes an unsigned 32-bit value.
pub fn put_u32<B: BufMut>(out: &mut B, value: u32) {
    put_u64(out, u64::from(value));
}

/// Writes an unsigned 64-bit value.
pub fn put_u64<B: BufMut>(out: &mut B, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Writes a zigzag-coded 32-bit value.
pub fn put_i32<B: BufMut>(out: &mut B, value: i32) {
    put_u32(out, zigzag_i32(value));
}

/// Writes a zigzag-coded 64-bit value.
pub fn put_i64<B: BufMut>(out: &mut B, value: i64) {
    put_u64(out, zigzag_i64(value));
}

/// The bytes that [`put_u32`] writes.
pub fn len_u32(value: u32) -> usize {
    len_u64(u64::from(value))
}

/// The bytes that [`put_u64`] writes.
pub fn len_u64(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// The bytes that [`put_i32`] writes.
pub fn len_i32(value: i32) -> usize {
    len_u32(zigzag_i32(value))
}

/// The bytes that [`put_i64`] writes.
pub fn len_i64(value: i64) -> usize {
    len_u64(zigzag_i64(value))
}

fn zigzag_i32(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

fn zigzag_i64(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_in_the_length_foretold() {
        for shift in 0..64 {
            for near in [-1i64, 0, 1] {
                let value = (1u64 << shift).wrapping_add(near as u64);
                let mut out = Vec::new();
                put_u64(&mut out, value);
                assert_eq!(out.len(), len_u64(value));
                assert_eq!(get_u64(&out), Ok((value, out.len())));
                let signed = value as i64;
                let mut out = Vec::new();
                put_i64(&mut out, signed);
                assert_eq!((get_i64(&out), out.len()), (Ok((signed, out.len())), len_i64(signed)));
                let small = signed as i32;
                let mut out = Vec::new();
                put_i32(&mut out, small);
                assert_eq!((get_i32(&out), out.len()), (Ok((small, out.len())), len_i32(small)));
            }
        }
    }

    #[test]
    fn known_bytes() {
        let mut out = Vec::new();
        put_u32(&mut out, 300);
        put_i32(&mut out, -1);
        put_i32(&mut out, 64);
        assert_eq!(out, [0xac, 0x02, 0x01, 0x80, 0x01]);
    }

    #[test]
    fn too_short_and_too_long() {
        assert_eq!(get_u32(&[]), Err(VarintError::Truncated));
        assert_eq!(get_u32(&[0x80, 0x80]), Err(VarintError::Truncated));
        assert_eq!(get_u32(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Ok((u32::MAX, 5)));
        assert_eq!(get_u32(&[0xff, 0xff, 0xff, 0xff, 0x1f]), Ok((u32::MAX, 5)));
        assert_eq!(get_u32(&[0xff, 0xff, 0xff, 0xff, 0xff, 0x01]), Err(VarintError::TooLong));
        assert_eq!(get_u64(&[0xff; 11]), Err(VarintError::TooLong));
        let mut least = [0xff; 10];
        least[9] = 1;
        assert_eq!(get_i64(&least), Ok((i64::MIN, 10)));
        assert_eq!(get_i32(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Ok((i32::MIN, 5)));
    }
}
