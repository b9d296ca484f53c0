//! The controller's only source of chance, seeded from outside: topic ids and where placement begins.
//!
//! The tricky idea: the same seed and the same requests give the same records, so a simulated cluster can be run
//! again. The generator is SplitMix64: a counter and a mixing function, no state to warm up. Ids need to be unique,
//! not secret.

use ottla_metadata::directory;
use ottla_protocol::Uuid;

/// A seeded generator.
#[derive(Debug, Clone)]
pub struct Dice {
    state: u64,
}

impl Dice {
    /// Starts from `seed`; a process takes its seed from the operating system, a simulation from its run.
    pub fn new(seed: u64) -> Dice {
        Dice { state: seed }
    }

    /// The next 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: usize) -> usize {
        assert!(bound > 0, "nothing is below zero");
        (self.roll() % bound as u64) as usize
    }

    /// Puts a slice into a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    /// A random (version 4) id that is not reserved and whose base64 form does not begin with a dash, which tools
    /// would take for an option.
    pub fn uuid(&mut self) -> Uuid {
        loop {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&self.roll().to_be_bytes());
            bytes[8..].copy_from_slice(&self.roll().to_be_bytes());
            bytes[6] = (bytes[6] & 0x0f) | 0x40;
            bytes[8] = (bytes[8] & 0x3f) | 0x80;
            // The first base64url character is a dash when the first six bits are 62.
            if bytes[0] >> 2 != 62 && !directory::is_reserved(Uuid(bytes)) {
                return Uuid(bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_rolls_the_same() {
        let (mut a, mut b, mut c) = (Dice::new(7), Dice::new(7), Dice::new(8));
        let ids: Vec<Uuid> = (0..100).map(|_| a.uuid()).collect();
        assert!(ids.iter().all(|id| *id == b.uuid()));
        assert_ne!(ids[0], c.uuid());
        let mut unique = ids.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), ids.len());
    }

    #[test]
    fn ids_look_like_kafkas() {
        let mut dice = Dice::new(1);
        for _ in 0..1000 {
            let id = dice.uuid();
            assert_eq!(id.0[6] >> 4, 4);
            assert_eq!(id.0[8] >> 6, 2);
            assert!(!id.to_string().starts_with('-'));
        }
    }

    #[test]
    fn shuffling_keeps_everything() {
        let mut items: Vec<i32> = (0..50).collect();
        Dice::new(3).shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
