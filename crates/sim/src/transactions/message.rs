//! What travels in the model of transactions, and the words for who and where.

/// Partitions with records of clients: `t-0` and `t-1`.
pub(super) const DATA: usize = 2;
/// The partition of `__consumer_offsets`, behind a group coordinator.
pub(super) const OFFSETS: usize = DATA;
/// All of them.
pub(super) const PARTITIONS: usize = DATA + 1;

/// Producer id and epoch.
pub(super) type Producer = (i64, i16);

/// A record: which client wrote it, in which of its transactions, to which partition, and as which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Value {
    pub client: usize,
    pub txn: usize,
    pub partition: usize,
    pub number: usize,
}

impl Value {
    /// The offset that a commit of this value to the group says.
    pub fn offset(self) -> i64 {
        (self.client * 1_000 + self.txn) as i64
    }
}

/// A batch of one record on its way to a partition; in [`OFFSETS`] a TxnOffsetCommit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Batch {
    pub client: usize,
    pub op: usize,
    pub producer: Producer,
    pub sequence: i32,
    pub value: Value,
    /// It is sent by the rules of version 2: the partition joins the transaction with it.
    pub adds: bool,
}

/// A message on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Message {
    Init {
        client: usize,
        op: usize,
        expected: Option<Producer>,
    },
    /// From a client of versions 0 and 1: a partition is about to be written to.
    Add {
        client: usize,
        op: usize,
        producer: Producer,
        partition: usize,
    },
    End {
        client: usize,
        op: usize,
        producer: Producer,
        commit: bool,
        bumps: bool,
    },
    Produce(Batch),
    /// A partition asks whether a transaction may begin in it.
    Ask {
        partition: usize,
        producer: Producer,
        admission: u64,
        adds: bool,
    },
    Answer {
        partition: usize,
        producer: Producer,
        admission: u64,
        error: i16,
    },
    Marker(Marker),
    Marked {
        partition: usize,
        coordinator_epoch: i32,
        round: u64,
        result: Marked,
    },
    /// To a client: the error, and the producer that it is from now on.
    Reply {
        client: usize,
        op: usize,
        error: i16,
        producer: Producer,
    },
}

/// The end of a transaction on its way to a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Marker {
    pub partition: usize,
    pub producer: Producer,
    pub coordinator_epoch: i32,
    pub commit: bool,
    pub bumps: bool,
    pub round: u64,
}

/// What became of a marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Marked {
    Done,
    NotNow,
    Fenced,
}

impl Message {
    /// The client and the number of the request that this is.
    pub fn request(&self) -> Option<(usize, usize)> {
        match self {
            Message::Init { client, op, .. }
            | Message::Add { client, op, .. }
            | Message::End { client, op, .. } => Some((*client, *op)),
            Message::Produce(batch) => Some((batch.client, batch.op)),
            _ => None,
        }
    }

    /// The client and the number of the request that this is, or answers.
    pub fn concerns(&self) -> Option<(usize, usize)> {
        match self {
            Message::Reply { client, op, .. } => Some((*client, *op)),
            message => message.request(),
        }
    }

    /// Whether it dies with the node of the coordinator and the partitions.
    pub fn is_inside(&self) -> bool {
        matches!(
            self,
            Message::Ask { .. } | Message::Answer { .. } | Message::Marker(_) | Message::Marked { .. }
        )
    }
}
