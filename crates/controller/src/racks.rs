//! The brokers by rack, and whose turn it is to take the next replica (Kafka's `StripedReplicaPlacer`).
//!
//! The tricky idea: two wheels turn at once. Each partition starts one rack further than the one before it, and within each rack one
//! broker further, so that leaders spread over racks and brokers alike; a partition takes one broker of each rack in turn before it takes
//! a second one of any. Fenced brokers of a rack come after its unfenced ones, and never first. After a full round the wheels are
//! shuffled, lest the same brokers meet again and again. Brokers without a rack form a rack of their own.
//!
//! ```text
//!   a: 1 2   b: 3 4   c: 5      factor 3:   p0 [1 3 5]   p1 [4 5 2]   p2 [5 1 3]   …
//! ```

use crate::dice::Dice;
use ottla_metadata::Broker;
use ottla_protocol::ids::NodeId;
use std::collections::BTreeMap;

/// Every broker that can take replicas, by rack.
pub(crate) struct Racks {
    racks: Vec<Rack>,
    unfenced: usize,
    total: usize,
    /// Partitions placed since the last shuffle.
    round: usize,
    /// The rack that begins.
    first: usize,
}

#[derive(Default)]
struct Rack {
    unfenced: Turns,
    fenced: Turns,
}

/// Brokers that take turns.
#[derive(Default)]
struct Turns {
    brokers: Vec<NodeId>,
    first: usize,
    taken: usize,
    round: usize,
}

impl Racks {
    /// Takes brokers in the order of their ids.
    pub(crate) fn of<'b>(brokers: impl Iterator<Item = &'b Broker>, dice: &mut Dice) -> Racks {
        let mut by_name: BTreeMap<Option<&str>, Rack> = BTreeMap::new();
        let (mut unfenced, mut total) = (0, 0);
        for broker in brokers {
            let rack = by_name.entry(broker.rack.as_deref()).or_default();
            let turns = if broker.fenced { &mut rack.fenced } else { &mut rack.unfenced };
            turns.brokers.push(broker.id);
            unfenced += usize::from(!broker.fenced);
            total += 1;
        }
        let mut racks: Vec<Rack> = by_name.into_values().collect();
        for rack in &mut racks {
            for turns in [&mut rack.unfenced, &mut rack.fenced] {
                turns.first = if turns.brokers.is_empty() { 0 } else { dice.below(turns.brokers.len()) };
            }
        }
        let first = if racks.is_empty() { 0 } else { dice.below(racks.len()) };
        Racks { racks, unfenced, total, round: 0, first }
    }

    /// How many brokers can lead.
    pub(crate) fn unfenced(&self) -> usize {
        self.unfenced
    }

    /// How many brokers there are.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// The replicas of the next partition; the first one is unfenced. There must be that many brokers, and one unfenced.
    pub(crate) fn place(&mut self, factor: usize, dice: &mut Dice) -> Vec<NodeId> {
        assert!(self.unfenced > 0 && (1..=self.total).contains(&factor), "checked by the caller");
        if self.round == self.unfenced && self.unfenced > 1 {
            self.shuffle(dice);
        }
        let (round, racks) = (self.round, self.racks.len());
        let mut replicas = Vec::with_capacity(factor);
        let mut leading = self.first;
        replicas.push(loop {
            match self.racks[leading].unfenced.next(round) {
                Some(broker) => break broker,
                None => leading = (leading + 1) % racks,
            }
        });
        // The rack that gave the leader had its turn already.
        let mut had_turn = Some(leading);
        let mut at = self.first;
        while replicas.len() < factor {
            if had_turn == Some(at) {
                had_turn = None;
            } else {
                replicas.extend(self.racks[at].next(round));
            }
            at = (at + 1) % racks;
        }
        self.round += 1;
        self.first = (self.first + 1) % racks;
        replicas
    }

    fn shuffle(&mut self, dice: &mut Dice) {
        dice.shuffle(&mut self.racks);
        for rack in &mut self.racks {
            dice.shuffle(&mut rack.unfenced.brokers);
            dice.shuffle(&mut rack.fenced.brokers);
        }
        self.round = 0;
    }
}

impl Rack {
    fn next(&mut self, round: usize) -> Option<NodeId> {
        self.unfenced.next(round).or_else(|| self.fenced.next(round))
    }
}

impl Turns {
    /// Whose turn it is; nobody's if all had theirs in this round.
    fn next(&mut self, round: usize) -> Option<NodeId> {
        let count = self.brokers.len();
        if self.round != round {
            (self.round, self.taken) = (round, 0);
            self.first = (self.first + 1) % count.max(1);
        }
        if self.taken == count {
            return None;
        }
        self.taken += 1;
        Some(self.brokers[(self.first + self.taken - 1) % count])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_protocol::Uuid;
    use std::collections::BTreeSet;

    fn broker(id: i32, rack: &str, fenced: bool) -> Broker {
        Broker {
            id: NodeId(id),
            broker_epoch: 0,
            incarnation_id: Uuid([1; 16]),
            endpoints: Vec::new(),
            features: Vec::new(),
            rack: (!rack.is_empty()).then(|| rack.into()),
            fenced,
            in_controlled_shutdown: false,
            log_dirs: Vec::new(),
            cordoned_log_dirs: None,
        }
    }

    fn placed(brokers: &[Broker], partitions: usize, factor: usize, seed: u64) -> Vec<Vec<i32>> {
        let mut dice = Dice::new(seed);
        let mut racks = Racks::of(brokers.iter(), &mut dice);
        (0..partitions).map(|_| racks.place(factor, &mut dice).iter().map(|id| id.0).collect()).collect()
    }

    #[test]
    fn replicas_spread_over_racks_whatever_the_dice_say() {
        let brokers: Vec<Broker> =
            (0..9).map(|id| broker(id, ["a", "b", "c"][id as usize % 3], false)).collect();
        for seed in 0..50 {
            let mut led = [0; 3];
            for replicas in placed(&brokers, 90, 3, seed) {
                let racks: BTreeSet<i32> = replicas.iter().map(|id| id % 3).collect();
                assert_eq!(racks.len(), 3, "seed {seed}: {replicas:?}");
                led[replicas[0] as usize % 3] += 1;
            }
            assert_eq!(led, [30, 30, 30], "seed {seed}: racks lead equally");
        }
    }

    #[test]
    fn racks_of_different_sizes() {
        let brokers =
            [broker(1, "a", false), broker(2, "a", false), broker(3, "a", false), broker(4, "b", false)];
        for seed in 0..50 {
            for replicas in placed(&brokers, 20, 2, seed) {
                assert!(replicas.contains(&4), "seed {seed}: both racks have a replica: {replicas:?}");
            }
            for replicas in placed(&brokers, 20, 4, seed) {
                let all: BTreeSet<i32> = replicas.into_iter().collect();
                assert_eq!(all.len(), 4, "seed {seed}: nobody twice");
            }
        }
    }

    #[test]
    fn the_fenced_never_come_first() {
        let brokers =
            [broker(1, "", true), broker(2, "a", false), broker(3, "b", true), broker(4, "", false)];
        for seed in 0..50 {
            for replicas in placed(&brokers, 20, 3, seed) {
                assert!([2, 4].contains(&replicas[0]), "seed {seed}: {replicas:?}");
            }
        }
    }

    #[test]
    fn one_unfenced_broker_leads_everything() {
        let brokers = [broker(1, "", false), broker(2, "", true)];
        for replicas in placed(&brokers, 10, 2, 7) {
            assert_eq!(replicas, [1, 2]);
        }
    }
}
