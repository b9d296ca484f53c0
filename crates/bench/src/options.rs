//! What to run, as the command line says it. Every mode has its own set; what they share stands in [`Common`].

use crate::payload::Payload;
use clap::{Args, Parser, Subcommand, ValueEnum};
use ottla_protocol::compression::Codec;

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "ottla-bench", about = "Load for a broker, and what it took")]
pub struct Arguments {
    /// Which load.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Kinds of load.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Sends pre-encoded Produce requests
    Produce(ProduceOptions),
    /// Drains partitions, without looking at the records
    Fetch(FetchOptions),
    /// Sends single records that carry their time, and measures when a consumer has them
    EndToEnd(EndToEndOptions),
    /// Creates a topic and waits for its leaders
    Create(CreateOptions),
    /// Deletes a topic
    Delete(DeleteOptions),
}

/// Options of `create`.
#[derive(Debug, Clone, Args)]
pub struct CreateOptions {
    /// Address of the broker
    #[arg(long, default_value = "127.0.0.1:9092")]
    pub bootstrap: String,
    /// Topic
    #[arg(long, default_value = "bench")]
    pub topic: String,
    /// Partitions
    #[arg(long, default_value_t = 1)]
    pub partitions: i32,
    /// Topic configuration, as key=value
    #[arg(long)]
    pub config: Vec<String>,
}

/// Options of `delete`.
#[derive(Debug, Clone, Args)]
pub struct DeleteOptions {
    /// Address of the broker
    #[arg(long, default_value = "127.0.0.1:9092")]
    pub bootstrap: String,
    /// Topic
    #[arg(long, default_value = "bench")]
    pub topic: String,
}

/// Where the load goes, and whom to watch meanwhile.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Address of the broker
    #[arg(long, default_value = "127.0.0.1:9092")]
    pub bootstrap: String,
    /// Topic; it has to exist
    #[arg(long, default_value = "bench")]
    pub topic: String,
    /// Process whose CPU time, context switches and memory are told for the measured part of the run
    #[arg(long)]
    pub pid: Option<u32>,
    /// Ends the measured part after this many seconds, whatever is left to do
    #[arg(long, default_value_t = 60.0)]
    pub seconds: f64,
    /// Seconds before the measured part
    #[arg(long, default_value_t = 0.0)]
    pub warmup_seconds: f64,
    /// Touches this many MiB of memory and frees them right before the run, so that a virtual machine whose free pages have gone back
    /// to its host does not charge the first one who needs them
    #[arg(long, default_value_t = 0)]
    pub warm_memory_mib: usize,
    /// CPU that this program is bound to
    #[arg(long)]
    pub cpu: Option<usize>,
}

/// How Produce is spoken.
#[derive(Debug, Clone, Args)]
pub struct Dialect {
    /// Version of Produce; from 13 on it names topics by their ids, which not every broker knows
    #[arg(long, default_value_t = 13, value_parser = clap::value_parser!(i16).range(9..=13))]
    pub produce_version: i16,
}

/// Options of `produce`.
#[derive(Debug, Clone, Args)]
pub struct ProduceOptions {
    /// What all modes share.
    #[command(flatten)]
    pub common: Common,
    /// Connections
    #[arg(long, default_value_t = 1)]
    pub connections: usize,
    /// Requests that a connection has in flight at most (`max.in.flight.requests.per.connection`)
    #[arg(long, default_value_t = 5)]
    pub in_flight: usize,
    /// How Produce is spoken.
    #[command(flatten)]
    pub dialect: Dialect,
    /// Acknowledgements: 0, 1, or -1 for all
    #[arg(long, default_value_t = 1, allow_hyphen_values = true)]
    pub acks: i16,
    /// Size of a record's value in bytes
    #[arg(long, default_value_t = 1024)]
    pub record_bytes: usize,
    /// Records of a batch
    #[arg(long, default_value_t = 16)]
    pub batch_records: usize,
    /// Partitions that one request carries a batch for
    #[arg(long, default_value_t = 1)]
    pub batches_per_request: usize,
    /// Codec of the batches
    #[arg(long, value_enum, default_value_t = CodecName::None)]
    pub codec: CodecName,
    /// What the records are filled with
    #[arg(long, value_enum, default_value_t = Payload::Random)]
    pub payload: Payload,
    /// Requests of the measured part; without it only the seconds end the run
    #[arg(long)]
    pub requests: Option<u64>,
    /// Requests before the measured part
    #[arg(long, default_value_t = 0)]
    pub warmup_requests: u64,
    /// Open loop: requests per second of all connections together, on a fixed schedule
    #[arg(long)]
    pub rate: Option<f64>,
    /// Idempotent producers: one per connection, with sequence numbers
    #[arg(long)]
    pub idempotent: bool,

    /// Transactional producers: one per connection; this many requests make a transaction
    #[arg(long)]
    pub transaction_requests: Option<u64>,
}

/// Options of `fetch`.
#[derive(Debug, Clone, Args)]
pub struct FetchOptions {
    /// What all modes share.
    #[command(flatten)]
    pub common: Common,
    /// Consumers, each on its own connection; the n-th reads partition n modulo the number of partitions
    #[arg(long, default_value_t = 1)]
    pub consumers: usize,
    /// `fetch.max.bytes` and `max.partition.fetch.bytes`
    #[arg(long, default_value_t = 1 << 20)]
    pub max_bytes: i32,
    /// `fetch.min.bytes`
    #[arg(long, default_value_t = 1)]
    pub min_bytes: i32,
    /// `fetch.max.wait.ms`
    #[arg(long, default_value_t = 500)]
    pub max_wait_ms: i32,
    /// Bytes of records after which the run ends; without it, it ends when every consumer has met the end of its partition
    #[arg(long)]
    pub bytes: Option<u64>,
    /// Begin at the end of the partitions instead of their start, and wait for more
    #[arg(long)]
    pub tail: bool,
    /// Start over when the end of a partition is met, until the bytes or the seconds are used up
    #[arg(long)]
    pub again: bool,
}

/// Options of `end-to-end`.
#[derive(Debug, Clone, Args)]
pub struct EndToEndOptions {
    /// What all modes share.
    #[command(flatten)]
    pub common: Common,
    /// How Produce is spoken.
    #[command(flatten)]
    pub dialect: Dialect,
    /// Records per second
    #[arg(long, default_value_t = 1000.0)]
    pub rate: f64,
    /// Size of a record's value in bytes, at least 8
    #[arg(long, default_value_t = 100)]
    pub record_bytes: usize,
    /// Acknowledgements: 0, 1, or -1 for all
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    pub acks: i16,
    /// Requests in flight
    #[arg(long, default_value_t = 5)]
    pub in_flight: usize,
}

/// Names of the codecs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CodecName {
    /// Not compressed
    None,
    /// gzip
    Gzip,
    /// Snappy, in xerial framing
    Snappy,
    /// LZ4 frames
    Lz4,
    /// Zstandard
    Zstd,
}

impl CodecName {
    /// The protocol's codec.
    pub fn codec(self) -> Codec {
        match self {
            CodecName::None => Codec::None,
            CodecName::Gzip => Codec::Gzip,
            CodecName::Snappy => Codec::Snappy,
            CodecName::Lz4 => Codec::Lz4,
            CodecName::Zstd => Codec::Zstd,
        }
    }
}
