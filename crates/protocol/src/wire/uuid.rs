//! Kafka's UUIDs: 16 bytes, shown as 22 letters of base64url, ordered as two signed halves.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// 128 bits that name a topic, a directory, a cluster node's incarnation.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// No id. Among directories: one that is not known yet because the cluster is being migrated.
    pub const ZERO: Uuid = Uuid([0; 16]);
    /// Reserved; also the id of the metadata topic.
    pub const ONE: Uuid = Uuid::from_halves(0, 1);
    /// The id of `__cluster_metadata`.
    pub const METADATA_TOPIC: Uuid = Uuid::ONE;
    /// Directory of a replica that has not been placed yet (Kafka's `DirectoryId.UNASSIGNED`).
    pub const UNASSIGNED_DIR: Uuid = Uuid::from_halves(0, 1);
    /// Directory of a replica that is in none that is online (Kafka's `DirectoryId.LOST`).
    pub const LOST_DIR: Uuid = Uuid::from_halves(0, 2);
    /// Directory of a replica from the time before directories had ids (Kafka's `DirectoryId.MIGRATING`).
    pub const MIGRATING_DIR: Uuid = Uuid::ZERO;

    /// From the upper and the lower 64 bits.
    pub const fn from_halves(upper: u64, lower: u64) -> Uuid {
        Uuid(((upper as u128) << 64 | lower as u128).to_be_bytes())
    }

    /// The upper and the lower 64 bits.
    pub fn halves(self) -> (u64, u64) {
        let bits = u128::from_be_bytes(self.0);
        ((bits >> 64) as u64, bits as u64)
    }

    /// A version 4 UUID from random bits, unless Kafka would not hand it out: reserved ones, and those that show a
    /// dash, which a command line would take for an option. Roll again then; about a third of all are refused.
    pub fn from_random(upper: u64, lower: u64) -> Option<Uuid> {
        let upper = upper & !0xf000 | 0x4000;
        let lower = lower & !(0b11 << 62) | 0b10 << 62;
        let uuid = Uuid::from_halves(upper, lower);
        (!uuid.is_reserved() && !uuid.letters().contains(&b'-')).then_some(uuid)
    }

    /// Is it one that means something special and is never given to a thing?
    pub fn is_reserved(self) -> bool {
        self == Uuid::ZERO || self == Uuid::ONE
    }

    /// Is it one that means something special for directories (Kafka sets the first hundred aside)?
    pub fn is_reserved_dir(self) -> bool {
        let (upper, lower) = self.halves();
        upper == 0 && lower < 100
    }

    fn letters(self) -> [u8; 22] {
        let bits = u128::from_be_bytes(self.0);
        let mut letters = [0; 22];
        for (index, letter) in letters.iter_mut().enumerate() {
            // 128 bits are 21 letters of 6 bits and one of 2 bits, which are its upper ones.
            let sextet = if index < 21 { bits >> (122 - 6 * index) } else { bits << 4 };
            *letter = LETTERS[(sextet & 0x3f) as usize];
        }
        letters
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = self.letters();
        f.pad(std::str::from_utf8(&letters).unwrap_or_default())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// As Kafka orders them: by the upper half, then by the lower, both taken as signed.
impl Ord for Uuid {
    fn cmp(&self, other: &Uuid) -> Ordering {
        let signed = |uuid: &Uuid| {
            let (upper, lower) = uuid.halves();
            (upper as i64, lower as i64)
        };
        signed(self).cmp(&signed(other))
    }
}

impl PartialOrd for Uuid {
    fn partial_cmp(&self, other: &Uuid) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A text that is no UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseUuidError;

impl fmt::Display for ParseUuidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not the base64url of 16 bytes")
    }
}

impl std::error::Error for ParseUuidError {}

impl FromStr for Uuid {
    type Err = ParseUuidError;

    /// Reads 22 letters of base64url, with or without the two `=` behind them.
    fn from_str(text: &str) -> Result<Uuid, ParseUuidError> {
        let letters = text.strip_suffix("==").unwrap_or(text).as_bytes();
        if letters.len() != 22 {
            return Err(ParseUuidError);
        }
        let mut bits = 0u128;
        for (index, letter) in letters.iter().enumerate() {
            let sextet = LETTERS.iter().position(|known| known == letter).ok_or(ParseUuidError)? as u128;
            bits = if index < 21 { bits << 6 | sextet } else { bits << 2 | sextet >> 4 };
        }
        Ok(Uuid(bits.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_as_kafka_shows_it() {
        assert_eq!(Uuid::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(Uuid::ONE.to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(Uuid([0xff; 16]).to_string(), "_____________________w");
        for uuid in [Uuid::ZERO, Uuid::ONE, Uuid([0xff; 16]), Uuid::from_halves(0x0123_4567_89ab_cdef, 42)] {
            assert_eq!(uuid.to_string().parse(), Ok(uuid));
            assert_eq!(format!("{uuid}==").parse(), Ok(uuid));
        }
    }

    #[test]
    fn refuses_what_is_none() {
        for text in
            ["", "AAAA", "AAAAAAAAAAAAAAAAAAAAA+", "AAAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAé"]
        {
            assert_eq!(text.parse::<Uuid>(), Err(ParseUuidError), "{text}");
        }
    }

    #[test]
    fn random_ones_are_version_4_without_dash() {
        let mut state = 1u64;
        let mut roll = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            state ^ state >> 29
        };
        let found: Vec<Uuid> = (0..100).filter_map(|_| Uuid::from_random(roll(), roll())).collect();
        assert!(found.len() > 40);
        for uuid in found {
            assert_eq!((uuid.0[6] >> 4, uuid.0[8] >> 6), (4, 2));
            assert!(!uuid.to_string().contains('-'));
        }
    }

    #[test]
    fn ordered_by_signed_halves() {
        assert!(Uuid([0xff; 16]) < Uuid::ZERO);
        assert!(Uuid::ZERO < Uuid::ONE);
        assert!(Uuid::from_halves(0, u64::MAX) < Uuid::ZERO);
    }
}
