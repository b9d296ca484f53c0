//! Names: Kafka writes `ThrottleTimeMs`, Rust and the notation write `throttle_time_ms`.

/// `ThrottleTimeMs`, `throttleTimeMs` → `throttle_time_ms`. A run of capitals is one word: `KRaftVersion` → `kraft_version`.
pub fn snake(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut out = String::with_capacity(name.len() + 8);
    for (index, &letter) in letters.iter().enumerate() {
        let before = index.checked_sub(1).map(|at| letters[at]);
        let after = letters.get(index + 1);
        let starts_word = letter.is_ascii_uppercase()
            && before.is_some_and(|before| {
                before.is_ascii_lowercase()
                    || before.is_ascii_digit()
                    || (index > 1
                        && before.is_ascii_uppercase()
                        && after.is_some_and(char::is_ascii_lowercase))
            });
        if starts_word {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

/// A field's name in Rust: keywords get an underscore behind them.
pub fn field(name: &str) -> String {
    const KEYWORDS: [&str; 12] =
        ["type", "match", "ref", "self", "move", "where", "use", "in", "as", "loop", "fn", "mod"];
    if KEYWORDS.contains(&name) { format!("{name}_") } else { name.to_owned() }
}
