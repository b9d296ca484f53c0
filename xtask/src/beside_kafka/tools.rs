//! Kafka's tools as an operator of the mixed cluster uses them, and what is to be read from what they print.

use crate::compat::driver::Driver;
use crate::compat::script::{self, Line};
use crate::steps::{Doing, Trouble, fresh_dir};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a change may take to be seen by a tool that asks again and again.
const PATIENCE: Duration = Duration::from_secs(30);

/// All tools, in one JVM.
pub struct Tools(Driver);

impl Tools {
    /// Starts the JVM.
    pub fn start(home: &Path, logs: &Path) -> Result<Tools, Trouble> {
        Ok(Tools(Driver::start(&fresh_dir(&home.join("files"))?, &logs.join("driver.log"))?))
    }

    /// Runs one command, in the words of `compat.script`, and returns what it printed. It has to succeed.
    pub fn ask(&mut self, line: &str, bootstrap: &str) -> Result<String, Trouble> {
        let parsed = script::parse(line).map_err(Trouble::new)?;
        let [Line::Tool(call)] = &parsed[..] else { return Err(Trouble::new(format!("no tool: {line}"))) };
        let output = self.0.run(call, bootstrap, Path::new(""))?;
        if output.status == 0 {
            return Ok(output.out);
        }
        Err(Trouble::new(format!("kafka-{line}: exit {}\n{}{}", output.status, output.out, output.err)))
    }

    /// Runs a command again and again until what it prints is as wanted.
    pub fn until(
        &mut self,
        line: &str,
        bootstrap: &str,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<String, Trouble> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.ask(line, bootstrap)?;
            if is_wanted(&text) {
                return Ok(text);
            }
            if Instant::now() > deadline {
                return Err(Trouble::new(format!("kafka-{line}: never as it should be, but\n{text}")));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Sends so many numbered lines to a topic; all have to be acknowledged.
    pub fn produce(&mut self, topic: &str, count: usize, bootstrap: &str) -> Result<(), Trouble> {
        let line = format!("verifiable-producer --topic {topic} --acks -1 --max-messages {count}");
        let text = self.ask(&line, bootstrap)?;
        let acknowledged = text.lines().filter(|line| line.contains("\"producer_send_success\"")).count();
        if acknowledged == count {
            return Ok(());
        }
        Err(Trouble::new(format!("{acknowledged} of {count} records to {topic} were acknowledged")))
    }

    /// Reads a topic from its beginning; it has to hold so many lines.
    pub fn consume(&mut self, topic: &str, count: usize, how: &str, bootstrap: &str) -> Result<(), Trouble> {
        let line = format!(
            "console-consumer --topic {topic} --from-beginning --max-messages {count} --timeout-ms 20000 {how}"
        );
        let found = self.ask(&line, bootstrap)?.lines().filter(|line| line.parse::<u64>().is_ok()).count();
        if found == count {
            return Ok(());
        }
        Err(Trouble::new(format!("{found} of {count} records of {topic} were read")))
    }

    /// The records of a metadata log by offset, as Kafka's schemas read them. Everything has to decode.
    pub fn dump_metadata(&mut self, files: &[PathBuf]) -> Result<BTreeMap<u64, String>, Trouble> {
        let list: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        let text =
            self.ask(&format!("dump-log --cluster-metadata-decoder --files {}", list.join(",")), "")?;
        let marks = ["isvalid: false", "invalid bytes", "Could not decode", "Error at", "Exception"];
        if let Some(line) = text.lines().find(|line| marks.iter().any(|mark| line.contains(mark))) {
            return Err(Trouble::new(format!("{}: {line}", list.join(","))));
        }
        let record = |line: &str| {
            let (offset, rest) = line.strip_prefix("| offset: ")?.split_once(' ')?;
            let (_, payload) = rest.split_once("payload: ")?;
            Some((offset.parse().ok()?, payload.to_owned()))
        };
        Ok(text.lines().filter_map(record).collect())
    }
}

/// Leaders by partition, in what kafka-topics --describe prints.
pub fn leaders(described: &str) -> Vec<(String, i32)> {
    let field = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!("{name}: "))?;
        Some(rest.split_whitespace().next()?.to_owned())
    };
    let leader = |line: &str| {
        let partition = format!("{}-{}", field(line, "Topic")?, field(line, "Partition")?);
        Some((partition, field(line, "Leader")?.parse().unwrap_or(-1)))
    };
    described.lines().filter_map(leader).collect()
}

/// The files of a folder whose names end so, by name.
pub fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, Trouble> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).doing(format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == extension) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::leaders;

    #[test]
    fn leaders_are_found_in_a_description() {
        let text = "Topic: a\tTopicId: x\tPartitionCount: 2\tReplicationFactor: 1\tConfigs: \n\
                    \tTopic: a\tPartition: 0\tLeader: 3\tReplicas: 3\tIsr: 3\tElr: \tLastKnownElr: \n\
                    \tTopic: a\tPartition: 1\tLeader: none\tReplicas: 2\tIsr: \tElr: \tLastKnownElr: \n";
        assert_eq!(leaders(text), [("a-0".to_owned(), 3), ("a-1".to_owned(), -1)]);
    }
}
