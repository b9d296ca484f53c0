//! `cargo xtask`: the chores of the house, one subcommand each. The one that matters first is `cargo xtask test`.

mod bench;
mod beside_kafka;
mod broker;
mod clients;
mod compaction;
mod compat;
mod crash;
mod docs;
mod eos;
mod exchange;
mod figures;
mod fixtures;
mod full_disk;
mod groups;
mod growth;
mod hostile;
mod kafka_log;
mod members;
mod nemesis;
mod players;
mod quotas;
mod schema;
mod sim;
mod small_disk;
mod steps;
mod telemetry;
mod test;
mod tidy;
mod voters;
mod wire;
mod workspace;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Chores of the house")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Everything: the fast tests, then real clients and crashes against the release build
    Test(test::Options),
    /// Suites of real clients, against Ottla or against Apache Kafka
    Clients(clients::Options),
    /// kill -9 under load, again and again; then check what was acknowledged
    Crash(crash::Options),
    /// Exactly-once loops of real clients while the broker is killed, again and again
    Eos(eos::Options),
    /// Kafka's command-line tools against Ottla, compared with what they print against Apache Kafka
    Compat(compat::Options),
    /// A thousand members of one group, a million offsets of ten thousand groups: how long, how much
    Groups(groups::Options),
    /// Groups of real clients that grow, shrink and restart, with their histories checked
    Members(members::Options),
    /// A cluster of real processes under real clients, while its nodes are killed, paused, cut off, and run out of disk
    Nemesis(nemesis::Options),
    /// A broker on a small file system that is filled: reads, deletion, restarts, and the producer when there is space again
    FullDisk(full_disk::Options),
    /// One node grows to three and five under load, is restarted, loses a node and a disk; then ten thousand partitions: docs/growth.md
    Growth(growth::Options),
    /// Frames that no client would send, while others are served
    Hostile(hostile::Options),
    /// A producer quota measured with Kafka's perf tool, and a client beside it that must not notice
    Quotas(quotas::Options),
    /// The Java producer tells its metrics, and our page shows them
    Telemetry(telemetry::Options),
    /// Controllers that are added, removed and moved with Kafka's tools
    Voters(voters::Options),
    /// Simulated crashes: one seed, or a sweep
    Sim(sim::Options),
    /// Ottla and Apache Kafka side by side: docs/benchmarks
    Bench(bench::Options),
    /// Brokers of Apache Kafka and of Ottla in one cluster, with a controller of either
    BesideKafka(beside_kafka::Options),
    /// The same log compacted by Ottla and by Apache Kafka: the same result, and what it cost
    Compaction(compaction::Options),
    /// The figures of docs/performance.md, measured anew
    Figures(figures::Options),
    /// Writes the generated pages of docs
    Docs,
    /// What a reviewer should not have to look for
    Tidy,
    /// Has Apache Kafka write files, and reads them with our storage
    Fixtures(fixtures::Options),
    /// A data directory goes from Apache Kafka to Ottla and back
    Exchange,
    /// Message schemas: bring in those of another release of Kafka
    #[command(subcommand)]
    Schema(schema::Verb),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().chore {
        Chore::Test(options) => test::run(options),
        Chore::Clients(options) => clients::run(options),
        Chore::Crash(options) => crash::run(options),
        Chore::Eos(options) => eos::run(options),
        Chore::Compat(options) => compat::run(options),
        Chore::Groups(options) => groups::run(options),
        Chore::Members(options) => members::run(options),
        Chore::Nemesis(options) => nemesis::run(options),
        Chore::FullDisk(options) => full_disk::run(options),
        Chore::Growth(options) => growth::run(options),
        Chore::Hostile(options) => hostile::run(options),
        Chore::Quotas(options) => quotas::run(&options),
        Chore::Telemetry(options) => telemetry::run(&options),
        Chore::Voters(options) => voters::run(&options),
        Chore::Sim(options) => sim::run(options),
        Chore::Bench(options) => bench::run(&options),
        Chore::BesideKafka(options) => beside_kafka::run(&options),
        Chore::Compaction(options) => compaction::run(options),
        Chore::Figures(options) => figures::run(options),
        Chore::Docs => docs::run(),
        Chore::Tidy => Ok(tidy::run()),
        Chore::Fixtures(options) => fixtures::run(options),
        Chore::Exchange => exchange::run(),
        Chore::Schema(verb) => schema::run(&verb).map_err(steps::Trouble::new).map(|report| {
            println!("{report}");
            true
        }),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
