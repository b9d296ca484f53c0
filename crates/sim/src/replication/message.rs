//! What replicas and their controller say to each other.

use super::node::{Entry, Node};

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Message {
    Fetch {
        from: usize,
        to: usize,
        life: u32,
        ticket: u32,
        broker_epoch: i64,
        leader_epoch: i32,
        offset: i64,
        last_epoch: i32,
    },
    Diverging {
        to: usize,
        life: u32,
        ticket: u32,
        leader_epoch: i32,
        theirs: (i32, i64),
    },
    Records {
        to: usize,
        life: u32,
        ticket: u32,
        leader_epoch: i32,
        first: i64,
        records: Vec<Entry>,
        high_watermark: i64,
    },
    Failed {
        to: usize,
        life: u32,
        ticket: u32,
    },
    Propose {
        from: usize,
        life: u32,
        ticket: u32,
        broker_epoch: i64,
        leader_epoch: i32,
        partition_epoch: i32,
        isr: Vec<(i32, i64)>,
    },
    Decided {
        to: usize,
        life: u32,
        ticket: u32,
        error: i16,
        leader_epoch: i32,
        isr: Vec<i32>,
        partition_epoch: i32,
    },
}

impl Message {
    /// Whether its sender waits for what comes of it.
    pub fn is_awaited(&self, nodes: &[Node]) -> bool {
        match *self {
            Message::Fetch { from: node, life, ticket, .. }
            | Message::Diverging { to: node, life, ticket, .. }
            | Message::Records { to: node, life, ticket, .. }
            | Message::Failed { to: node, life, ticket } => {
                nodes[node].life == life && nodes[node].awaits_fetch == Some(ticket)
            }
            Message::Propose { from: node, life, ticket, .. }
            | Message::Decided { to: node, life, ticket, .. } => {
                nodes[node].life == life && nodes[node].awaits_decision == Some(ticket)
            }
        }
    }

    /// Whether nothing comes of it, whenever it arrives: an answer that nobody waits for. With `late_answers`, records are taken anyway.
    pub fn is_spent(&self, nodes: &[Node], late_answers: bool) -> bool {
        match self {
            Message::Fetch { .. } | Message::Propose { .. } => false,
            Message::Records { to, life, .. } if late_answers && nodes[*to].life == *life => false,
            _ => !self.is_awaited(nodes),
        }
    }

    /// The same message with another number: of that it matters only whether it is waited for.
    pub fn with_ticket(&self, number: u32) -> Message {
        let mut message = self.clone();
        match &mut message {
            Message::Fetch { ticket, .. }
            | Message::Diverging { ticket, .. }
            | Message::Records { ticket, .. }
            | Message::Failed { ticket, .. }
            | Message::Propose { ticket, .. }
            | Message::Decided { ticket, .. } => *ticket = number,
        }
        message
    }
}
