//! What the leader of a partition knows of its followers: how far each is, who is in sync, and so what is committed (Kafka: `Partition`).
//!
//! The one tricky idea: while a change of the ISR is proposed and not decided, it may already be so. What counts for the high watermark is
//! therefore the *maximal* ISR, everybody who is in sync or may be by now; what counts for admitting records is the ISR that is committed.

use std::collections::BTreeMap;

use ottla_metadata::Partition as Described;
use ottla_metadata::topic::numbers;

use super::guard::ReplicaGuard as Guard;
use crate::effect::Millis;

/// How long a follower that has caught up, and is not in the ISR yet, is waited for: with a high watermark that runs away it would never
/// catch up with it.
const JOINING_MS: Millis = 1_000;

/// What the leader knows.
#[derive(Debug, Clone, Hash)]
pub struct Leading {
    me: i32,
    /// The epoch in which this node leads.
    pub leader_epoch: i32,
    partition_epoch: i32,
    replicas: Vec<i32>,
    /// As it is committed.
    isr: Vec<i32>,
    /// Where this leader's epoch begins in its log.
    pub epoch_start_offset: i64,
    followers: BTreeMap<i32, Progress>,
    proposed: Option<Vec<(i32, i64)>>,
}

/// How far a follower is.
#[derive(Debug, Clone, Copy, Hash)]
struct Progress {
    log_end_offset: i64,
    /// Where its log begins; -1 until it said so in this epoch.
    log_start_offset: i64,
    broker_epoch: i64,
    fetched_at: Millis,
    /// The end of the leader's log then.
    leader_end: i64,
    /// When it last had everything that the leader had.
    caught_up_at: Millis,
}

/// A change of the ISR that the controller has to decide about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Of the leader that proposes it.
    pub leader_epoch: i32,
    /// Of the state that it starts from.
    pub partition_epoch: i32,
    /// The brokers, each with its epoch if it is known.
    pub isr: Vec<(i32, i64)>,
}

/// A fetch of a follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FollowerFetch {
    /// The broker.
    pub id: i32,
    /// The life of it that fetches; -1: it does not say.
    pub broker_epoch: i64,
    /// Where its log of the partition begins.
    pub log_start_offset: i64,
    /// Whether the broker may be in an ISR: it is alive, stays, and this is its present life.
    pub is_eligible: bool,
}

/// A follower that consumers may read from; the greatest is the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Readable {
    pub log_end_offset: i64,
    /// When it last had everything that the leader had.
    pub caught_up_at: Millis,
    pub id: i32,
}

impl Leading {
    /// Takes the lead, as the image says; nothing is known of the followers in this epoch. `now` is when they were last heard of.
    pub fn new(me: i32, described: &Described, log_end_offset: i64, now: Millis) -> Leading {
        let mut leading = Leading {
            me,
            leader_epoch: described.leader_epoch.0,
            partition_epoch: -1,
            replicas: Vec::new(),
            isr: Vec::new(),
            epoch_start_offset: log_end_offset,
            followers: BTreeMap::new(),
            proposed: None,
        };
        leading.follow_image(described, now);
        leading
    }

    /// Leads as the image says, after what was known before. Only a strictly newer leader epoch begins anew: in the same one, what is known of
    /// the followers and what is proposed goes on, as it may have been accepted; an older one says nothing (Kafka: `Partition.makeLeader`).
    pub fn of_image(
        before: Option<Leading>,
        me: i32,
        described: &Described,
        log_end_offset: i64,
        now: Millis,
    ) -> Leading {
        let Some(mut leading) = before else { return Leading::new(me, described, log_end_offset, now) };
        let is_newer = described.leader_epoch.0 > leading.leader_epoch;
        if Guard::LeaderEpochNewer.holds(is_newer) && Guard::FollowersOfThisEpoch.stands() {
            return Leading::new(me, described, log_end_offset, now);
        }
        leading.leader_epoch = leading.leader_epoch.max(described.leader_epoch.0);
        leading.follow_image(described, now);
        leading
    }

    /// Something of the partition changed, but not its leader.
    pub fn follow_image(&mut self, described: &Described, now: Millis) {
        if !Guard::ImageNotOlder.holds(described.partition_epoch >= self.partition_epoch) {
            return;
        }
        if described.partition_epoch > self.partition_epoch {
            // Whatever was proposed is decided, or was proposed too late.
            self.proposed = None;
        }
        self.partition_epoch = described.partition_epoch;
        self.replicas = numbers(&described.replicas);
        self.isr = numbers(&described.isr);
        let (me, replicas) = (self.me, &self.replicas);
        self.followers.retain(|id, _| replicas.contains(id));
        for id in replicas.iter().filter(|id| **id != me) {
            self.followers.entry(*id).or_insert(Progress {
                log_end_offset: -1,
                log_start_offset: -1,
                broker_epoch: -1,
                fetched_at: now,
                leader_end: i64::MAX,
                caught_up_at: now,
            });
        }
    }

