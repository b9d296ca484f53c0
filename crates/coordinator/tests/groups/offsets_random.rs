//! Offsets in all weathers, from seeds: of a group that has a member at times, and of one that never has. Plain commits and those of
//! three producers, whose transactions end in any order; deletions of offsets and groups; time that goes by; appends that fail and
//! coordinators that fail over. What must hold, after every step:
//!
//! - A commit is accepted of a member, or of nobody in particular while there is none.
//! - What was committed last is there, in the order of the log, if it was committed plainly or by a transaction that committed; and a
//!   partition of which a transaction is open is unstable. The [ledger](crate::ledger) says what that is.
//! - A group that has members is not deleted, and one that is deleted leaves nothing.
//! - What is gone without a deletion was unused for the time that offsets are kept, and nobody subscribes to its topic.

use crate::dice::Dice;
use crate::ledger::{Kept, Key, Ledger};
use crate::rig::{Client, Rig};
use ottla_coordinator::Config;
use ottla_protocol::ErrorCode;

/// How long offsets are kept: a few steps.
const RETENTION_MS: i64 = 40_000;
/// The longest step; sessions are longer.
const STEP_MS: usize = 8_000;
/// The group that has a member at times, which reads "t".
const GROUP: &str = "g";
/// The group that never has.
const SIMPLE: &str = "s";

struct World {
    rig: Rig,
    dice: Dice,
    ledger: Ledger,
    member: Client,
    is_in: bool,
    /// When the member left for the last time.
    left_at: Option<i64>,
    next_offset: i64,
}

impl World {
    fn new(seed: u64) -> World {
        let config = Config {
            offsets_retention_ms: RETENTION_MS,
            offsets_retention_check_interval_ms: 5_000,
            ..Config::default()
        };
        World {
            rig: Rig::with_config(config),
            dice: Dice(seed),
            ledger: Ledger::default(),
            member: Client::new("m"),
            is_in: false,
            left_at: None,
            next_offset: 0,
        }
    }

    fn step(&mut self) {
        match self.dice.below(24) {
            0..=4 => self.commit(),
            5..=9 => self.commit_in_transaction(),
            10..=12 => {
                let (producer, commit) = (self.dice.below(3) as i64, self.dice.one_in(2));
                self.rig.end_transaction(producer, commit);
                self.ledger.marker(producer, commit);
            }
            13 => self.delete_offset(),
            14 => self.delete_group(),
            15 if self.is_in => {
                self.rig.fail_next = None;
                assert_eq!(self.rig.leave(&self.member.clone()), ErrorCode::None);
                self.is_in = false;
                self.left_at = Some(self.rig.now);
            }
            15..=17 if !self.is_in => {
                self.rig.fail_next = None;
                let mut members = [self.member.restarted()];
                self.rig.stabilize(&mut members);
                [self.member] = members;
                self.is_in = true;
            }
            18 => self.rig.fail_over(),
            19 => self.rig.fail_next = Some(ErrorCode::NotEnoughReplicas),
            _ => self.pass_time(),
        }
        self.check();
    }

    /// Some offset of some partition of one of the groups.
    fn choose(&mut self) -> (&'static str, (&'static str, i32, i64)) {
        self.next_offset += 1;
        let group = *self.dice.pick(&[GROUP, SIMPLE]);
        let topic = *self.dice.pick(&["t", "u"]);
        (group, (topic, self.dice.below(2) as i32, self.next_offset))
    }

    fn commit(&mut self) {
        let (group, offset) = self.choose();
        let is_member = group == GROUP && self.is_in && !self.dice.one_in(4);
        let client = if is_member { self.member.clone() } else { Client::new("c").in_group(group) };
        let fails = self.rig.fail_next.is_some();
        let answers = self.rig.commit(&client, &[offset]);
        let may = is_member || group == SIMPLE || !self.is_in;
        assert_eq!(answers[0] == ErrorCode::None, may && !fails, "{client:?} commits: {answers:?}");
        self.ledger.commit(&self.rig, group, &[offset], &answers, None);
    }

    fn commit_in_transaction(&mut self) {
        let (group, offset) = self.choose();
        let producer = self.dice.below(3) as i64;
        let is_member = group == GROUP && self.is_in;
        let client = if is_member { self.member.clone() } else { Client::new("c").in_group(group) };
        let fails = self.rig.fail_next.is_some();
        let answers = self.rig.txn_commit(producer, &client, &[offset]);
        assert_eq!(answers[0] == ErrorCode::None, !fails, "{client:?} commits: {answers:?}");
        self.ledger.commit(&self.rig, group, &[offset], &answers, Some(producer));
    }

    fn delete_offset(&mut self) {
        let (group, (topic, partition, _)) = self.choose();
        let (failed, answers) = self.rig.delete_offsets(group, &[(topic, partition)]);
        let is_read = group == GROUP && self.is_in && topic == "t";
        if failed == ErrorCode::None && answers[0] == ErrorCode::None {
            assert!(!is_read, "the member reads {topic}");
            self.ledger.deletion(&(group.to_string(), topic.to_string(), partition));
        }
    }

    fn delete_group(&mut self) {
        let group = *self.dice.pick(&[GROUP, SIMPLE]);
        let told = self.rig.delete_group(group);
        if group == GROUP && self.is_in {
            assert_eq!(told, ErrorCode::NonEmptyGroup);
        } else if told == ErrorCode::None {
            self.ledger.group_deletion(group);
        }
    }

    fn pass_time(&mut self) {
        let ms = self.dice.below(STEP_MS) as i64;
        self.rig.advance(ms);
        if self.is_in {
            assert_eq!(self.rig.heartbeat(&self.member.clone()), ErrorCode::None);
        }
    }

    fn check(&mut self) {
        let pending = self.ledger.pending();
        for (key, kept) in self.ledger.missing(&self.rig) {
            assert!(!pending.contains(&key), "{key:?} is part of a transaction");
            assert!(self.may_be_gone(&key, &kept), "{key:?} is gone: {kept:?}");
            self.ledger.deletion(&key);
        }
        self.ledger.check(&self.rig);
    }

    /// Whether it is unused for long enough: since it was committed, or since the last member left.
    fn may_be_gone(&self, (group, topic, _): &Key, kept: &Kept) -> bool {
        let is_read = group == GROUP && self.is_in && topic == "t";
        let left_at = self.left_at.filter(|_| group == GROUP && !self.is_in);
        let since = left_at.map_or(kept.committed_at, |left_at| left_at.min(kept.committed_at));
        !is_read && self.rig.now - since >= RETENTION_MS
    }
}

/// Returns how many offsets were committed.
pub fn tell(seed: u64, steps: usize) -> usize {
    let mut world = World::new(seed);
    for _ in 0..steps {
        world.step();
    }
    let committed = world.ledger.visible().len();
    world.rig.fail_next = None;
    world.rig.check_replay();
    committed
}

#[test]
fn offsets_in_all_weathers() {
    let committed: usize = (0..40).map(|seed| tell(seed, 300)).sum();
    assert!(committed > 100, "something is committed: {committed}");
}
