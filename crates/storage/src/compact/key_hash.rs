//! SipHash-2-4 with 128 bits of output, under a key that nobody outside of this process knows.
//!
//! The one tricky idea: compaction takes two keys with one hash for the same key, and drops the older record. With 128 bits that does not
//! happen by accident, and without knowing the secret nobody can look for two such keys (with MD5, which Kafka uses, anybody can).

/// The secret that makes hashes of one process unlike those of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashSecret(pub u64, pub u64);

struct State([u64; 4]);

impl State {
    #[inline(always)]
    fn rounds(&mut self, count: usize) {
        let [mut a, mut b, mut c, mut d] = self.0;
        for _ in 0..count {
            a = a.wrapping_add(b);
            b = b.rotate_left(13) ^ a;
            a = a.rotate_left(32);
            c = c.wrapping_add(d);
            d = d.rotate_left(16) ^ c;
            a = a.wrapping_add(d);
            d = d.rotate_left(21) ^ a;
            c = c.wrapping_add(b);
            b = b.rotate_left(17) ^ c;
            c = c.rotate_left(32);
        }
        self.0 = [a, b, c, d];
    }

    #[inline(always)]
    fn block(&mut self, word: u64) {
        self.0[3] ^= word;
        self.rounds(2);
        self.0[0] ^= word;
    }

    fn fold(&self) -> u64 {
        self.0[0] ^ self.0[1] ^ self.0[2] ^ self.0[3]
    }
}

impl HashSecret {
    /// The hash of a key.
    pub(crate) fn hash(self, bytes: &[u8]) -> [u64; 2] {
        let mut state = State([
            self.0 ^ 0x736f_6d65_7073_6575,
            self.1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
            self.0 ^ 0x6c79_6765_6e65_7261,
            self.1 ^ 0x7465_6462_7974_6573,
        ]);
        let (blocks, rest) = bytes.as_chunks::<8>();
        for block in blocks {
            state.block(u64::from_le_bytes(*block));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        last[7] = bytes.len() as u8;
        state.block(u64::from_le_bytes(last));
        state.0[2] ^= 0xee;
        state.rounds(4);
        let low = state.fold();
        state.0[1] ^= 0xdd;
        state.rounds(4);
        [low, state.fold()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first vectors of the reference implementation: key 00..0f, input 00, 01, 02, ...
    #[test]
    fn hashes_are_the_published_ones() {
        let secret = HashSecret(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        let hex = |[low, high]: [u64; 2]| {
            low.to_le_bytes()
                .iter()
                .chain(&high.to_le_bytes())
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        assert_eq!(hex(secret.hash(&[])), "a3817f04ba25a8e66df67214c7550293");
        assert_eq!(hex(secret.hash(&[0])), "da87c1d86b99af44347659119b22fc45");
    }

    #[test]
    fn every_byte_the_length_and_the_secret_count() {
        let secret = HashSecret(1, 2);
        let mut seen = std::collections::BTreeSet::from([secret.hash(b""), HashSecret(1, 3).hash(b"")]);
        for length in 1..40 {
            assert!(seen.insert(secret.hash(&vec![0; length])));
            for at in 0..length {
                let mut key = vec![0; length];
                key[at] = 1;
                assert!(seen.insert(secret.hash(&key)), "{length} {at}");
            }
        }
    }
}