    /// Whether this replica is the only one.
    pub fn is_alone(&self) -> bool {
        self.replicas.len() <= 1
    }

    /// `min.insync.replicas`, but never more than there are replicas.
    fn min_isr(&self, min_insync_replicas: i32) -> usize {
        usize::try_from(min_insync_replicas).unwrap_or(1).min(self.replicas.len())
    }

    /// Whether records may be admitted that all in-sync replicas have to have.
    pub fn admits(&self, min_insync_replicas: i32) -> bool {
        self.isr.len() >= self.min_isr(min_insync_replicas)
    }

    /// Whether a follower is in the ISR, as it is committed.
    pub fn is_in_sync(&self, id: i32) -> bool {
        self.isr.contains(&id)
    }

    fn is_in_maximal_isr(&self, id: i32) -> bool {
        let is_proposed = |proposed: &Vec<(i32, i64)>| proposed.iter().any(|(member, _)| *member == id);
        let may_be = self.proposed.as_ref().is_some_and(is_proposed);
        self.isr.contains(&id) || (may_be && Guard::MaximalIsrCounts.stands())
    }

    /// What is committed, if this replica's own log counts up to `own_end`; `None` while too few are in sync (KIP-966).
    pub fn committed(&self, own_end: i64, min_insync_replicas: i32, now: Millis) -> Option<i64> {
        if !Guard::CommitsWithMinIsr.holds(self.admits(min_insync_replicas)) {
            return None;
        }
        let counts = |id: i32, progress: &Progress| {
            let joins = progress.log_end_offset >= 0 && now - progress.caught_up_at < JOINING_MS;
            let has_fetched = progress.log_end_offset >= 0 || Guard::FollowerHasFetched.stands();
            has_fetched && (self.is_in_maximal_isr(id) || joins)
        };
        let of_followers = self.followers.iter().filter(|(id, progress)| counts(**id, progress));
        let lowest = of_followers.map(|(_, progress)| progress.log_end_offset.max(0)).min();
        Some(lowest.map_or(own_end, |lowest| lowest.min(own_end)))
    }

    /// Whether a fetch is that of a replica, and of no earlier life of it than was heard of: what that one had, this one may have lost
    /// (KIP-903).
    pub fn knows(&self, from: &FollowerFetch) -> bool {
        let of = |progress: &Progress| from.broker_epoch < 0 || from.broker_epoch >= progress.broker_epoch;
        self.followers.get(&from.id).is_some_and(|progress| Guard::EarlierLifeIsNotHeard.holds(of(progress)))
    }

    /// A follower fetches from `offset` on: it has everything before. Returns whether it should be in the ISR, and is not.
    pub fn on_fetch(
        &mut self,
        from: FollowerFetch,
        offset: i64,
        (high_watermark, log_end_offset): (i64, i64),
        now: Millis,
    ) -> bool {
        let Some(progress) = self.followers.get_mut(&from.id) else { return false };
        if offset >= log_end_offset {
            progress.caught_up_at = now;
        } else if offset >= progress.leader_end {
            progress.caught_up_at = progress.caught_up_at.max(progress.fetched_at);
        }
        *progress = Progress {
            log_end_offset: offset,
            log_start_offset: from.log_start_offset,
            broker_epoch: from.broker_epoch,
            fetched_at: now,
            leader_end: log_end_offset,
            ..*progress
        };
        let has_all = Guard::JoinsAboveHighWatermark.holds(offset >= high_watermark)
            && Guard::JoinsAboveEpochStart.holds(offset >= self.epoch_start_offset);
        let may_join = from.is_eligible
            && Guard::OneProposal.holds(self.proposed.is_none())
            && !self.is_in_maximal_isr(from.id);
        has_all && may_join
    }

    /// The followers in the ISR from which a consumer could read on at `offset` (Kafka: `ReplicaManager.findPreferredReadReplica`).
    pub(crate) fn readable(&self, offset: i64) -> Vec<Readable> {
        let has = |(id, progress): &(&i32, &Progress)| {
            self.isr.contains(id) && progress.log_end_offset >= offset && progress.log_start_offset <= offset
        };
        let readable = self.followers.iter().filter(has);
        readable
            .map(|(&id, progress)| Readable {
                log_end_offset: progress.log_end_offset,
                caught_up_at: progress.caught_up_at,
                id,
            })
            .collect()
    }

