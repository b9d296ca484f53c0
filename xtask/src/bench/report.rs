//! From pairs to pages: the tables of `README.md` between two marks, and the plots.
//!
//! They are made from the ledger alone, so results of several runs stand side by side, each with its own date and commit, and a run that
//! was cut short can be told of as well.

use super::figure::{self, Figure, Spread};
use super::ledger::Ledger;
use super::scenario::{Goal, SCENARIOS};
use super::{Outcome, plot};
use crate::broker::Kind;
use crate::steps::{Doing, Trouble};
use crate::workspace;
use serde_json::{Map, Value, json};
use std::fs;
use std::path::PathBuf;

const FOLDER: &str = "docs/benchmarks";
const BEGIN: &str = "<!-- results: begin -->";
const END: &str = "<!-- results: end -->";

/// Where the results stand.
pub fn folder(other: Kind) -> PathBuf {
    let folder = workspace::root().join(FOLDER);
    if other == Kind::Kafka { folder } else { folder.join(other.folder()) }
}

/// Makes the page and the plots of what the ledger says.
pub fn write(ledger: &Ledger) -> Result<(), Trouble> {
    ledger.prune()?;
    let all = summary(ledger)?;
    let folder = folder(ledger.other);
    // What the drawings show is the goals, and those are for Kafka.
    if ledger.other == Kind::Kafka {
        fs::write(folder.join("ratios.svg"), plot::ratios(&all))?;
        fs::write(folder.join("latency.svg"), plot::latencies(&all))?;
    }
    let page = folder.join("README.md");
    let text = fs::read_to_string(&page).doing(format!("reading {}", page.display()))?;
    let (Some(begin), Some(end)) = (text.find(BEGIN), text.find(END)) else {
        return Err(Trouble::new(format!("{}: the marks {BEGIN} and {END} are missing", page.display())));
    };
    let tables = tables(&all, ledger.other);
    fs::write(&page, format!("{}{BEGIN}\n{tables}{}", &text[..begin], &text[end..])).doing("writing the page")
}

/// What the ledger says about each scenario: medians, ratios, goals.
pub fn summary(ledger: &Ledger) -> Result<Map<String, Value>, Trouble> {
    let mut all = ledger.read()?;
    for (name, pairs) in &mut all {
        let found = SCENARIOS.iter().find(|scenario| scenario.name == name);
        let goals = found.filter(|_| ledger.other == Kind::Kafka).map_or(&[][..], |found| found.goals);
        *pairs = entry(pairs.as_array().map_or(&[][..], Vec::as_slice), goals, ledger.other.folder());
    }
    Ok(all)
}

/// One line about one scenario, as it ends.
pub fn line(outcome: &Outcome) -> String {
    let goals = outcome.scenario.goals.iter().map(|goal| {
        let ratio = ratio(outcome, goal.figure);
        let ratio = ratio.map_or("?".to_owned(), |ratio| format!("{:.3}", ratio.median));
        format!("{} {ratio} (goal {:.3})", goal.figure.name, goal.ratio)
    });
    let goals: Vec<String> = goals.collect();
    format!("{:<46} {}", outcome.scenario.name, goals.join(", "))
}

fn ratio(outcome: &Outcome, figure: &Figure) -> Option<Spread> {
    Spread::of(
        outcome.pairs.iter().filter_map(|(ottla, other)| Some(ottla.get(figure)? / other.get(figure)?)),
    )
}

fn entry(pairs: &[Value], goals: &[Goal], other: &'static str) -> Value {
    let mut figures = Map::new();
    for figure in figure::ALL {
        let values = |value: &dyn Fn(&Value) -> Option<f64>| Spread::of(pairs.iter().filter_map(value));
        let of = |side: &'static str| move |pair: &Value| pair[side][figure.key].as_f64();
        let ratio = |pair: &Value| Some(of("ottla")(pair)? / of(other)(pair)?);
        let (Some(ottla), Some(theirs), Some(ratio)) =
            (values(&of("ottla")), values(&of(other)), values(&ratio))
        else {
            continue;
        };
        let ratio = json!({ "median": ratio.median, "min": ratio.min, "max": ratio.max });
        let mut entry = json!({ "ottla": ottla.median, other: theirs.median, "ratio": ratio });
        if let Some(goal) = goals.iter().find(|goal| goal.figure == figure) {
            entry["goal"] = json!(goal.ratio);
        }
        figures.insert(figure.key.to_owned(), entry);
    }
    let last = pairs.last().cloned().unwrap_or_default();
    json!({ "what": last["what"], "machine": last["machine"], "figures": figures, "pairs": pairs.len() })
}

