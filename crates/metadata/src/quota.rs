//! Client quotas, kept as the metadata log tells them.
//!
//! The tricky idea: an entity is a *set* of (type, name) pairs, so its pairs are sorted before it becomes a key; a
//! pair without a name is the default entity of that type, which is different from no pair at all.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Whom a quota is for: pairs of type (`user`, `client-id`, `ip`) and name, sorted by type.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct QuotaEntity(Vec<(Arc<str>, Option<Arc<str>>)>);

impl QuotaEntity {
    /// The entity of these pairs, in any order.
    pub fn new(mut pairs: Vec<(Arc<str>, Option<Arc<str>>)>) -> QuotaEntity {
        pairs.sort();
        QuotaEntity(pairs)
    }

    /// The pairs, sorted by type.
    pub fn pairs(&self) -> &[(Arc<str>, Option<Arc<str>>)] {
        &self.0
    }
}

/// The limits of one entity by key (`producer_byte_rate` and so on).
pub type Quotas = BTreeMap<Arc<str>, f64>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entity_is_a_set_of_pairs() {
        let user: (Arc<str>, Option<Arc<str>>) = ("user".into(), Some("ann".into()));
        let client: (Arc<str>, Option<Arc<str>>) = ("client-id".into(), None);
        let one = QuotaEntity::new(vec![user.clone(), client.clone()]);
        assert_eq!(one, QuotaEntity::new(vec![client.clone(), user.clone()]));
        assert_ne!(one, QuotaEntity::new(vec![user]));
    }
}
