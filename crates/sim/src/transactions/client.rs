//! A producer of version 2, as clients behave: one request at a time, asked again when its answer is lost, and after an error it aborts
//! or begins anew.

use ottla_protocol::ErrorCode;

use super::model::{Message, PARTITIONS, Producer};

/// One step of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Init,
    Produce(usize),
    End(bool),
}

/// What is known of one of its transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Txn {
    /// Whether the client has ever asked for a commit.
    pub asked_commit: bool,
    pub committed: bool,
    pub aborted: bool,
    /// Which partitions have acknowledged.
    pub acked: [bool; PARTITIONS],
}

#[derive(Debug, Clone)]
pub(super) struct Client {
    script: Vec<Op>,
    at: usize,
    /// Tells the answer to this request from late ones.
    op: usize,
    waiting: bool,
    pub producer: Option<Producer>,
    sequences: [i32; PARTITIONS],
    pub txns: Vec<Txn>,
    /// Somebody else uses its transactional id, or its time ran out: it may be refused.
    pub may_be_fenced: bool,
    pub dead: bool,
}

impl Client {
    pub fn new(script: Vec<Op>, may_be_fenced: bool) -> Client {
        Client {
            script,
            at: 0,
            op: 0,
            waiting: false,
            producer: None,
            sequences: [0; PARTITIONS],
            txns: vec![Txn::default()],
            may_be_fenced,
            dead: false,
        }
    }

    fn current(&self) -> Option<Op> {
        if self.dead { None } else { self.script.get(self.at).copied() }
    }

    pub fn is_waiting(&self) -> bool {
        self.waiting && !self.dead
    }

    pub fn is_past_init(&self) -> bool {
        self.current().is_some_and(|op| op != Op::Init)
    }

    pub fn is_done(&self) -> bool {
        self.dead || self.at == self.script.len()
    }

    pub fn may_begin(&self) -> bool {
        !self.waiting && self.current().is_some()
    }

    pub fn is_producing(&self) -> bool {
        self.is_waiting() && matches!(self.current(), Some(Op::Produce(_)))
    }

    /// Its request, as it is sent for the first time or again.
    pub fn message(&mut self, client: usize) -> Option<Message> {
        let step = self.current()?;
        self.waiting = true;
        let op = self.op;
        let txn = self.txns.len() - 1;
        Some(match step {
            Op::Init => Message::Init { client, op, expected: self.producer },
            Op::Produce(partition) => Message::Produce {
                client,
                op,
                producer: self.producer.expect("it began"),
                sequence: self.sequences[partition],
                value: (client, txn, partition),
            },
            Op::End(commit) => {
                self.txns[txn].asked_commit |= commit;
                Message::End { client, op, producer: self.producer.expect("it began"), commit }
            }
        })
    }

    /// It stops waiting for a produce, and aborts.
    pub fn give_up(&mut self) {
        self.waiting = false;
        self.op += 1;
        self.abort_instead();
    }

    fn abort_instead(&mut self) {
        let rest = self.script[self.at..].iter().position(|op| matches!(op, Op::End(_)));
        self.at += rest.expect("a transaction has an end");
        self.script[self.at] = Op::End(false);
    }

    pub fn on_reply(&mut self, op: usize, error: ErrorCode, producer: Producer) -> Result<(), String> {
        if op != self.op || !self.is_waiting() {
            return Ok(());
        }
        let step = self.current().expect("it waits for something");
        self.waiting = false;
        match error {
            ErrorCode::None => {}
            // It passes: the same request again.
            ErrorCode::ConcurrentTransactions
            | ErrorCode::NotCoordinator
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::CoordinatorLoadInProgress => return Ok(()),
            error => return self.on_refusal(step, error),
        }
        self.op += 1;
        let txn = self.txns.last_mut().expect("there is one");
        match step {
            Op::Init => {
                self.producer = Some(producer);
                self.sequences = [0; PARTITIONS];
            }
            Op::Produce(partition) => {
                self.sequences[partition] += 1;
                txn.acked[partition] = true;
            }
            Op::End(commit) => {
                (txn.committed, txn.aborted) = (commit, !commit);
                self.producer = Some(producer);
                self.sequences = [0; PARTITIONS];
                self.txns.push(Txn::default());
            }
        }
        self.at += 1;
        Ok(())
    }

    fn on_refusal(&mut self, step: Op, error: ErrorCode) -> Result<(), String> {
        if !self.may_be_fenced {
            return Err(format!("{step:?} of a producer that does nothing wrong is refused: {error:?}"));
        }
        // Somebody else has the transactional id.
        self.dead = true;
        Ok(())
    }
}