/// Goals, if there are any, and everything else.
fn tables(all: &Map<String, Value>, other: Kind) -> String {
    let name = other.name();
    let mut text = format!(
        "Ratio is Ottla divided by {name}, the median of the pairs (smallest to largest). A ratio in bold meets its goal.\n\n"
    );
    if other == Kind::Kafka {
        text.push_str(&format!(
            "### Goals\n\n| work | figure | Ottla | {name} | ratio | goal |\n|---|---|---|---|---|---|\n"
        ));
    }
    for (what, figure, entry) in rows(all) {
        let Some(goal) = entry["goal"].as_f64() else { continue };
        let met = is_met(figure, entry, goal);
        let sign = if figure.more_is_better { "≥" } else { "≤" };
        let goal = if figure.more_is_better { format!("{goal:.1}") } else { format!("1/{:.0}", 1.0 / goal) };
        text.push_str(&format!("{} {sign} {goal} |\n", row(what, figure, entry, other, met)));
    }
    text.push_str(&format!(
        "\n### Everything that was measured\n\n| work | figure | Ottla | {name} | ratio |\n|---|---|---|---|---|\n"
    ));
    for (what, figure, entry) in rows(all) {
        text.push_str(&format!("{}\n", row(what, figure, entry, other, false)));
    }
    text.push_str("\n### When and where\n\n");
    text.push_str(&machines(all, other));
    text
}

/// Whether the median of the ratios meets the goal.
pub fn is_met(figure: &Figure, entry: &Value, goal: f64) -> bool {
    let ratio = entry["ratio"]["median"].as_f64().unwrap_or(f64::NAN);
    if figure.more_is_better { ratio >= goal } else { ratio <= goal }
}

fn row(what: &str, figure: &Figure, entry: &Value, other: Kind, bold: bool) -> String {
    let value = |side: &str| number(entry[side].as_f64().unwrap_or(f64::NAN));
    let part = |name: &str| number(entry["ratio"][name].as_f64().unwrap_or(f64::NAN));
    let mark = if bold { "**" } else { "" };
    let unit = if figure.unit.is_empty() { String::new() } else { format!(" {}", figure.unit) };
    format!(
        "| {what} | {} | {}{unit} | {}{unit} | {mark}{}{mark} ({}–{}) |",
        figure.name,
        value("ottla"),
        value(other.folder()),
        part("median"),
        part("min"),
        part("max"),
    )
}

/// Three digits that matter.
fn number(value: f64) -> String {
    let digits = if value == 0.0 { 0 } else { (2 - value.abs().log10().floor() as i32).clamp(0, 4) as usize };
    format!("{value:.digits$}")
}

/// Every scenario's figures, in the order of the scenarios and of the figures.
pub fn rows(all: &Map<String, Value>) -> Vec<(&str, &'static Figure, &Value)> {
    let mut rows = Vec::new();
    for scenario in SCENARIOS {
        let Some(entry) = all.get(scenario.name) else { continue };
        let what = entry["what"].as_str().unwrap_or(scenario.what);
        for figure in figure::ALL {
            if let Some(found) = entry["figures"].get(figure.key) {
                rows.push((what, figure, found));
            }
        }
    }
    rows
}

fn machines(all: &Map<String, Value>, other: Kind) -> String {
    let mut text = format!(
        "| scenario | pairs | date | Ottla | {} | machine | load at the end |\n|---|---|---|---|---|---|---|\n",
        other.name()
    );
    for scenario in SCENARIOS {
        let Some(entry) = all.get(scenario.name) else { continue };
        let of = |key: &str| entry["machine"][key].as_str().unwrap_or_default().to_owned();
        text.push_str(&format!(
            "| `{}` | {} | {} | {} | {} {} | {} CPUs, {}, {} GiB, Linux {} | {} |\n",
            scenario.name,
            entry["pairs"],
            of("date"),
            of("ottla"),
            of(other.folder()),
            of("runtime"),
            entry["machine"]["cpus"],
            of("processor"),
            entry["machine"]["memory_gib"],
            of("kernel"),
            of("load"),
        ));
    }
    text
}

/// Goals of all scenarios with the figures that were measured for them.
pub fn goals(all: &Map<String, Value>) -> Vec<(&'static str, &'static Goal, &Value)> {
    let mut goals = Vec::new();
    for scenario in SCENARIOS {
        for goal in scenario.goals {
            if let Some(found) =
                all.get(scenario.name).and_then(|entry| entry["figures"].get(goal.figure.key))
            {
                goals.push((scenario.name, goal, found));
            }
        }
    }
    goals
}
