//! Reads the topics out of a consumer's subscription. Every version of that format begins as version 0 does, so only
//! that beginning is read: a version, then the topics.

use std::collections::BTreeSet;
use std::sync::Arc;

/// The protocol type of consumers; other types (Connect's, Schema Registry's) have other subscription formats.
pub(crate) const CONSUMER: &str = "consumer";

/// The subscribed topics, `None` if the bytes are not a subscription.
pub(crate) fn topics_of(subscription: &[u8]) -> Option<BTreeSet<Arc<str>>> {
    let mut rest = subscription;
    let mut take = |count: usize| -> Option<&[u8]> {
        let (head, tail) = rest.split_at_checked(count)?;
        rest = tail;
        Some(head)
    };
    let version = i16::from_be_bytes(take(2)?.try_into().ok()?);
    let count = i32::from_be_bytes(take(4)?.try_into().ok()?);
    if version < 0 || count < 0 {
        return None;
    }
    let mut topics = BTreeSet::new();
    for _ in 0..count {
        let length = i16::from_be_bytes(take(2)?.try_into().ok()?);
        let name = take(usize::try_from(length).ok()?)?;
        topics.insert(Arc::from(std::str::from_utf8(name).ok()?));
    }
    Some(topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_common_prefix_and_refuses_nonsense() {
        let bytes = [0, 3, 0, 0, 0, 2, 0, 1, b'a', 0, 2, b'b', b'c', 0xff, 0xff, 0xff, 0xff, 9, 9];
        let topics = topics_of(&bytes).unwrap();
        assert_eq!(topics.iter().map(|t| &**t).collect::<Vec<_>>(), ["a", "bc"]);
        assert_eq!(topics_of(b""), None);
        assert_eq!(topics_of(&bytes[..9]), None);
        assert_eq!(topics_of(&[0xff, 0xff, 0, 0, 0, 0]), None);
        assert_eq!(topics_of(&[0, 0, 0x7f, 0xff, 0xff, 0xff]), None);
        assert_eq!(topics_of(&[0, 0, 0, 0, 0, 0]).map(|t| t.len()), Some(0));
    }
}
