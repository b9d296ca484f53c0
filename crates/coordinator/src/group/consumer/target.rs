//! The target assignment: computed by an assignor for the whole group, at most once in a while, and written member by
//! member where it changed.

use crate::group::consumer::assignor::{MemberSpec, Spec, assign};
use crate::group::consumer::draft::Draft;
use crate::group::consumer::member::{Member, Target};
use crate::group::consumer::{epochs, records};
use crate::group::topics::Topics;
use ottla_protocol::Uuid;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

/// What a member is to follow.
pub(crate) struct Goal {
    pub assignment_epoch: i32,
    pub target: Arc<Target>,
}

/// The target assignment for the group epoch of the draft: computed if there is none yet and the last one is at least
/// `interval_ms` old (KIP-1263), else the last one.
pub(crate) fn update(
    draft: &mut Draft<'_>,
    default_assignor: &str,
    interval_ms: i32,
    now: i64,
    topics: &dyn Topics,
) -> Goal {
    let group = draft.group;
    let last = Goal { assignment_epoch: group.assignment_epoch, target: draft.target() };
    let is_too_early = group.assignment_timestamp != 0
        && interval_ms != 0
        && now < group.assignment_timestamp.saturating_add(interval_ms.into());
    if group.assignment_epoch >= draft.group_epoch || is_too_early {
        return last;
    }
    let counts = epochs::assignors_with(draft);
    let assignor = epochs::preferred_assignor(&counts).map_or(default_assignor, |name| name);
    let members = draft.members();
    let mut resolver = Resolver::new(draft, topics);
    let specs = members.values().map(|member| MemberSpec {
        id: &member.id,
        instance_id: member.instance_id(),
        topics: resolver.topics_of(member),
        current: match member.id == draft.member.id {
            true => draft.target(),
            false => group.target(&member.id).cloned().unwrap_or_default(),
        },
    });
    let specs: Vec<MemberSpec<'_>> = specs.collect();
    let spec = Spec {
        members: specs,
        is_homogeneous: epochs::is_homogeneous(
            &draft.regexes(),
            &draft.subscriptions(),
            draft.member_count(),
        ),
        partition_counts: resolver.partition_counts,
    };
    let mut goal = last;
    let mut changed = Vec::new();
    for (member, target) in spec.members.iter().zip(assign(assignor, &spec)) {
        let is_mine = *member.id == draft.member.id;
        // A member without a target record gets one, even an empty one.
        let has_record = group.target(member.id).is_some() || is_mine && draft.replaces.is_some();
        if !has_record || *member.current != target {
            changed.push(records::target(&group.id, member.id, &target));
        }
        if is_mine {
            goal.target = Arc::new(target);
        }
    }
    goal.assignment_epoch = draft.group_epoch;
    draft.records.append(&mut changed);
    draft.records.push(records::target_metadata(&group.id, draft.group_epoch, now));
    goal
}

type Names = BTreeSet<Arc<str>>;

/// Finds the ids of subscribed topics; members with the same subscription share the answer.
struct Resolver<'a> {
    draft: &'a Draft<'a>,
    topics: &'a dyn Topics,
    partition_counts: BTreeMap<Uuid, i32>,
    by_subscription: BTreeMap<(Names, Arc<str>), Rc<BTreeSet<Uuid>>>,
}

impl<'a> Resolver<'a> {
    fn new(draft: &'a Draft<'a>, topics: &'a dyn Topics) -> Resolver<'a> {
        Resolver { draft, topics, partition_counts: BTreeMap::new(), by_subscription: BTreeMap::new() }
    }

    fn topics_of(&mut self, member: &Member) -> Rc<BTreeSet<Uuid>> {
        let key = (member.profile.topics.clone(), member.profile.regex.clone());
        if let Some(known) = self.by_subscription.get(&key) {
            return known.clone();
        }
        let ids = subscribed_ids(self.draft, member, self.topics);
        for id in &ids {
            let count = self.topics.partition_count(*id).expect("a topic that has a name has partitions");
            self.partition_counts.insert(*id, count);
        }
        let ids = Rc::new(ids);
        self.by_subscription.insert(key, ids.clone());
        ids
    }
}

/// The existing topics that a member subscribes to, by name or by a pattern that is resolved.
pub(crate) fn subscribed_ids(draft: &Draft<'_>, member: &Member, topics: &dyn Topics) -> BTreeSet<Uuid> {
    let matched = member.regex().and_then(|regex| draft.group.resolved().get(regex));
    let names =
        member.profile.topics.iter().chain(matched.iter().flat_map(|resolved| resolved.topics.iter()));
    names.filter_map(|name| topics.id_of(name)).collect()
}
