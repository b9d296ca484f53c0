//! What becomes of a message that arrives.

use ottla_broker::replicas::{FollowerFetch, check_epoch, is_diverging, is_receipt, was_refused};
use ottla_protocol::ErrorCode;

use super::Model;
use crate::replication::message::Message;
use crate::replication::node::{Entry, Role};

/// Records of one answer.
const RECORDS_MAX: usize = 2;

/// What a leader answers to a fetch.
enum Answer {
    Records(Vec<Entry>, i64),
    /// The logs part: the leader's largest epoch up to the follower's, and where that ends.
    Diverging((i32, i64)),
    Failed,
}

impl Model {
    pub fn deliver(&mut self, message: Message) -> Result<(), String> {
        match message {
            Message::Fetch { from, to, life, ticket, broker_epoch, leader_epoch, offset, last_epoch } => {
                let answer = self.on_fetch((from, broker_epoch), to, leader_epoch, offset, last_epoch);
                self.flight.push(match answer {
                    Answer::Records(records, high_watermark) => Message::Records {
                        to: from,
                        life,
                        ticket,
                        leader_epoch,
                        first: offset,
                        records,
                        high_watermark,
                    },
                    Answer::Diverging(theirs) => {
                        Message::Diverging { to: from, life, ticket, leader_epoch, theirs }
                    }
                    Answer::Failed => Message::Failed { to: from, life, ticket },
                });
            }
            Message::Diverging { to, life, ticket, leader_epoch, theirs } => {
                if self.take_answer(to, life, ticket) {
                    self.nodes[to].on_diverging(leader_epoch, theirs);
                }
            }
            Message::Records { to, life, ticket, leader_epoch, first, records, high_watermark } => {
                let is_awaited = self.take_answer(to, life, ticket);
                let is_late =
                    self.setting.late_answers && self.nodes[to].is_alive && self.nodes[to].life == life;
                if is_awaited || is_late {
                    self.nodes[to].on_records(leader_epoch, first, &records, high_watermark)?;
                }
            }
            Message::Failed { to, life, ticket } => drop(self.take_answer(to, life, ticket)),
            Message::Propose { from, life, ticket, broker_epoch, leader_epoch, partition_epoch, isr } => {
                let epochs = (leader_epoch, partition_epoch);
                let decided = self.metadata.decide(from, broker_epoch, epochs, &isr);
                self.decided();
                let (error, leader_epoch, isr, partition_epoch) = match decided {
                    Ok(data) => (data.error_code, data.leader_epoch, data.isr, data.partition_epoch),
                    Err(error) => (error.code(), -1, Vec::new(), -1),
                };
                self.flight.push(Message::Decided {
                    to: from,
                    life,
                    ticket,
                    error,
                    leader_epoch,
                    isr,
                    partition_epoch,
                });
            }
            Message::Decided { to, life, ticket, error, leader_epoch, isr, partition_epoch } => {
                let node = &mut self.nodes[to];
                if node.life != life || node.awaits_decision != Some(ticket) {
                    return Ok(());
                }
                node.awaits_decision = None;
                if let Some(leading) = &mut node.leading {
                    match ErrorCode::from_code(error) {
                        ErrorCode::None => leading.on_decided(leader_epoch, isr, partition_epoch),
                        error if was_refused(error) => leading.on_refused(),
                        _ => {}
                    }
                }
                self.advance(to);
            }
        }
        Ok(())
    }

    fn take_answer(&mut self, to: usize, life: u32, ticket: u32) -> bool {
        let node = &mut self.nodes[to];
        let is_awaited = node.life == life && node.awaits_fetch == Some(ticket);
        if is_awaited {
            node.awaits_fetch = None;
        }
        is_awaited
    }

    /// A leader is asked for records by a broker of some epoch.
    fn on_fetch(
        &mut self,
        (from, broker_epoch): (usize, i64),
        at: usize,
        leader_epoch: i32,
        offset: i64,
        last_epoch: i32,
    ) -> Answer {
        let node = &mut self.nodes[at];
        let is_leader = node.is_alive && node.role == Role::Leader;
        if !is_leader || check_epoch(node.leader_epoch, leader_epoch).is_err() {
            return Answer::Failed;
        }
        let end = node.end();
        let is_eligible = self.metadata.view(node.seen.max(1)).brokers[from] == (broker_epoch, true);
        let receipt = FollowerFetch { id: from as i32 + 1, broker_epoch, log_start_offset: 0, is_eligible };
        let Some(leading) = node.leading.as_mut().filter(|leading| leading.knows(&receipt)) else {
            return Answer::Failed;
        };
        let mut parts_at = None;
        if last_epoch >= 0 {
            let Some(found) = node.epochs.end_offset_for(last_epoch, end) else { return Answer::Failed };
            parts_at = is_diverging(found, last_epoch, offset).then_some(found);
        }
        if parts_at.is_none() && offset > end {
            return Answer::Failed;
        }
        if is_receipt(parts_at.is_some()) {
            if leading.on_fetch(receipt, offset, (node.high_watermark, end), 0) {
                leading.propose_joined(receipt.id);
            }
            self.advance(at);
        }
        if let Some(theirs) = parts_at {
            return Answer::Diverging(theirs);
        }
        let node = &self.nodes[at];
        let records = node.log.iter().skip(offset as usize).take(RECORDS_MAX).copied().collect();
        Answer::Records(records, node.high_watermark)
    }
}
