//! The ledger of measurements: `pairs.jsonl`, one line for every pair, written the moment the pair has ended.
//!
//! The tricky idea: it is only ever appended to, so a run that is cut short has lost nothing but the pair it was at. A line names its run
//! (the time when that began); for each scenario the newest run that got as far as a pair is the one that counts, and older lines are
//! dropped when the page is made.

use super::figure::Figures;
use super::scenario::Scenario;
use crate::broker::Kind;
use crate::steps::{Doing, Trouble};
use serde_json::{Map, Value, json};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

const NAME: &str = "pairs.jsonl";

/// The file, and the run that writes to it.
pub struct Ledger {
    path: PathBuf,
    /// Whom Ottla is measured beside.
    pub other: Kind,
    run: u64,
}

impl Ledger {
    /// The ledger in `folder`, for a run that began at `run` (seconds since 1970).
    pub fn new(folder: &Path, other: Kind, run: u64) -> Ledger {
        Ledger { path: folder.join(NAME), other, run }
    }

    /// A pair has ended.
    pub fn append(
        &self,
        scenario: &Scenario,
        (ottla, other): &(Figures, Figures),
        machine: &Value,
    ) -> Result<(), Trouble> {
        let line = json!({
            "scenario": scenario.name,
            "run": self.run,
            "what": scenario.what,
            "work": format!("{:?}", scenario.work),
            "placement": format!("{:?}", scenario.placement),
            "durability": format!("{:?}", scenario.durability),
            "machine": machine,
            "ottla": ottla.json(),
            self.other.folder(): other.json(),
        });
        let doing = || format!("writing {}", self.path.display());
        let file = fs::OpenOptions::new().create(true).append(true).open(&self.path);
        let mut file = file.doing(doing())?;
        file.write_all(format!("{line}\n").as_bytes()).doing(doing())
    }

    /// The pairs that count, by scenario, in the order in which they were measured. Nothing if nothing was.
    pub fn read(&self) -> Result<Map<String, Value>, Trouble> {
        match fs::read_to_string(&self.path) {
            Ok(text) => Ok(newest(&text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Map::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// Drops what does not count any more.
    pub fn prune(&self) -> Result<(), Trouble> {
        let lines: Vec<String> = self
            .read()?
            .values()
            .flat_map(|pairs| pairs.as_array())
            .flatten()
            .map(Value::to_string)
            .collect();
        fs::write(&self.path, lines.join("\n") + "\n").doing(format!("writing {}", self.path.display()))
    }
}

/// The lines of each scenario's newest run. A line that was being written when the machine stopped is no line.
fn newest(text: &str) -> Map<String, Value> {
    let mut all: Map<String, Value> = Map::new();
    for line in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let Some(name) = line["scenario"].as_str().map(str::to_owned) else { continue };
        let pairs = all.entry(name).or_insert_with(|| json!([]));
        let Value::Array(pairs) = pairs else { unreachable!("only arrays are inserted") };
        let run_of = |line: &Value| line["run"].as_u64();
        let newer = pairs.first().is_some_and(|first| run_of(first) < run_of(&line));
        let older = pairs.first().is_some_and(|first| run_of(first) > run_of(&line));
        if newer {
            pairs.clear();
        }
        if !older {
            pairs.push(line);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_run_of_each_scenario_counts() {
        let line = |scenario: &str, run: u64, value: u64| {
            json!({ "scenario": scenario, "run": run, "ottla": { "x": value } }).to_string()
        };
        let text = [line("a", 1, 1), line("b", 1, 2), line("a", 2, 3), line("a", 2, 4), line("b", 1, 5)];
        let all = newest(&(text.join("\n") + "\n{\"scenario\":\"a\",\"run\":9,\"ott"));
        let values = |name: &str| -> Vec<u64> {
            all[name]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|pair| pair["ottla"]["x"].as_u64())
                .collect()
        };
        assert_eq!((values("a"), values("b")), (vec![3, 4], vec![2, 5]));
    }
}
