//! Topic names: which are legal, which collide, which belong to the cluster itself.
//!
//! The tricky idea: metrics replace '.' by '_', so `a.b` and `a_b` would share one metric. Such names are legal each
//! on its own, but the second one of a pair is refused at creation; `unify` maps both to the same key.

/// Longest legal topic name, in characters (a directory `name-partition` must fit into 255 bytes).
pub const MAX_TOPIC_NAME_LENGTH: usize = 249;

/// Holds the committed offsets and the members of consumer groups.
pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";
/// Holds the state of transactional ids.
pub const TRANSACTION_STATE: &str = "__transaction_state";
/// Holds the delivery state of share groups.
pub const SHARE_GROUP_STATE: &str = "__share_group_state";
/// The metadata log. Never a topic of the image; nobody may create it.
pub const CLUSTER_METADATA: &str = "__cluster_metadata";

/// Why a name can not be a topic's name. `Display` gives the sentence that clients see, in the words of
/// Kafka (`Topic.validate`), which people search for and scripts look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicNameError {
    /// The empty string.
    Empty,
    /// `.` or `..`, which are directories.
    Dots(String),
    /// More than [`MAX_TOPIC_NAME_LENGTH`] characters.
    TooLong(String),
    /// A character outside `[a-zA-Z0-9._-]`.
    IllegalCharacter(String),
}

impl std::fmt::Display for TopicNameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Topic name is invalid: ")?;
        match self {
            TopicNameError::Empty => f.write_str("the empty string is not allowed"),
            TopicNameError::Dots(name) => write!(f, "'{name}' is not allowed"),
            TopicNameError::TooLong(name) => {
                write!(
                    f,
                    "the length of '{name}' is longer than the max allowed length {MAX_TOPIC_NAME_LENGTH}"
                )
            }
            TopicNameError::IllegalCharacter(name) => {
                write!(
                    f,
                    "'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
                )
            }
        }
    }
}

impl std::error::Error for TopicNameError {}

/// Checks a name against the rules for topics: 1 to 249 characters of `[a-zA-Z0-9._-]`, neither `.` nor `..`.
pub fn validate(name: &str) -> Result<(), TopicNameError> {
    if name.is_empty() {
        return Err(TopicNameError::Empty);
    }
    if name == "." || name == ".." {
        return Err(TopicNameError::Dots(name.to_owned()));
    }
    if name.encode_utf16().count() > MAX_TOPIC_NAME_LENGTH {
        return Err(TopicNameError::TooLong(name.to_owned()));
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
        return Err(TopicNameError::IllegalCharacter(name.to_owned()));
    }
    Ok(())
}

/// Whether the topic belongs to the cluster: clients may read it, but not write it.
pub fn is_internal(name: &str) -> bool {
    matches!(name, CONSUMER_OFFSETS | TRANSACTION_STATE | SHARE_GROUP_STATE)
}

/// Whether the name has a character by which it could collide with another one.
pub fn has_collision_characters(name: &str) -> bool {
    name.bytes().any(|b| matches!(b, b'.' | b'_'))
}

/// The key that colliding names share: every '.' read as '_'.
pub fn unify(name: &str) -> String {
    name.replace('.', "_")
}

/// Whether two names would share their metrics.
pub fn collide(a: &str, b: &str) -> bool {
    unify(a) == unify(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legal_and_illegal_names() {
        let long = "x".repeat(MAX_TOPIC_NAME_LENGTH);
        for name in ["a", "valid", "TOPIC", "nAmEs", "ar6", "VaL1d", "_0-9_.", "...", long.as_str()] {
            assert_eq!(validate(name), Ok(()), "{name}");
        }
        let too_long = "x".repeat(MAX_TOPIC_NAME_LENGTH + 1);
        let check = |name: &str, expected: fn(&TopicNameError) -> bool| {
            let error = validate(name).expect_err(name);
            assert!(expected(&error), "{name}: {error}");
        };
        check("", |e| *e == TopicNameError::Empty);
        check(".", |e| matches!(e, TopicNameError::Dots(_)));
        check("..", |e| matches!(e, TopicNameError::Dots(_)));
        check(&too_long, |e| matches!(e, TopicNameError::TooLong(_)));
        for name in ["a b", "a/b", "a\0", "foo bar", "überall", "a:b", "a,b", "a\n", "a=b"] {
            check(name, |e| matches!(e, TopicNameError::IllegalCharacter(_)));
        }
    }

    #[test]
    fn collisions_and_internal_names() {
        assert!(collide("a.b", "a_b"));
        assert!(collide("a.b.c", "a_b.c"));
        assert!(!collide("a.b", "ab"));
        assert!(!has_collision_characters("a-b"));
        assert!(
            is_internal(CONSUMER_OFFSETS) && is_internal(TRANSACTION_STATE) && is_internal(SHARE_GROUP_STATE)
        );
        assert!(!is_internal(CLUSTER_METADATA) && !is_internal("__consumer_offset"));
    }
}
