//! Java's `String.hashCode`, which decides where groups and transactional ids live.
//!
//! The tricky idea: the hash runs over UTF-16 code units, not bytes, and its absolute value of `i32::MIN` is 0; get
//! either wrong and this node looks for a group's offsets in another partition than the one that wrote them.

/// `String.hashCode` of Java: `h = 31 * h + unit` over UTF-16 code units, wrapping.
pub fn java_string_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

/// The partition of an internal topic with `partitions` partitions that owns `key`: a group id, a transactional id,
/// or a share group's `group:topicId:partition`.
///
/// `partitions` must be positive: it is the size of a topic that exists.
pub fn coordinator_partition(key: &str, partitions: i32) -> i32 {
    assert!(partitions > 0, "a topic has at least one partition");
    let hash = java_string_hash(key);
    let positive = if hash == i32::MIN { 0 } else { hash.abs() };
    positive % partitions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_equal_those_of_java() {
        let check = |text: &str, expected: i32| assert_eq!(java_string_hash(text), expected, "{text}");
        check("", 0);
        check("a", 97);
        check("ab", 3105);
        check("hello", 99_162_322);
        check("hello world", 1_794_106_052);
        check("Hello, World!", 1_498_789_909);
        check("polygenelubricants", i32::MIN);
        // Two code units (D83D DE00), where UTF-8 has four bytes.
        check("\u{1F600}", 1_772_899);
        check("ä", 228);
        check("日本", 835_047);
    }

    #[test]
    fn partitions_of_groups() {
        let check = |key: &str, partitions: i32, expected: i32| {
            assert_eq!(coordinator_partition(key, partitions), expected, "{key}");
        };
        check("", 50, 0);
        check("hello", 50, 22);
        check("polygenelubricants", 50, 0);
        check("my-group", 50, 12);
        check("test-consumer-group", 50, 31);
        check("connect-cluster", 50, 13);
        check("a", 1, 0);
    }

    #[test]
    fn every_partition_is_in_range() {
        for i in 0..10_000 {
            let partition = coordinator_partition(&format!("group-{i}"), 50);
            assert!((0..50).contains(&partition));
        }
    }
}
