//! What the coordinator asks about topics: existence, ids, and whether the asking client may see them.

use ottla_protocol::Uuid;

/// The facts about topics that commits and fetches of offsets need; the broker answers from its metadata image and,
/// for [`Topics::is_allowed`], from its authorizer on behalf of the client of the request.
pub trait Topics {
    /// The id of a topic, `None` if there is no such topic.
    fn id_of(&self, name: &str) -> Option<Uuid>;
    /// The name behind a topic id, `None` if no topic has it (any more).
    fn name_of(&self, id: Uuid) -> Option<String>;
    /// Whether the topic exists and has this partition.
    fn has_partition(&self, name: &str, partition: i32) -> bool;
    /// Whether the client of this request may do with the topic what it asks for (READ to commit, DESCRIBE to fetch).
    fn is_allowed(&self, _name: &str) -> bool {
        true
    }
}
