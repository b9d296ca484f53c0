//! What records are filled with: it decides what a codec makes of them, and nothing else.

use clap::ValueEnum;

/// Kinds of filling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Payload {
    /// Bytes without any order: no codec gets anywhere
    Random,
    /// Lines of a log with fields that repeat: compresses three- to sixfold
    Text,
    /// Zeros
    Zeros,
}

/// A small generator with a fixed seed: every run sends the same bytes.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

const WORDS: [&str; 8] =
    ["order", "customer", "shipped", "pending", "warehouse", "europe", "invoice", "paid"];

/// `count` values of `bytes` bytes each.
pub fn values(payload: Payload, count: usize, bytes: usize) -> Vec<Vec<u8>> {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    (0..count)
        .map(|_| match payload {
            Payload::Zeros => vec![0; bytes],
            Payload::Random => {
                let mut value = Vec::with_capacity(bytes + 8);
                while value.len() < bytes {
                    value.extend_from_slice(&dice.roll().to_le_bytes());
                }
                value.truncate(bytes);
                value
            }
            Payload::Text => {
                let mut value = String::with_capacity(bytes + 64);
                while value.len() < bytes {
                    let roll = dice.roll();
                    let word = |at: u32| WORDS[(roll >> at) as usize % WORDS.len()];
                    value.push_str(&format!(
                        "{{\"{}\":{},\"{}\":\"{}\"}}",
                        word(0),
                        roll >> 40,
                        word(8),
                        word(16)
                    ));
                }
                value.truncate(bytes);
                value.into_bytes()
            }
        })
        .collect()
}
