//! A producer as clients behave: several batches in flight, requests asked again when no answer comes, and after an error it aborts or
//! begins anew. By the rules of version 2, or by the older ones: partitions are added first, and after an abort that it is not sure
//! about the producer takes a new epoch (KIP-360).

use ottla_protocol::ErrorCode;

use super::message::{Batch, Message, OFFSETS, PARTITIONS, Producer, Value};

/// One step of a transaction. A produce to [`OFFSETS`] is a commit of offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Init,
    Add(usize),
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
    /// How many records each partition has acknowledged.
    pub acked: [usize; PARTITIONS],
}

/// A request without its last answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flying {
    pub op: usize,
    pub step: Op,
    sequence: i32,
    value: Option<Value>,
    /// An answer may come. Otherwise it is to be sent again.
    pub is_waiting: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Client {
    /// Plays by the rules of version 2.
    pub bumps: bool,
    /// How many batches it has in flight at most.
    window: usize,
    script: Vec<Op>,
    at: usize,
    last_op: usize,
    pub flying: Vec<Flying>,
    pub producer: Option<Producer>,
    sequences: [i32; PARTITIONS],
    written: [usize; PARTITIONS],
    pub txns: Vec<Txn>,
    /// Somebody else uses its transactional id, or its time ran out: it may be refused.
    pub may_be_fenced: bool,
    pub is_dead: bool,
}

impl Client {
    pub fn new(script: Vec<Op>, bumps: bool, window: usize) -> Client {
        Client {
            bumps,
            window,
            script,
            at: 0,
            last_op: 0,
            flying: Vec::new(),
            producer: None,
            sequences: [0; PARTITIONS],
            written: [0; PARTITIONS],
            txns: vec![Txn::default()],
            may_be_fenced: false,
            is_dead: false,
        }
    }

    pub fn is_done(&self) -> bool {
        self.is_dead || self.at == self.script.len() && self.flying.is_empty()
    }

    pub fn may_begin(&self) -> bool {
        let is_batch = |step: &Op| matches!(step, Op::Produce(_));
        match self.script.get(self.at) {
            Some(step) if !self.is_dead => {
                let is_beside = is_batch(step) && self.flying.iter().all(|flying| is_batch(&flying.step));
                self.flying.is_empty() || is_beside && self.flying.len() < self.window
            }
            _ => false,
        }
    }

    /// Its next request.
    pub fn begin(&mut self, client: usize) -> Message {
        let step = self.script[self.at];
        self.at += 1;
        self.last_op += 1;
        let (mut sequence, mut value) = (-1, None);
        let txn = self.txns.len() - 1;
        match step {
            Op::Produce(partition) => {
                if partition != OFFSETS {
                    sequence = self.sequences[partition];
                    self.sequences[partition] += 1;
                }
                let number = self.written[partition];
                self.written[partition] += 1;
                value = Some(Value { client, txn, partition, number });
            }
            Op::End(commit) => self.txns[txn].asked_commit |= commit,
            _ => {}
        }
        self.flying.push(Flying { op: self.last_op, step, sequence, value, is_waiting: true });
        self.message(client, self.flying.len() - 1)
    }

    /// A request that has no answer, once more.
    pub fn again(&mut self, client: usize, at: usize) -> Message {
        self.flying[at].is_waiting = true;
        self.message(client, at)
    }

    fn message(&self, client: usize, at: usize) -> Message {
        let Flying { op, step, sequence, value, .. } = self.flying[at];
        let producer = || self.producer.expect("it began");
        match step {
            Op::Init => Message::Init { client, op, expected: self.producer },
            Op::Add(partition) => Message::Add { client, op, producer: producer(), partition },
            Op::Produce(_) => {
                let value = value.expect("a batch has a value");
                Message::Produce(Batch {
                    client,
                    op,
                    producer: producer(),
                    sequence,
                    value,
                    adds: self.bumps,
                })
            }
            Op::End(commit) => Message::End { client, op, producer: producer(), commit, bumps: self.bumps },
        }
    }

    /// It has asked for the next epoch of the producer that it is.
    pub fn is_going_on(&self) -> bool {
        self.producer.is_some() && matches!(self.flying[..], [Flying { step: Op::Init, .. }])
    }

    pub fn is_producing(&self) -> bool {
        !self.is_dead && self.flying.iter().any(|flying| matches!(flying.step, Op::Produce(_)))
    }

    /// It stops waiting for batches, and aborts.
    pub fn give_up(&mut self) {
        self.flying.clear();
        let rest = self.script[self.at..].iter().position(|op| matches!(op, Op::End(_)));
        self.at += rest.expect("a transaction has an end");
        self.script[self.at] = Op::End(false);
        if !self.bumps {
            // Nobody knows what the batches may still do: the next transaction has another epoch.
            self.script.insert(self.at + 1, Op::Init);
        }
    }

    pub fn is_committing(&self) -> bool {
        !self.is_dead && matches!(self.flying[..], [Flying { step: Op::End(true), .. }])
    }

    /// It has asked for a commit, has no answer, and asks for an abort.
    pub fn change_mind(&mut self) {
        self.flying.clear();
        self.script.insert(self.at, Op::End(false));
    }

    pub fn die(&mut self) {
        self.is_dead = true;
        self.flying.clear();
    }

    pub fn on_reply(&mut self, op: usize, error: ErrorCode, producer: Producer) -> Result<(), String> {
        let Some(at) = self.flying.iter().position(|flying| flying.op == op) else { return Ok(()) };
        let step = self.flying[at].step;
        match error {
            ErrorCode::None => {}
            // It passes: the same request again. Batches arrive in another order, too.
            ErrorCode::ConcurrentTransactions
            | ErrorCode::NotCoordinator
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::OutOfOrderSequenceNumber => {
                self.flying[at].is_waiting = false;
                return Ok(());
            }
            error => return self.on_refusal(step, error),
        }
        self.flying.remove(at);
        let txn = self.txns.last_mut().expect("there is one");
        match step {
            Op::Init => {
                self.producer = Some(producer);
                self.sequences = [0; PARTITIONS];
            }
            Op::Add(_) => {}
            Op::Produce(partition) => txn.acked[partition] += 1,
            Op::End(commit) => {
                (txn.committed, txn.aborted) = (commit, !commit);
                if self.bumps {
                    self.producer = Some(producer);
                    self.sequences = [0; PARTITIONS];
                }
                self.txns.push(Txn::default());
                self.written = [0; PARTITIONS];
            }
        }
        Ok(())
    }

    fn on_refusal(&mut self, step: Op, error: ErrorCode) -> Result<(), String> {
        // Who asked for a commit, and then for an abort, is told if it was too late.
        let too_late = step == Op::End(false)
            && error == ErrorCode::InvalidTxnState
            && self.txns.last().is_some_and(|txn| txn.asked_commit);
        if !self.may_be_fenced && !too_late {
            return Err(format!("{step:?} of a producer that does nothing wrong is refused: {error:?}"));
        }
        self.die();
        Ok(())
    }
}
