//! Who of a consumer group has had which partition since when, as seen from outside; and so, whose commits are good.

use crate::rig::Rig;
use std::collections::BTreeMap;

/// What must become of a commit that can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    Refused,
    /// Who looks from outside can not tell.
    Open,
}

/// Topic and partition.
type Place = (String, i32);

/// That a member holds a partition.
#[derive(Debug, Clone)]
struct Hold {
    holder: String,
    /// The member epoch since which it does without a break.
    since: i32,
    /// It was to give the partition up at times: perhaps it did, and got it back at once.
    was_called_back: bool,
}

/// Of one group; it looks after every step.
#[derive(Debug, Clone, Default)]
pub struct Holdings {
    /// Member id → member epoch.
    members: BTreeMap<String, i32>,
    held: BTreeMap<Place, Hold>,
    /// The group is one of consumers.
    is_known: bool,
}

impl Holdings {
    pub fn look(&mut self, rig: &Rig, group: &str) {
        let described = rig.coordinator.describe_consumer_group(group, &rig.cluster);
        self.is_known = described.error_code == 0;
        let before = std::mem::take(&mut self.held);
        self.members.clear();
        for member in &described.members {
            let (id, epoch) = (member.member_id.to_string(), member.member_epoch);
            let target = &member.target_assignment.topic_partitions;
            for topic in &member.assignment.topic_partitions {
                let is_wanted = |partition: &i32| {
                    target.iter().any(|t| t.topic_id == topic.topic_id && t.partitions.contains(partition))
                };
                for partition in &topic.partitions {
                    let place = (topic.topic_name.to_string(), *partition);
                    let kept = before.get(&place).filter(|hold| hold.holder == id);
                    let since = kept.map_or(epoch, |hold| hold.since);
                    let was_called_back =
                        kept.is_some_and(|hold| hold.was_called_back) || !is_wanted(partition);
                    self.held.insert(place, Hold { holder: id.clone(), since, was_called_back });
                }
            }
            self.members.insert(id, epoch);
        }
    }

    /// What it holds from here on it holds anew.
    pub fn forget(&mut self, member: &str) {
        self.held.retain(|_, hold| hold.holder != member);
    }

    /// Whether there is a consumer group, and how many members it has.
    pub fn members(&self) -> Option<usize> {
        self.is_known.then_some(self.members.len())
    }

    pub fn epoch_of(&self, member: &str) -> Option<i32> {
        self.members.get(member).copied()
    }

    /// A commit of one who was at this epoch once, or of nobody in particular ("" and -1): members commit in their epoch, and if they
    /// are behind, for what they have had since (KIP-1251). Groups without members are anybody's who does not pretend to be one.
    pub fn verdict(&self, member: &str, epoch: i32, topic: &str, partition: i32) -> Verdict {
        let is_good = match self.members.get(member) {
            None => epoch < 0 && self.members.is_empty(),
            Some(current) if *current == epoch => true,
            Some(current) => {
                let held = self.held.get(&(topic.to_string(), partition));
                let held = held.filter(|hold| hold.holder == member && hold.since <= epoch);
                if held.is_some_and(|hold| hold.was_called_back) && epoch < *current {
                    return Verdict::Open;
                }
                epoch < *current && held.is_some()
            }
        };
        if is_good { Verdict::Accepted } else { Verdict::Refused }
    }
}
