//! The scenarios, as data: what is done, how the processes are placed, and what it has to show. The runner knows none of them by name.
//!
//! Names follow the OpenMessaging Benchmark where one of its workloads fits (topics, partitions, record size, producers, consumers).

use super::figure::{self, Figure};

/// Which processors the broker and the load generator get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// The broker on CPU 1, the load on CPU 0: what a request costs.
    Apart,
    /// Both on all CPUs, as on a machine of one's own: throughput and latency.
    Together,
}

/// What an acknowledgement promises, in both brokers alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The page cache has it: Kafka's default; `ottla.durability=replicated`.
    PageCache,
    /// The disk has it: `flush.messages=1` in Kafka; `ottla.durability=flushed`.
    Flushed,
}

/// What is done.
#[derive(Debug, Clone, Copy)]
pub enum Work {
    /// `ottla-bench produce` with these arguments; rehearsed once on a topic of its own.
    Produce { partitions: u32, arguments: &'static str },
    /// `ottla-bench produce` fills a topic, `ottla-bench fetch` reads it.
    Fetch { partitions: u32, fill: &'static str, arguments: &'static str },
    /// The same while `produce` runs in the background, at a rate that both brokers manage.
    CatchUp { fill: &'static str, arguments: &'static str, produce: &'static str },
    /// `ottla-bench fetch` of what `produce` appends meanwhile.
    Tail { produce: &'static str, arguments: &'static str },
    /// `ottla-bench end-to-end`.
    EndToEnd { arguments: &'static str },
    /// Apache Kafka's own producer, with these properties.
    JavaProducer { records: u64, record_bytes: u32, properties: &'static str },
    /// A process of its own, started and stopped: times and resident memory.
    Lifecycle { connections: usize, partitions: u32 },
    /// A process of its own, killed with this many MiB in this many partitions.
    Recovery { mib: u64, partitions: u32 },
}

/// One figure of a scenario and what the ratio Ottla/Kafka of it has to be.
#[derive(Debug, Clone, Copy)]
pub struct Goal {
    pub figure: &'static Figure,
    /// At most this, or for figures where more is better at least this.
    pub ratio: f64,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    pub name: &'static str,
    pub what: &'static str,
    pub work: Work,
    pub placement: Placement,
    pub durability: Durability,
    pub goals: &'static [Goal],
    /// Part of the short grade.
    pub is_core: bool,
}

const fn goal(figure: &'static Figure, ratio: f64) -> Goal {
    Goal { figure, ratio }
}

const fn produce(
    name: &'static str,
    what: &'static str,
    partitions: u32,
    arguments: &'static str,
    goals: &'static [Goal],
) -> Scenario {
    let work = Work::Produce { partitions, arguments };
    Scenario {
        name,
        what,
        work,
        placement: Placement::Apart,
        durability: Durability::PageCache,
        goals,
        is_core: true,
    }
}

/// All of them, in the order in which they run.
pub const SCENARIOS: &[Scenario] = &[
    produce(
        "1-topic-1-partition-1kb-large-batches",
        "1 KiB records, batches of 960 KB, acks=1",
        1,
        "--batch-records 960 --requests 500 --warmup-requests 30",
        const { &[goal(&figure::CPU_PER_GB, 1.0 / 3.0)] },
    ),
    produce(
        "1-topic-1-partition-100b-large-batches",
        "100 B records, batches of 960 KB, acks=1",
        1,
        "--record-bytes 100 --batch-records 9000 --requests 500 --warmup-requests 30",
        const { &[goal(&figure::CPU_PER_GB, 1.0 / 3.0)] },
    ),
    produce(
        "1-topic-1-partition-1kb-16kb-batches",
        "1 KiB records, batches of 16 KB, acks=1",
        1,
        "--batch-records 16 --requests 30000 --warmup-requests 1000",
        const { &[goal(&figure::CPU_PER_GB, 1.0 / 5.0)] },
    ),
    produce(
        "1-topic-12-partitions-1kb-idempotent",
        "1 KiB records, 64 KB batches, acks=all, 12 idempotent producers",
        12,
        "--batch-records 64 --connections 12 --idempotent --acks -1 --requests 8000 --warmup-requests 400",
        &[],
    ),
    Scenario {
        is_core: false,
        ..produce(
            "1-topic-12-partitions-1kb-transactions",
            "1 KiB records, 16 KB batches, acks=all, 12 transactional producers, 50 requests in each transaction",
            12,
            "--batch-records 16 --connections 12 --transaction-requests 50 --acks -1 --requests 12000 --warmup-requests 1200",
            &[],
        )
    },
    produce(
        "1-topic-1-partition-1kb-lz4",
        "1 KiB records, batches of 64 records, lz4, acks=1",
        1,
        "--batch-records 64 --codec lz4 --payload text --requests 20000 --warmup-requests 1000",
        const { &[goal(&figure::CPU_PER_GB, 1.0 / 8.0)] },
    ),
    produce(
        "1-topic-1-partition-1kb-zstd",
        "1 KiB records, batches of 64 records, zstd, acks=1",
        1,
        "--batch-records 64 --codec zstd --payload text --requests 20000 --warmup-requests 1000",
        const { &[goal(&figure::CPU_PER_GB, 1.0 / 8.0)] },
    ),
    produce(
        "1-topic-100-partitions-100b-200p-linger-0",
        "200 producers, one record of 100 B per request, acks=1",
        100,
        "--record-bytes 100 --batch-records 1 --connections 200 --requests 300000 --warmup-requests 20000",
        const { &[goal(&figure::CPU_PER_REQUEST, 1.0 / 6.0)] },
    ),
    Scenario {
        name: "1-topic-1-partition-1kb-java-producer",
        what: "Apache Kafka's producer-perf-test on the same two cores: 1 KiB, 16 KB batches, linger 0, acks=1",
        work: Work::JavaProducer { records: 600_000, record_bytes: 1024, properties: "acks=1 linger.ms=0" },
        placement: Placement::Together,
        durability: Durability::PageCache,
        goals: &[goal(&figure::RECORDS_PER_S, 1.5)],
        is_core: true,
    },
    Scenario {
        name: "1-topic-12-partitions-1kb-half-load",
        what: "open loop, 1,500 batches of 16 KB per second over 12 partitions (24.6 MB/s), acks=all",
        work: Work::Produce {
            partitions: 12,
            arguments: "--batch-records 16 --connections 4 --acks -1 --rate 1500 --warmup-seconds 1 --seconds 8",
        },
        placement: Placement::Together,
        durability: Durability::PageCache,
        goals: &[goal(&figure::P99, 1.0 / 5.0), goal(&figure::P999, 1.0 / 10.0)],
        is_core: true,
    },
    Scenario {
        name: "1-topic-1-partition-100b-end-to-end-1k",
        what: "1,000 records of 100 B per second, each a request of its own, until a consumer has them",
        work: Work::EndToEnd { arguments: "--rate 1000 --warmup-seconds 1 --seconds 8" },
        placement: Placement::Together,
        durability: Durability::PageCache,
        goals: &[goal(&figure::P99, 1.0 / 4.0)],
        is_core: true,
    },
    Scenario {
        name: "1-topic-1-partition-1kb-1p-10c-tail",
        what: "10 consumers at the tail of 64 KB batches that arrive 300 times a second (19.7 MB/s in, 197 MB/s out)",
        work: Work::Tail {
            produce: "--batch-records 64 --rate 300 --seconds 7",
            arguments: "--tail --consumers 10 --warmup-seconds 0.5 --seconds 5",
        },
        placement: Placement::Apart,
        durability: Durability::PageCache,
        goals: &[goal(&figure::CPU_PER_GB, 1.0 / 3.0)],
        is_core: true,
    },
    Scenario {
        name: "1-topic-1-partition-1kb-warm-fetch",
        what: "fetches of 1 MB out of the page cache (48 MB, read over and over)",
        work: Work::Fetch {
            partitions: 1,
            fill: "--batch-records 64 --requests 740",
            arguments: "--again --bytes 2000000000 --warmup-seconds 0.2 --seconds 20",
        },
        placement: Placement::Apart,
        durability: Durability::PageCache,
        goals: &[goal(&figure::CPU_PER_GB, 1.0 / 3.0)],
        is_core: true,
    },
    Scenario {
        name: "1-topic-1-partition-1kb-1000-consumers",
        what: "1,000 consumers of one partition, each reading all of it (12 MB) in fetches of 256 KB",
        work: Work::Fetch {
            partitions: 1,
            fill: "--batch-records 16 --requests 740",
            arguments: "--consumers 1000 --max-bytes 262144 --again --bytes 3000000000 --warmup-seconds 0.5 --seconds 30",
        },
        placement: Placement::Apart,
        durability: Durability::PageCache,
        goals: &[],
        is_core: false,
    },
    Scenario {
        name: "1-topic-1-partition-1kb-catch-up",
        what: "a consumer reads 800 MB while 500 batches of 16 KB per second are produced, acks=all",
        work: Work::CatchUp {
            fill: "--batch-records 16 --requests 48000",
            arguments: "--seconds 60",
            produce: "--batch-records 16 --connections 2 --acks -1 --rate 500 --warmup-seconds 0.3 --seconds 3",
        },
        placement: Placement::Together,
        durability: Durability::PageCache,
        goals: &[goal(&figure::MB_PER_S, 1.5), goal(&figure::P99, 1.0 / 8.0)],
        is_core: true,
    },
    Scenario {
        name: "1-topic-1-partition-1kb-fsync",
        what: "every batch (1 KiB) on the disk before its acknowledgement, 1 partition, 8 producers",
        work: Work::Produce {
            partitions: 1,
            arguments: "--batch-records 1 --connections 8 --acks -1 --requests 3000 --warmup-requests 300 --seconds 15",
        },
        placement: Placement::Together,
        durability: Durability::Flushed,
        goals: &[goal(&figure::REQUESTS_PER_S, 3.0)],
        is_core: true,
    },
    Scenario {
        name: "1-topic-200-partitions-1kb-fsync",
        what: "every batch (1 KiB) on the disk before its acknowledgement, 200 partitions, 40 producers",
        work: Work::Produce {
            partitions: 200,
            arguments: "--batch-records 1 --connections 40 --acks -1 --requests 6000 --warmup-requests 1000 --seconds 15",
        },
        placement: Placement::Together,
        durability: Durability::Flushed,
        goals: &[goal(&figure::REQUESTS_PER_S, 10.0)],
        is_core: true,
    },
    Scenario {
        name: "start-stop-memory",
        what: "an empty data directory; default settings; 5,000 idle connections",
        work: Work::Lifecycle { connections: 5_000, partitions: 0 },
        placement: Placement::Together,
        durability: Durability::PageCache,
        goals: &[
            goal(&figure::START, 1.0 / 40.0),
            goal(&figure::STOP, 1.0 / 10.0),
            goal(&figure::RSS_IDLE, 1.0 / 30.0),
            goal(&figure::RSS_CONNECTIONS, 1.0 / 30.0),
        ],
        is_core: true,
    },
    Scenario {
        name: "memory-10000-connections",
        what: "an empty data directory; default settings; 10,000 idle connections",
        work: Work::Lifecycle { connections: 10_000, partitions: 0 },
        placement: Placement::Together,
        durability: Durability::PageCache,
        goals: &[goal(&figure::RSS_CONNECTIONS, 1.0 / 30.0)],
        is_core: false,
    },
    Scenario {
        name: "create-10000-partitions",
        what: "two topics with 5,000 partitions each, created until both have taken a record; memory when every partition has",
        work: Work::Lifecycle { connections: 0, partitions: 10_000 },
        placement: Placement::Together,
        durability: Durability::PageCache,
        goals: &[goal(&figure::CREATE, 1.0 / 20.0), goal(&figure::RSS_PARTITIONS, 1.0 / 30.0)],
        is_core: true,
    },
    Scenario {
        name: "recovery-2gb-1000-partitions",
        what: "kill -9 with 2 GB in 1,000 partitions; exec until the first acknowledged produce",
        work: Work::Recovery { mib: 2_000, partitions: 1_000 },
        placement: Placement::Together,
        durability: Durability::PageCache,
        goals: &[goal(&figure::START, 1.0 / 20.0)],
        is_core: false,
    },
    Scenario {
        name: "recovery-10gb-1000-partitions",
        what: "kill -9 with 10 GB in 1,000 partitions; exec until the first acknowledged produce",
        work: Work::Recovery { mib: 10_000, partitions: 1_000 },
        placement: Placement::Together,
        durability: Durability::PageCache,
        goals: &[goal(&figure::START, 1.0 / 20.0)],
        is_core: false,
    },
];
