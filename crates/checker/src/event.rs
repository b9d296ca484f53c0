//! One line of a client's log. `{"t":TIME,"client":NAME,"op":KIND,…}`, where TIME is `CLOCK_MONOTONIC` in nanoseconds at the end of the
//! deed and `begun` (where it matters) at its start.
//!
//! | op | further fields | meaning |
//! |---|---|---|
//! | `assigned`, `revoked`, `lost` | `group`, `partitions` `[[topic, partition]…]`, `generation`? | a callback; `revoked` when it begins |
//! | `killed` | | the process is gone: it owns nothing any more |
//! | `sending` | `topic`, `value`, `txn`? | about to send |
//! | `acked` | `topic`, `value`, `partition`, `offset` | acknowledged at that offset |
//! | `refused` | `topic`, `value` | certainly not written; an unknown outcome has no line |
//! | `ended` | `begun`, `txn`, `committed` (true, false, null) | a transaction's end; null: nobody knows |
//! | `polled` | `topic`, `partition`, `records` `[[offset, value]…]`, `isolation` (`committed`), `final`? | one poll; `final`: reads the whole log at the end |
//! | `sought` | `topic`, `partition` | the next poll may begin anywhere |
//! | `committed` | `begun`, `group`, `offsets` `[[topic, partition, offset]…]` | an acknowledged commit |
//! | `position` | `begun`, `group`, `offsets` | committed offsets, as the broker told them |

use serde_json::Value;
use std::fmt::{self, Display};

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    /// The topic's name.
    pub topic: String,
    /// Its number.
    pub number: i64,
}

impl Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.number)
    }
}

/// One thing that one client did or saw.
#[derive(Clone, Debug)]
pub struct Event {
    /// When it had ended, in nanoseconds of the shared clock.
    pub time: u64,
    /// When it began; the same as `time` where the start does not matter.
    pub begun: u64,
    /// Who: the identity of a member. A static member that comes back is the same client.
    pub client: String,
    /// What.
    pub deed: Deed,
}

/// The deeds. See the table of this module.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Deed {
    Assigned { group: String, partitions: Vec<Partition>, generation: Option<i64> },
    Revoked { group: String, partitions: Vec<Partition> },
    Lost { group: String, partitions: Vec<Partition> },
    Killed,
    Sending { topic: String, value: String, txn: Option<String> },
    Acked { partition: Partition, value: String, offset: i64 },
    Refused { topic: String, value: String },
    Ended { txn: String, committed: Option<bool> },
    Polled { partition: Partition, records: Vec<(i64, String)>, is_committed: bool, is_final: bool },
    Sought { partition: Partition },
    Committed { group: String, offsets: Vec<(Partition, i64)> },
    Position { group: String, offsets: Vec<(Partition, i64)> },
}

impl Deed {
    /// The word in the log.
    pub fn kind(&self) -> &'static str {
        match self {
            Deed::Assigned { .. } => "assigned",
            Deed::Revoked { .. } => "revoked",
            Deed::Lost { .. } => "lost",
            Deed::Killed => "killed",
            Deed::Sending { .. } => "sending",
            Deed::Acked { .. } => "acked",
            Deed::Refused { .. } => "refused",
            Deed::Ended { .. } => "ended",
            Deed::Polled { .. } => "polled",
            Deed::Sought { .. } => "sought",
            Deed::Committed { .. } => "committed",
            Deed::Position { .. } => "position",
        }
    }
}

impl Event {
    /// An event that has no duration.
    pub fn new(time: u64, client: &str, deed: Deed) -> Event {
        Event { time, begun: time, client: client.into(), deed }
    }

    /// Reads one line.
    pub fn parse(line: &str) -> Result<Event, String> {
        let value: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let fields = Fields(&value);
        let time = fields.time("t")?;
        let begun = if value["begun"].is_null() { time } else { fields.time("begun")? };
        let group = || fields.text("group");
        let deed = match value["op"].as_str().unwrap_or_default() {
            "assigned" => Deed::Assigned {
                group: group()?,
                partitions: fields.partitions()?,
                generation: value["generation"].as_i64(),
            },
            "revoked" => Deed::Revoked { group: group()?, partitions: fields.partitions()? },
            "lost" => Deed::Lost { group: group()?, partitions: fields.partitions()? },
            "killed" => Deed::Killed,
            "sending" => Deed::Sending {
                topic: fields.text("topic")?,
                value: fields.text("value")?,
                txn: value["txn"].as_str().map(String::from),
            },
            "acked" => Deed::Acked {
                partition: fields.partition()?,
                value: fields.text("value")?,
                offset: integer(&value["offset"], "offset")?,
            },
            "refused" => Deed::Refused { topic: fields.text("topic")?, value: fields.text("value")? },
            "ended" => Deed::Ended { txn: fields.text("txn")?, committed: value["committed"].as_bool() },
            "polled" => Deed::Polled {
                partition: fields.partition()?,
                records: fields.records()?,
                is_committed: value["isolation"].as_str() == Some("committed"),
                is_final: value["final"].as_bool() == Some(true),
            },
            "sought" => Deed::Sought { partition: fields.partition()? },
            "committed" => Deed::Committed { group: group()?, offsets: fields.offsets()? },
            "position" => Deed::Position { group: group()?, offsets: fields.offsets()? },
            other => return Err(format!("unknown op {other:?}")),
        };
        Ok(Event { time, begun, client: fields.text("client")?, deed })
    }
}

struct Fields<'a>(&'a Value);

impl Fields<'_> {
    fn time(&self, name: &str) -> Result<u64, String> {
        self.0[name].as_u64().ok_or_else(|| format!("no time {name}"))
    }

    fn text(&self, name: &str) -> Result<String, String> {
        self.0[name].as_str().map(String::from).ok_or_else(|| format!("no text {name}"))
    }

    fn list(&self, name: &str) -> Result<&Vec<Value>, String> {
        self.0[name].as_array().ok_or_else(|| format!("no list {name}"))
    }

    fn partition(&self) -> Result<Partition, String> {
        Ok(Partition { topic: self.text("topic")?, number: integer(&self.0["partition"], "partition")? })
    }

    fn partitions(&self) -> Result<Vec<Partition>, String> {
        self.list("partitions")?.iter().map(pair).collect()
    }

    fn offsets(&self) -> Result<Vec<(Partition, i64)>, String> {
        self.list("offsets")?.iter().map(|entry| Ok((pair(entry)?, integer(&entry[2], "offset")?))).collect()
    }

    fn records(&self) -> Result<Vec<(i64, String)>, String> {
        let one = |entry: &Value| {
            let value = entry[1].as_str().ok_or("a record without a value")?;
            Ok((integer(&entry[0], "offset")?, value.to_owned()))
        };
        self.list("records")?.iter().map(one).collect()
    }
}

fn pair(entry: &Value) -> Result<Partition, String> {
    let topic = entry[0].as_str().ok_or("a partition without a topic")?;
    Ok(Partition { topic: topic.into(), number: integer(&entry[1], "partition")? })
}

fn integer(value: &Value, what: &str) -> Result<i64, String> {
    value.as_i64().ok_or_else(|| format!("no number {what}"))
}
