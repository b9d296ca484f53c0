//! The last offset of every key in the dirty part of a log, in a fixed amount of memory (`SkimpyOffsetMap`).
//!
//! The one tricky idea: keys are known by a hash of 128 bits only, so a slot has 24 bytes whatever the keys are like. The map is full long
//! before its table is; then the rest of the dirty part is left for the next time.

use super::key_hash::HashSecret;

/// Bytes of one slot: a hash and an offset.
const SLOT_BYTES: u64 = 24;
/// Keys that are looked up together: few enough for their slots to stay in the nearest cache.
pub(crate) const KEYS_AT_ONCE: usize = 64;

/// Hashes of keys, each with the last offset at which it was seen.
pub(crate) struct KeyMap {
    secret: HashSecret,
    /// Hash, and offset + 1; an offset of 0 marks a free slot.
    slots: Vec<[u64; 3]>,
    len: usize,
    len_max: usize,
}

impl std::fmt::Debug for KeyMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyMap").field("len", &self.len).field("slots", &self.slots.len()).finish()
    }
}

impl KeyMap {
    /// A map of at most `bytes` bytes, of which `load_factor` may be used, for at most `keys` keys. It holds one key at least.
    pub(crate) fn new(bytes: u64, load_factor: f64, keys: u64, secret: HashSecret) -> KeyMap {
        let load_factor = load_factor.clamp(0.01, 0.95);
        let wanted = (keys.max(1) as f64 / load_factor).ceil() as u64 + 1;
        let slots = wanted.min(bytes / SLOT_BYTES).max(2) as usize;
        let len_max = ((slots as f64 * load_factor) as usize).clamp(1, slots - 1);
        KeyMap { secret, slots: vec![[0; 3]; slots], len: 0, len_max }
    }

    /// The hash under which a key is known here.
    pub(crate) fn hash(&self, key: &[u8]) -> [u64; 2] {
        self.secret.hash(key)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len >= self.len_max
    }

    /// Takes note of a key at an offset, which is behind all offsets that were noted before. The map is not full.
    fn put(&mut self, hash: [u64; 2], offset: i64) {
        assert!(!self.is_full(), "a full map takes no keys");
        let at = self.find(hash);
        let slot = &mut self.slots[at];
        self.len += usize::from(slot[2] == 0);
        *slot = [hash[0], hash[1], offset as u64 + 1];
    }

    /// Takes note of keys in the order of their offsets, while there is room. Whether all of them had room.
    pub(crate) fn put_all(&mut self, keys: &mut Vec<([u64; 2], i64)>) -> bool {
        self.bring_near(keys.iter().map(|(hash, _)| *hash));
        for (hash, offset) in keys.drain(..) {
            if self.is_full() {
                return false;
            }
            self.put(hash, offset);
        }
        true
    }

    /// Reads the slots of up to [`KEYS_AT_ONCE`] keys that are about to be looked up. No cache has them and each lies in a page of its own,
    /// but none of these reads waits for another one, so the processor waits for all of them at once.
    pub(crate) fn bring_near(&self, hashes: impl Iterator<Item = [u64; 2]>) {
        let read = hashes.fold(0, |read, hash| {
            let slot = &self.slots[self.place(hash)];
            // Both ends, which may lie in two lines of the cache.
            read ^ slot[0] ^ slot[2]
        });
        std::hint::black_box(read);
    }

    /// The last offset of a key, if it was noted.
    pub(crate) fn get(&self, hash: [u64; 2]) -> Option<i64> {
        match self.slots[self.find(hash)][2] {
            0 => None,
            after => Some((after - 1) as i64),
        }
    }

    /// Where the slot of a hash is looked for first: the high half spread over the table, by a multiplication instead of a division.
    fn place(&self, hash: [u64; 2]) -> usize {
        ((u128::from(hash[1]) * self.slots.len() as u128) >> 64) as usize
    }

    /// The slot of a hash, or the free one where it belongs. One is always free.
    fn find(&self, hash: [u64; 2]) -> usize {
        let count = self.slots.len();
        let mut at = self.place(hash);
        loop {
            let slot = &self.slots[at];
            if slot[2] == 0 || (slot[0] == hash[0] && slot[1] == hash[1]) {
                return at;
            }
            at += 1;
            if at == count {
                at = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_last_offset_of_each_key_until_it_is_full() {
        let mut map = KeyMap::new(24 * 100, 0.9, 1 << 40, HashSecret(3, 4));
        let mut model = std::collections::BTreeMap::new();
        let mut offset = 0;
        while !map.is_full() {
            let key = (offset * 7919 % 131).to_string();
            let hash = map.hash(key.as_bytes());
            map.put(hash, offset);
            model.insert(key, offset);
            offset += 1;
        }
        assert_eq!(map.len(), 90);
        assert_eq!(map.len(), model.len());
        for number in 0..131 {
            let key = number.to_string();
            assert_eq!(map.get(map.hash(key.as_bytes())), model.get(&key).copied(), "{key}");
        }
    }

    #[test]
    fn is_no_larger_than_needed_and_never_too_small_for_one_key() {
        assert_eq!(KeyMap::new(1 << 40, 0.9, 90, HashSecret(0, 0)).slots.len(), 101);
        for (bytes, load_factor) in [(0, 0.9), (24, 0.0), (1 << 20, 1.0)] {
            let mut map = KeyMap::new(bytes, load_factor, 1000, HashSecret(0, 0));
            assert!(!map.is_full());
            map.put([1, 2], 0);
            assert_eq!((map.get([1, 2]), map.get([1, 3])), (Some(0), None));
        }
    }
}
