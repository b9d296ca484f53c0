//! The script: one command per line, as an operator would type it, without `--bootstrap-server`.
//!
//! ```text
//! # a comment; `## Topics` begins a section of the matrix
//! topics --create --topic a --partitions 2
//! ~/PartitionCount: 4/ topics --describe --topic a      asked again until the output says so: changes take a moment
//! = topics --list                                       lines in no particular order
//! ^ features describe                                    numbers of two digits and more say nothing
//! console-producer --topic a <<< 'one\ntwo\n'           standard input
//! delete-records --offset-json-file @{"version":1}      a file with that text
//! % member g topic                                      a deed of the harness
//! ```

use std::fmt::{self, Display};

/// Tools by the name of their script in Kafka's `bin` (without `kafka-` and `.sh`): main class, and where the address goes.
const TOOLS: &[(&str, &str, Address)] = &[
    ("topics", "org.apache.kafka.tools.TopicCommand", Address::Last),
    ("configs", "kafka.admin.ConfigCommand", Address::Last),
    ("consumer-groups", "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", Address::Last),
    ("share-groups", "org.apache.kafka.tools.consumer.group.ShareGroupCommand", Address::Last),
    ("streams-groups", "org.apache.kafka.tools.streams.StreamsGroupCommand", Address::Last),
    ("groups", "org.apache.kafka.tools.GroupsCommand", Address::Last),
    ("log-dirs", "org.apache.kafka.tools.LogDirsCommand", Address::Last),
    ("get-offsets", "org.apache.kafka.tools.GetOffsetShell", Address::Last),
    ("delete-records", "org.apache.kafka.tools.DeleteRecordsCommand", Address::Last),
    ("reassign-partitions", "org.apache.kafka.tools.reassign.ReassignPartitionsCommand", Address::Last),
    ("leader-election", "org.apache.kafka.tools.LeaderElectionCommand", Address::Last),
    ("features", "org.apache.kafka.tools.FeatureCommand", Address::First),
    ("metadata-quorum", "org.apache.kafka.tools.MetadataQuorumCommand", Address::First),
    ("cluster", "org.apache.kafka.tools.ClusterTool", Address::Last),
    ("client-metrics", "org.apache.kafka.tools.ClientMetricsCommand", Address::Last),
    ("console-producer", "org.apache.kafka.tools.ConsoleProducer", Address::Last),
    ("console-consumer", "org.apache.kafka.tools.consumer.ConsoleConsumer", Address::Last),
    ("verifiable-producer", "org.apache.kafka.tools.VerifiableProducer", Address::Last),
    ("verifiable-consumer", "org.apache.kafka.tools.VerifiableConsumer", Address::Last),
    ("dump-log", "org.apache.kafka.tools.DumpLogSegments", Address::None),
    ("acls", "org.apache.kafka.tools.AclCommand", Address::Last),
    ("transactions", "org.apache.kafka.tools.TransactionsCommand", Address::First),
    ("delegation-tokens", "org.apache.kafka.tools.DelegationTokenCommand", Address::Last),
    ("described", "Described", Address::Last),
    ("broker-api-versions", "org.apache.kafka.tools.BrokerApiVersionsCommand", Address::Last),
];

/// Where a tool wants `--bootstrap-server`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Address {
    First,
    Last,
    None,
}

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    Section(String),
    Tool(Call),
    /// Something that the harness does.
    Deed(Vec<String>),
}

/// A call of a tool.
#[derive(Debug, PartialEq, Eq)]
pub struct Call {
    /// The line without its marks: its name in the expected outputs and in the matrix.
    pub text: String,
    pub tool: String,
    pub class: &'static str,
    pub address: Address,
    pub arguments: Vec<String>,
    pub input: String,
    /// Asked again until the output contains this.
    pub until: Option<String>,
    /// Its lines come in no particular order.
    pub is_unordered: bool,
    /// Its larger numbers (offsets of internal logs, sizes, durations) are different in every run.
    pub is_numberless: bool,
}