    /// Where a follower's log begins, as far as it is known.
    pub fn start_of(&self, id: i32) -> i64 {
        self.followers.get(&id).map_or(-1, |progress| progress.log_start_offset)
    }

    /// Below it no living replica has a record: where this log begins, or that of a follower which has not come that far or did not say yet
    /// (Kafka: `Partition.lowWatermarkIfLeader`).
    pub fn low_watermark(&self, own_start: i64, is_alive: impl Fn(i32) -> bool) -> i64 {
        let living = self.followers.iter().filter(|(id, _)| is_alive(**id));
        living.map(|(_, progress)| progress.log_start_offset).fold(own_start, i64::min)
    }

    /// Proposes that a follower joins the ISR.
    pub fn propose_joined(&mut self, id: i32) {
        assert!(Guard::OneProposal.holds(self.proposed.is_none()), "one proposal at a time");
        let joined = self.isr.iter().copied().chain([id]).collect();
        self.propose(joined);
    }

    /// Proposes that those leave the ISR who did not keep up for `lag_ms`. Returns whether there are any.
    pub fn propose_without_laggards(&mut self, log_end_offset: i64, lag_ms: Millis, now: Millis) -> bool {
        if !Guard::OneProposal.holds(self.proposed.is_none()) {
            return false;
        }
        let keeps_up = |id: &i32| {
            *id == self.me
                || self.followers.get(id).is_some_and(|progress| {
                    progress.log_end_offset == log_end_offset || now - progress.caught_up_at <= lag_ms
                })
        };
        let left: Vec<i32> = self.isr.iter().copied().filter(keeps_up).collect();
        let changed = left.len() < self.isr.len();
        if changed {
            self.propose(left);
        }
        changed
    }

    fn propose(&mut self, isr: Vec<i32>) {
        let epoch_of = |id: i32| self.followers.get(&id).map_or(-1, |progress| progress.broker_epoch);
        self.proposed = Some(isr.into_iter().map(|id| (id, epoch_of(id))).collect());
    }

    /// What is proposed, if anything is.
    pub fn proposal(&self) -> Option<Proposal> {
        let isr = self.proposed.clone()?;
        Some(Proposal { leader_epoch: self.leader_epoch, partition_epoch: self.partition_epoch, isr })
    }

    /// The controller decided about a proposal of that leader epoch: so it is now.
    pub fn on_decided(&mut self, leader_epoch: i32, isr: Vec<i32>, partition_epoch: i32) {
        if leader_epoch == self.leader_epoch
            && Guard::DecisionNotOlder.holds(partition_epoch > self.partition_epoch)
        {
            (self.isr, self.partition_epoch) = (isr, partition_epoch);
        }
        self.proposed = None;
    }

