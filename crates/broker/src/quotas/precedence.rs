//! Which of the quotas that are set counts for a client, and whom it shares it with (Kafka's `ClientQuotaManager`, KIP-55, KIP-257).
//!
//! ```text
//!   1 user, client id          4 any user, client id          7 client id
//!   2 user, any client id      5 any user, any client id      8 any client id
//!   3 user                     6 any user
//! ```
//!
//! The tricky idea: the first level that has a value counts, and its *shape* says who pays together: a quota of a user is shared by all
//! its clients, a default for any user is still one for each user.

use std::sync::Arc;

use ottla_metadata::{Image, QuotaEntity};

const USER: &str = "user";
const CLIENT_ID: &str = "client-id";

/// Who uses up a quota together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Payer {
    user: Option<Box<str>>,
    client_id: Option<Box<str>>,
}

/// How a level names an entity of one type.
#[derive(Clone, Copy)]
enum Part {
    /// By its name.
    Named,
    /// As the default.
    Any,
    /// Not at all.
    None,
}

const LEVELS: [(Part, Part); 8] = [
    (Part::Named, Part::Named),
    (Part::Named, Part::Any),
    (Part::Named, Part::None),
    (Part::Any, Part::Named),
    (Part::Any, Part::Any),
    (Part::Any, Part::None),
    (Part::None, Part::Named),
    (Part::None, Part::Any),
];

/// The limit of `key` for a client, and who pays.
pub(crate) fn find(image: &Image, key: &str, user: &str, client_id: &str) -> Option<(f64, Payer)> {
    let pair = |kind: &str, part: Part, name: &str| {
        let name: Option<Arc<str>> = match part {
            Part::Named => Some(name.into()),
            Part::Any => None,
            Part::None => return None,
        };
        Some((Arc::from(kind), name))
    };
    LEVELS.iter().find_map(|(of_user, of_client)| {
        let pairs = [pair(USER, *of_user, user), pair(CLIENT_ID, *of_client, client_id)];
        let entity = QuotaEntity::new(pairs.into_iter().flatten().collect());
        let limit = *image.quotas().get(&entity)?.get(key)?;
        let payer = |part: &Part, name: &str| (!matches!(part, Part::None)).then(|| name.into());
        Some((limit, Payer { user: payer(of_user, user), client_id: payer(of_client, client_id) }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_metadata::Replayer;
    use ottla_protocol::messages::client_quota_record::{ClientQuotaRecord, EntityData};
    use ottla_protocol::messages::metadata_record::MetadataRecord;

    type Pairs<'a> = &'a [(&'a str, Option<&'a str>)];

    /// An image with the quota `rate` set on each entity.
    fn image(quotas: &[(Pairs<'_>, f64)]) -> Image {
        let mut replayer = Replayer::new(Image::empty("cluster"));
        for (offset, (entity, value)) in (0..).zip(quotas) {
            let pair = |(kind, name): &(&str, Option<&str>)| EntityData {
                entity_type: (*kind).to_owned().into(),
                entity_name: name.map(|name| name.to_owned().into()),
            };
            let record = ClientQuotaRecord {
                entity: entity.iter().map(pair).collect(),
                key: "rate".into(),
                value: *value,
                remove: false,
            };
            replayer.replay(&MetadataRecord::ClientQuotaRecord(record), offset).expect("fits");
        }
        replayer.image().clone()
    }

    #[test]
    fn the_first_of_eight_levels_counts() {
        let levels: [(Pairs<'_>, f64); 8] = [
            (&[(USER, Some("ann")), (CLIENT_ID, Some("app"))], 1.0),
            (&[(USER, Some("ann")), (CLIENT_ID, None)], 2.0),
            (&[(USER, Some("ann"))], 3.0),
            (&[(USER, None), (CLIENT_ID, Some("app"))], 4.0),
            (&[(USER, None), (CLIENT_ID, None)], 5.0),
            (&[(USER, None)], 6.0),
            (&[(CLIENT_ID, Some("app"))], 7.0),
            (&[(CLIENT_ID, None)], 8.0),
        ];
        for first in 0..levels.len() {
            let image = image(&levels[first..]);
            let (limit, _) = find(&image, "rate", "ann", "app").expect("a level is left");
            assert_eq!(limit, (first + 1) as f64);
            assert_eq!(find(&image, "other", "ann", "app"), None);
        }
        assert_eq!(find(&image(&[]), "rate", "ann", "app"), None);
        assert_eq!(find(&image(&levels[..1]), "rate", "ann", "other"), None);
    }

    #[test]
    fn the_shape_of_a_level_says_who_pays_together() {
        let payer = |entity: Pairs<'_>, user: &str, client: &str| {
            find(&image(&[(entity, 1.0)]), "rate", user, client).expect("it counts").1
        };
        let user: Pairs<'_> = &[(USER, Some("ann"))];
        assert_eq!(payer(user, "ann", "a"), payer(user, "ann", "b"));
        let any_user: Pairs<'_> = &[(USER, None)];
        assert_ne!(payer(any_user, "ann", "a"), payer(any_user, "bob", "a"));
        let any_client: Pairs<'_> = &[(CLIENT_ID, None)];
        assert_eq!(payer(any_client, "ann", "a"), payer(any_client, "bob", "a"));
        assert_ne!(payer(any_client, "ann", "a"), payer(any_client, "ann", "b"));
    }
}
