//! Verdicts on commands, and the page that shows them.

use super::described::{self, Excuse};
use super::script::Call;
use std::collections::BTreeMap;

/// How Ottla's output compares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Identical,
    /// The same error, which Ottla explains in its own words.
    Words,
    Differs,
    /// The tool says that the broker does not have what it needs.
    NotServed,
    /// Nothing is recorded of Apache Kafka.
    Unknown,
}

impl Verdict {
    /// As the page says it.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Identical => "identical",
            Verdict::Words => "other words",
            Verdict::Differs => "differs",
            Verdict::NotServed => "not served yet",
            Verdict::Unknown => "not recorded",
        }
    }
}

/// One command and what became of it.
pub struct Row {
    pub section: String,
    pub text: String,
    pub tool: String,
    pub verdict: Verdict,
    pub reason: Option<String>,
    wanted: String,
    found: String,
}

impl Row {
    /// Compares.
    pub fn new(
        section: &str,
        call: &Call,
        wanted: Option<String>,
        found: String,
        reason: Option<String>,
    ) -> Row {
        let verdict = match &wanted {
            None => Verdict::Unknown,
            Some(wanted) if *wanted == found => Verdict::Identical,
            Some(wanted) if is_same_error(wanted, &found) => Verdict::Words,
            Some(_) if found.contains("UnsupportedVersionException") || found.contains("not support") => {
                Verdict::NotServed
            }
            Some(_) => Verdict::Differs,
        };
        Row {
            section: section.into(),
            text: call.text.clone(),
            tool: call.tool.clone(),
            verdict,
            reason,
            wanted: wanted.unwrap_or_default(),
            found,
        }
    }

    /// Whether this is the same command elsewhere in the script, with another output than Kafka's.
    pub fn differs_like(&self, other: &Row) -> bool {
        self.text == other.text && self.verdict != Verdict::Identical
    }

    /// Whoever reads the matrix wants to know why.
    pub fn needs_reason(&self) -> bool {
        self.verdict != Verdict::Identical
    }

    /// The lines that only one side has.
    pub fn difference(&self) -> String {
        let only = |text: &str, other: &str, mark: &str| {
            let other: Vec<&str> = other.lines().collect();
            let lines = text.lines().filter(|line| !other.contains(line)).take(LINES_MAX);
            lines.map(|line| format!("      {mark} {line}\n")).collect::<String>()
        };
        let lines = only(&self.wanted, &self.found, "kafka") + &only(&self.found, &self.wanted, "ottla");
        if lines.is_empty() { "      the order of lines".into() } else { lines.trim_end().into() }
    }
}

/// Do both fail alike: the same lines up to the explanation that the broker sends with an error code?
fn is_same_error(wanted: &str, found: &str) -> bool {
    let explained = |line: &str| {
        let at = ["Exception: ", " command : "]
            .iter()
            .filter_map(|mark| Some(line.find(mark)? + mark.len()))
            .max();
        at.map(|at| line[..at].to_owned())
    };
    wanted.lines().count() == found.lines().count()
        && wanted.lines().zip(found.lines()).all(|(wanted, found)| {
            wanted == found || (explained(wanted).is_some() && explained(wanted) == explained(found))
        })
}

/// How many lines of a difference are shown for each side.
const LINES_MAX: usize = 12;

/// The page.
pub fn page(rows: &[Row], excuses: &[Excuse]) -> String {
    let mut counts: BTreeMap<&str, [usize; 4]> = BTreeMap::new();
    for row in rows {
        let count = counts.entry(&row.tool).or_default();
        count[match row.verdict {
            Verdict::Identical => 0,
            Verdict::Words => 1,
            Verdict::Differs | Verdict::Unknown => 2,
            Verdict::NotServed => 3,
        }] += 1;
    }
    let total = |at: usize| counts.values().map(|count| count[at]).sum::<usize>();
    let mut page = format!(
        "# Kafka's command-line tools against Ottla\n\n\
         Written by `cargo xtask compat --write`: {} commands (`tests/clients/tools/compat.script`), each run by Apache Kafka's own tool\n\
         against Ottla, and compared with what it printed against Apache Kafka 4.4, with ids, times, ports and paths replaced by names,\n\
         and without the frames of stack traces and the keys that only Ottla has (`ottla.*`).\n\
         **{} are identical**, {} fail with the same error in other words, {} differ, {} need something that is not served yet.\n\n\
         | tool | identical | other words | differs | not served yet |\n|---|---|---|---|---|\n",
        rows.len(),
        total(0),
        total(1),
        total(2),
        total(3),
    );
    for (tool, [identical, words, differs, unserved]) in &counts {
        let name = match *tool {
            described::TOOL => "every attribute of every configuration key, by the Admin client".to_owned(),
            tool => format!("`kafka-{tool}`"),
        };
        page.push_str(&format!("| {name} | {identical} | {words} | {differs} | {unserved} |\n"));
    }
    page.push_str("\n## What is not identical\n\n| command | | why |\n|---|---|---|\n");
    let mut last = "";
    for row in rows.iter().filter(|row| row.needs_reason()) {
        if row.section != last {
            page.push_str(&format!("| **{}** | | |\n", row.section));
            last = &row.section;
        }
        let reason = row.reason.as_deref().unwrap_or("not explained");
        let text = row.text.replace('|', "\\|");
        page.push_str(&format!("| `{text}` | {} | {reason} |\n", row.verdict.word()));
    }
    page.push_str(
        "\n## Configuration keys\n\n\
         All keys of brokers, topics and groups are compared by name, type, default, secrecy and need of a restart. Keys that begin with\n\
         `ottla.` are Ottla's own. ",
    );
    if excuses.is_empty() {
        page.push_str("No other differs.\n");
        return page;
    }
    page.push_str("These differ:\n\n| key | why |\n|---|---|\n");
    for excuse in excuses {
        page.push_str(&format!("| `{}` | {} |\n", excuse.key.replace("described ", ""), excuse.reason));
    }
    page
}