    /// The controller refused: it is as it was.
    pub fn on_refused(&mut self) {
        self.proposed = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_metadata::topic::nodes;
    use ottla_protocol::ids::{LeaderEpoch, NodeId};

    const EVERYBODY: [i32; 3] = [1, 2, 3];

    fn described(isr: &[i32], partition_epoch: i32) -> Described {
        Described {
            replicas: nodes(&EVERYBODY),
            isr: nodes(isr),
            leader: Some(NodeId(1)),
            leader_epoch: LeaderEpoch(4),
            partition_epoch,
            ..Described::default()
        }
    }

    fn from(id: i32) -> FollowerFetch {
        FollowerFetch { id, broker_epoch: 7, log_start_offset: 0, is_eligible: true }
    }

    #[test]
    fn what_all_in_sync_replicas_have_is_committed() {
        let mut leading = Leading::new(1, &described(&[1, 2], 0), 10, 0);
        assert_eq!(leading.committed(10, 1, 0), Some(0), "nothing is known of the follower in this epoch");
        assert!(!leading.on_fetch(from(2), 8, (0, 10), 1));
        assert_eq!(leading.committed(10, 1, 2_000), Some(8));
        assert_eq!(leading.committed(5, 1, 2_000), Some(5), "the own log counts as far as it is on disk");
        assert_eq!(leading.committed(10, 3, 2_000), None, "too few are in sync");
        assert!(leading.admits(2) && !leading.admits(3));
    }

    #[test]
    fn who_has_caught_up_is_proposed_and_waited_for() {
        let mut leading = Leading::new(1, &described(&[1], 0), 10, 0);
        assert!(!leading.on_fetch(from(2), 9, (10, 10), 1), "below the high watermark");
        assert!(!leading.on_fetch(FollowerFetch { is_eligible: false, ..from(2) }, 10, (10, 10), 2));
        assert!(leading.on_fetch(from(2), 10, (10, 10), 3));
        leading.propose_joined(2);
        let proposal = leading.proposal().expect("just now");
        assert_eq!((proposal.isr, proposal.partition_epoch), (vec![(1, -1), (2, 7)], 0));
        assert!(!leading.on_fetch(from(3), 10, (10, 10), 4), "one at a time");
        assert_eq!(leading.committed(20, 1, 9_000), Some(10), "it may be in the ISR by now");
        leading.on_refused();
        assert_eq!(leading.committed(20, 1, 9_000), Some(20));
    }

    #[test]
    fn nobody_joins_before_it_has_what_the_epoch_began_with() {
        let mut leading = Leading::new(1, &described(&[1], 0), 10, 0);
        assert!(!leading.on_fetch(from(2), 8, (5, 10), 1), "the high watermark may be old");
        assert!(leading.on_fetch(from(2), 10, (5, 10), 1));
    }

    #[test]
    fn laggards_are_proposed_to_leave_and_count_until_that_is_decided() {
        let mut leading = Leading::new(1, &described(&EVERYBODY, 0), 10, 0);
        leading.on_fetch(from(2), 10, (0, 10), 1_000);
        leading.on_fetch(from(3), 4, (0, 10), 1_000);
        assert!(!leading.propose_without_laggards(10, 30_000, 30_000));
        assert!(leading.propose_without_laggards(10, 30_000, 30_001));
        assert_eq!(leading.committed(10, 1, 30_001), Some(4));
        leading.on_decided(4, vec![1, 2], 1);
        assert_eq!(leading.committed(10, 1, 30_001), Some(10));
        // What the image says later is no news, and older news is none.
        leading.follow_image(&described(&EVERYBODY, 0), 30_002);
        assert_eq!(leading.committed(10, 1, 40_000), Some(10));
        leading.follow_image(&described(&[1], 2), 30_003);
        assert!(!leading.admits(2));
    }

    #[test]
    fn only_a_newer_leader_epoch_begins_anew() {
        let mut leading = Leading::new(1, &described(&[1, 2], 1), 10, 0);
        leading.on_fetch(from(2), 10, (0, 10), 1);
        assert!(leading.on_fetch(from(3), 10, (0, 10), 1));
        leading.propose_joined(3);
        // Neither the same epoch nor an older one: the proposal may have been accepted, so the third counts.
        let older = Described { leader_epoch: LeaderEpoch(3), ..described(&[1, 2], 0) };
        for image in [described(&[1, 2], 1), older] {
            leading = Leading::of_image(Some(leading), 1, &image, 12, 2);
            assert!(leading.proposal().is_some_and(|it| (it.leader_epoch, it.partition_epoch) == (4, 1)));
            leading.on_fetch(from(2), 12, (10, 12), 3);
            assert_eq!((leading.committed(12, 2, 2_000), leading.epoch_start_offset), (Some(10), 10));
        }
        let newer = Described { leader_epoch: LeaderEpoch(5), ..described(&[1, 2], 2) };
        let leading = Leading::of_image(Some(leading), 1, &newer, 12, 4);
        assert_eq!((leading.leader_epoch, leading.epoch_start_offset, leading.proposal()), (5, 12, None));
        assert_eq!(
            leading.committed(12, 2, 2_000),
            Some(0),
            "nothing is known of the follower in this epoch"
        );
    }

    #[test]
    fn the_low_watermark_waits_for_every_replica_that_lives() {
        let mut leading = Leading::new(1, &described(&EVERYBODY, 0), 10, 0);
        let everybody = |_| true;
        assert_eq!(leading.low_watermark(5, everybody), -1, "nobody said anything");
        leading.on_fetch(FollowerFetch { log_start_offset: 5, ..from(2) }, 10, (10, 10), 1);
        assert_eq!(leading.low_watermark(5, everybody), -1);
        assert_eq!(leading.low_watermark(5, |id| id == 2), 5, "the third is dead");
        leading.on_fetch(FollowerFetch { log_start_offset: 3, ..from(3) }, 10, (10, 10), 2);
        assert_eq!(leading.low_watermark(5, everybody), 3);
        leading.on_fetch(FollowerFetch { log_start_offset: 7, ..from(3) }, 10, (10, 10), 3);
        assert_eq!(leading.low_watermark(5, everybody), 5);
    }

    #[test]
    fn a_follower_is_caught_up_as_of_the_fetch_whose_end_it_reached() {
        let mut leading = Leading::new(1, &described(&EVERYBODY, 0), 10, 0);
        leading.on_fetch(from(2), 5, (0, 10), 100);
        leading.on_fetch(from(2), 10, (0, 20), 200);
        // At 100 the log ended at 10, and now the follower has that much.
        assert!(!leading.propose_without_laggards(30, 1_000, 1_000));
        assert!(leading.propose_without_laggards(30, 1_000, 1_101));
    }
}