impl Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Reads the whole script.
pub fn parse(text: &str) -> Result<Vec<Line>, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines = lines.filter(|line| !line.starts_with('#') || line.starts_with("##"));
    lines.map(|line| parse_line(line).map_err(|error| format!("{error}: {line}"))).collect()
}

fn parse_line(line: &str) -> Result<Line, String> {
    if let Some(section) = line.strip_prefix("##") {
        return Ok(Line::Section(section.trim().into()));
    }
    if let Some(deed) = line.strip_prefix('%') {
        return Ok(Line::Deed(words(deed)?));
    }
    let (mut rest, mut until, mut is_unordered, mut is_numberless) = (line, None, false, false);
    if let Some(numberless) = rest.strip_prefix("^ ") {
        (rest, is_numberless) = (numberless.trim(), true);
    }
    if let Some(unordered) = rest.strip_prefix("= ") {
        (rest, is_unordered) = (unordered.trim(), true);
    }
    if let Some(marked) = rest.strip_prefix("~/") {
        let (pattern, call) = marked.split_once("/ ").ok_or("no end of the pattern")?;
        (rest, until) = (call.trim(), Some(pattern.to_owned()));
    }
    let (call, input) = match rest.split_once(" <<< ") {
        Some((call, input)) => (call, words(input)?.concat().replace("\\n", "\n").replace("\\t", "\t")),
        None => (rest, String::new()),
    };
    let mut arguments = words(call)?;
    let tool = arguments.remove(0);
    let (_, class, address) =
        TOOLS.iter().find(|(name, _, _)| *name == tool).ok_or_else(|| format!("no tool {tool}"))?;
    Ok(Line::Tool(Call {
        text: rest.into(),
        tool,
        class,
        address: *address,
        arguments,
        input,
        until,
        is_unordered,
        is_numberless,
    }))
}

/// Words, as a shell sees them: single quotes hold a word together. A word that begins with `@{` goes to the matching brace.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let (mut is_quoted, mut depth) = (false, 0usize);
    for letter in text.chars() {
        match letter {
            '\'' if depth == 0 => {
                is_quoted = !is_quoted;
                word.get_or_insert_default();
            }
            ' ' if !is_quoted && depth == 0 => words.extend(word.take()),
            _ => {
                let word = word.get_or_insert_default();
                word.push(letter);
                if word.starts_with("@{") {
                    depth = depth + usize::from(letter == '{') - usize::from(letter == '}');
                }
            }
        }
    }
    words.extend(word);
    if is_quoted || depth > 0 { Err("an open quote or brace".into()) } else { Ok(words) }
}

#[cfg(test)]
mod tests {
    use super::{Line, parse, words};

    #[test]
    fn words_keep_quotes_and_braces_together() {
        let found = words("a 'b c' @{\"x\": [{\"y\": 1}]} d''").unwrap_or_default();
        assert_eq!(found, ["a", "b c", "@{\"x\": [{\"y\": 1}]}", "d"]);
        assert!(words("'a").is_err());
    }

    #[test]
    fn marks_are_taken_off_a_line() {
        let lines = parse("# no\n## Topics\n= ~/a b/ topics --list <<< 'x\\ny'\n% kill").unwrap_or_default();
        let [Line::Section(section), Line::Tool(call), Line::Deed(deed)] = &lines[..] else {
            panic!("{lines:?}")
        };
        assert_eq!((section.as_str(), deed.as_slice()), ("Topics", ["kill".to_owned()].as_slice()));
        assert_eq!((call.until.as_deref(), call.is_unordered), (Some("a b"), true));
        assert_eq!((call.tool.as_str(), call.input.as_str()), ("topics", "x\ny"));
        assert_eq!(call.text, "topics --list <<< 'x\\ny'");
    }

    #[test]
    fn every_line_of_the_script_is_understood() {
        let lines = parse(include_str!("../../../tests/clients/tools/compat.script"));
        let lines = lines.unwrap_or_else(|error| panic!("{error}"));
        let calls = lines.iter().filter(|line| matches!(line, Line::Tool(_))).count();
        assert!(calls >= 150, "{calls} commands");
    }
}
