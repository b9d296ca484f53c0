//! The producer: a thread that writes numbered records with acks=all, and remembers at which offset each was acknowledged.

use super::client::{Client, VALUE_BYTES};
use ottla_protocol::ErrorCode;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Partitions of its topic.
pub const PARTITIONS: i32 = 2;
const TOPIC: &str = "journal";
/// Pause before what was refused is tried again.
const RETRY: Duration = Duration::from_millis(20);

/// What the thread knows.
#[derive(Default)]
struct Ledger {
    /// Partition and offset at which a number was acknowledged.
    acked: BTreeMap<u64, (i32, i64)>,
    /// Why the newest attempt was refused.
    refusal: Option<ErrorCode>,
    /// Why it gave up.
    broken: Option<String>,
}

/// The producer and its memory.
pub struct Journal {
    address: String,
    ledger: Arc<Mutex<Ledger>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Journal {
    pub fn new(address: &str) -> Journal {
        Journal { address: address.into(), ledger: Arc::default(), is_over: Arc::default(), thread: None }
    }

    pub fn start(&mut self) {
        let (address, ledger, is_over) = (self.address.clone(), self.ledger.clone(), self.is_over.clone());
        self.thread = Some(std::thread::spawn(move || write(&address, &ledger, &is_over)));
    }

    /// Lets it end.
    pub fn stop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    }

    /// How many batches were acknowledged.
    pub fn acked(&self) -> usize {
        lock(&self.ledger).acked.len()
    }

    /// Why the newest attempt was refused, if it was.
    pub fn refusal(&self) -> Option<ErrorCode> {
        lock(&self.ledger).refusal
    }

    /// Whether it met what no client would try again.
    pub fn check(&self) -> Result<(), String> {
        lock(&self.ledger).broken.clone().map_or(Ok(()), Err)
    }

    /// Reads everything: what was acknowledged before is where it was acknowledged.
    pub fn compare(&self, client: &mut Client) -> Result<String, String> {
        let mut left = lock(&self.ledger).acked.clone();
        let (acked, mut read) = (left.len(), 0);
        for partition in 0..PARTITIONS {
            client.read_all(TOPIC, partition, |offset, found| {
                read += 1;
                let number = found.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
                match number.filter(|number| found == value(*number)) {
                    None => Err(format!("the record at offset {offset} of partition {partition} is damaged")),
                    Some(number) => {
                        if left.get(&number) == Some(&(partition, offset)) {
                            left.remove(&number);
                        }
                        Ok(())
                    }
                }
            })?;
        }
        match left.first_key_value() {
            None => Ok(format!("{acked} acknowledged batches are there, of {read}")),
            Some((number, (partition, offset))) => Err(format!(
                "{} batches are lost, such as {number}, acknowledged at offset {offset} of partition {partition}",
                left.len()
            )),
        }
    }
}

fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write(address: &str, ledger: &Mutex<Ledger>, is_over: &AtomicBool) {
    let mut number = 0_u64;
    let mut client = None;
    while !is_over.load(Ordering::Relaxed) {
        // The node may be away, or may be killed before it answers: nobody knows whether that batch is in the log.
        let Ok(connected) = client.take().map_or_else(|| Client::open(address), Ok) else {
            std::thread::sleep(RETRY);
            continue;
        };
        let connected = client.insert(connected);
        let partition = (number % PARTITIONS as u64) as i32;
        let Ok((error, offset)) = connected.produce(TOPIC, partition, &value(number)) else {
            client = None;
            continue;
        };
        let mut ledger = lock(ledger);
        match error {
            ErrorCode::None => {
                ledger.refusal = None;
                ledger.acked.insert(number, (partition, offset));
                number += 1;
            }
            // What the clients of Kafka try again.
            ErrorCode::KafkaStorageError
            | ErrorCode::NotLeaderOrFollower
            | ErrorCode::RequestTimedOut
            | ErrorCode::UnknownTopicOrPartition => {
                ledger.refusal = Some(error);
                drop(ledger);
                std::thread::sleep(RETRY);
            }
            other => {
                ledger.broken = Some(format!("the producer is refused with {}", other.name()));
                return;
            }
        }
    }
}

/// A record: its number, and bytes that follow from it.
fn value(number: u64) -> Vec<u8> {
    let mut value = number.to_be_bytes().to_vec();
    value.extend((0..VALUE_BYTES as u64 - 8).map(|at| (number.wrapping_mul(31) ^ at) as u8));
    value
}
